"""The published code's numbers, reproduced by the modules under convention="code".

Reads `../shared/golden/rlsv`; its README says where the arrays come from and how exact they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.nn import (
    ConvEncoder,
    Discriminator,
    ModulatedCosineDecoder,
    NegSNRLoss,
    RepresentationModel,
    SinkhornLoss,
    TotalVariationLoss,
    frame_count,
    load_original_state,
    mel_frequencies,
    padding,
)
from rlsv_fast.nn.initial import uniform_kernels

Golden = dict[str, Tensor]

C, L, S, N = 16, 64, 16, 512


@pytest.fixture
def golden(shared: Path) -> Callable[[str], Golden]:
    """Reads one file of golden arrays as tensors."""

    def read(name: str) -> Golden:
        with np.load(shared / "golden" / "rlsv" / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}

    return read


def near(actual: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """Largest deviation relative to the largest expected magnitude."""
    assert actual.shape == expected.shape, what
    error = (actual.detach().double() - expected.double()).abs().max()
    assert error <= tolerance * expected.double().abs().max(), f"{what}: {error}"


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


# ---------------------------------------------------------------- 01: initial state


def test_01_mel_grids(golden: Callable[[str], Golden]) -> None:
    arrays = golden("01_init")
    for count in (16, 400, 800, 952, 1600):
        near(mel_frequencies(count), arrays[f"freq_init_C{count}"], 1e-6, str(count))


def test_01_initial_state_from_the_same_seed(golden: Callable[[str], Golden]) -> None:
    arrays = golden("01_init")
    torch.manual_seed(int(arrays["seed"]))
    nn.Conv1d(1, C, L, bias=False), nn.Conv1d(C, C, 5, bias=False)  # drawn there, then replaced
    encoder = ConvEncoder(C, L, S, convention="code")
    decoder = ModulatedCosineDecoder(C, L, S, convention="code")
    near(encoder.kernels, arrays["conv_a1"][:, 0], 1e-7)
    near(encoder.context, arrays["conv_a2"], 1e-7)
    near(decoder.frequency, arrays["freq_mat"].flatten(), 1e-6)
    near(decoder.phase, arrays["phi"].flatten(), 1e-7)
    near(decoder.modulator, arrays["norm_factor"][:, 0], 1e-7)
    time_table = 2 * torch.pi * torch.arange(L).expand(C, 1, L)
    near(time_table, arrays["f_matrix"], 1e-7)  # needs no parameter here
    torch.manual_seed(218)
    kernels = uniform_kernels(800, 2048, convention="code")
    near(kernels.flatten()[:16], arrays["kaiming_u_800x1x2048_seed218_first16"], 1e-7)


def test_01_padding_table(golden: Callable[[str], Golden]) -> None:
    arrays = golden("01_init")
    assert padding(N, L, S) == (int(arrays["pad_enc"]), int(arrays["pad_dec"]))
    for row in arrays["pad_table_N_L_S_Tceil_padenc_Tactual_paddec_Nout"].tolist():
        samples, kernel_size, hop, frames, pad_encoder, actual_frames, pad_decoder, out = row
        assert padding(samples, kernel_size, hop) == (pad_encoder, pad_decoder)
        assert frame_count(samples, hop) == frames
        encoder = ConvEncoder(2, kernel_size, hop)
        decoder = ModulatedCosineDecoder(2, kernel_size, hop)
        model = RepresentationModel(encoder, decoder)
        representation = model.encode(torch.zeros(1, samples))
        assert representation.shape == (1, 2, actual_frames)
        assert model.decode(representation).shape == (1, out)


# ---------------------------------------------------------------- 02 - 04: encoder, decoders


def test_02_encoder(golden: Callable[[str], Golden]) -> None:
    arrays = golden("02_encoder_conv")
    encoder = ConvEncoder(C, L, S, convention="code")
    with torch.no_grad():
        encoder.kernels.copy_(arrays["w1"][:, 0])
        encoder.context.zero_()
    assert padding(N, int(arrays["L"]), int(arrays["S"])) == (int(arrays["pad"]),) * 2
    signal = leaf(arrays["x"])
    near(encoder(signal), arrays["h"].relu(), 2e-6, "h, its positive part")
    near((encoder(-signal) - encoder(signal)).neg(), arrays["h"], 2e-6, "h")
    with torch.no_grad():
        encoder.context.copy_(arrays["w2"])
    representation = encoder(signal)
    near(representation, arrays["A"], 2e-6, "A")
    representation.backward(arrays["gA"])
    assert signal.grad is not None
    near(signal.grad, arrays["gx"], 2e-6, "gx")
    near(encoder.get_parameter("kernels").grad, arrays["gw1"][:, 0], 2e-6, "gw1")
    near(encoder.get_parameter("context").grad, arrays["gw2"], 2e-6, "gw2")


def _decoder(arrays: Golden) -> ModulatedCosineDecoder:
    decoder = ModulatedCosineDecoder(
        *(C, L, S),
        power=int(arrays["p"]),
        modulator="component" if int(arrays["fully_modulated"]) else "shared",
        convention="code",
    )
    model = RepresentationModel(ConvEncoder(C, L, S), decoder)
    analysis = {"conv_a1.weight": torch.zeros(C, 1, L), "conv_a2.weight": torch.zeros(C, C, 5)}
    synthesis = {
        "freq_mat": arrays["freq"],
        "phi": arrays["phi"],
        "norm_factor": arrays["b"],
    }
    load_original_state(model, analysis, synthesis)
    return decoder


@pytest.mark.parametrize(
    "name", ["03_decoder_modcos_p2", "03b_decoder_modcos_p1", "04_decoder_cos_p2"]
)
def test_03_04_decoder(name: str, golden: Callable[[str], Golden]) -> None:
    arrays = golden(name)
    decoder = _decoder(arrays)
    model = RepresentationModel(ConvEncoder(C, L, S), decoder)
    assert padding(N, int(arrays["L"]), int(arrays["S"])) == (int(arrays["pad"]),) * 2
    order = model.order()
    assert torch.equal(order, arrays["sorted_idx"])
    near(arrays["A"][:, order], arrays["just_sort_A"], 0)
    for sort in ("nosort", "sort"):
        weights = decoder.basis() if sort == "nosort" else model.basis()
        exact = arrays["W64_nosort"][order if sort == "sort" else slice(None), 0]
        assert (weights - exact).abs().max() <= 2e-8
        # What is left is the published code's own float32 phase error.
        assert (weights - arrays[f"W_{sort}"][:, 0]).abs().max() <= 2.3e-7
        representation = leaf(arrays["A"])
        decoder.zero_grad()
        if sort == "nosort":
            estimate = model.decode(representation, length=N)
        else:  # as the published code: kernels and channels in the order of the carriers
            estimate = model.decode(representation[:, order], length=N, basis=weights)
        near(estimate, arrays[f"xhat_{sort}"], 4e-6, f"xhat_{sort}")
        estimate.backward(arrays["gxhat"])
        assert representation.grad is not None
        near(representation.grad, arrays[f"gA_{sort}"], 1e-5, f"gA_{sort}")
        for parameter, key in (("frequency", "freq"), ("phase", "phi"), ("modulator", "b")):
            gradient = decoder.get_parameter(parameter).grad
            assert gradient is not None
            expected = arrays[f"g{key}_{sort}"].reshape(gradient.shape)
            near(gradient, expected, 1e-5, f"g{key}_{sort}")
    decoder.double()
    near(decoder.basis(), arrays["W64_nosort"][:, 0], 1e-12)
    near(decoder(arrays["A"].double(), N), arrays["xhat64"], 1e-12)


# ---------------------------------------------------------------- 08: losses


def _gradient(loss: Tensor, *inputs: Tensor) -> Any:
    found = torch.autograd.grad(loss, inputs)
    return found[0] if len(found) == 1 else found


def test_08_waveform_losses(golden: Callable[[str], Golden]) -> None:
    arrays = golden("08_losses")
    target, estimate = arrays["x"], leaf(arrays["xhat"])
    for key, loss in (
        ("neg_snr", NegSNRLoss("code")(estimate, target)),
        ("mse", nn.functional.mse_loss(estimate, target)),
        # The published ratios are of the whole batch, so it goes in as one signal.
        ("si_sdr_scale", ops.si_sdr(estimate.reshape(1, -1), target.reshape(1, -1)).squeeze()),
        ("si_sdr_noscale", -ops.neg_snr(estimate, target, reduce="batch")),
    ):
        near(loss, arrays[key], 1e-6, key)
        near(_gradient(loss, estimate), arrays[f"g_{key}"], 5e-6, f"g_{key}")
    wide, exact = arrays["xhat"].double(), arrays["x"].double()
    near(NegSNRLoss("code")(wide, exact), arrays["neg_snr64"], 1e-12)
    near(-ops.neg_snr(wide, exact, reduce="batch"), arrays["si_sdr_noscale64"], 1e-12)
    near(
        ops.si_sdr(wide.reshape(1, -1), exact.reshape(1, -1)).squeeze(),
        arrays["si_sdr_scale64"],
        1e-12,
    )
    near(nn.functional.mse_loss(wide, exact), arrays["mse64"], 1e-12)


def test_08_edge_cases(golden: Callable[[str], Golden]) -> None:
    arrays = golden("08_losses")
    target, silence = arrays["x"], torch.zeros_like(arrays["x"])
    loss = NegSNRLoss("code")
    near(loss(arrays["xhat"], silence), arrays["neg_snr_x0"], 1e-6)
    near(loss(target, target), arrays["neg_snr_equal"], 1e-6)
    ratio = -ops.neg_snr(arrays["xhat"], silence, reduce="batch")
    near(ratio, arrays["si_sdr_x0"], 1e-6)
    # Scale-invariant, a silent target has no ratio here; the published -240 would spoil a mean.
    assert ops.si_sdr(arrays["xhat"], silence).isnan().all()


def test_08_representation_losses(golden: Callable[[str], Golden]) -> None:
    arrays = golden("08_losses")
    representation = leaf(arrays["A"])
    for key, loss in (
        ("tv", TotalVariationLoss("code")(representation)),
        ("just_l1", (representation - arrays["A2"]).abs().sum() / (C * 32)),
    ):
        near(loss, arrays[key], 1e-6, key)
        near(_gradient(loss, representation), arrays[f"g_{key}"], 5e-6, f"g_{key}")
    near(TotalVariationLoss("code")(arrays["A"].double()), arrays["tv64"], 1e-12)


def test_08_cross_entropy(golden: Callable[[str], Golden]) -> None:
    arrays = golden("08_losses")
    positive, negative = leaf(arrays["bce_pos"]), leaf(arrays["bce_neg"])
    loss = Discriminator.loss(positive.logit(), negative.logit())
    near(loss, arrays["bce"], 1e-6)
    found = _gradient(loss, positive, negative)
    near(found[0], arrays["g_bce_pos"], 5e-6)
    near(found[1], arrays["g_bce_neg"], 5e-6)


# ---------------------------------------------------------------- 09, 10: Sinkhorn


@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
@pytest.mark.parametrize("p", [1, 2])
def test_09_sinkhorn_loss(p: Any, gradient: Any, golden: Callable[[str], Golden]) -> None:
    arrays = golden("09_sinkhorn_dist_T12")
    cost = ops.frame_distance(arrays["x"], p=p, normalize="time", reduce="mean")
    near(cost, arrays[f"M_p{p}"], 1e-6)
    for index, epsilon in enumerate(arrays["regs"].tolist()):
        for dtype, loss_tolerance, gradient_tolerance, stop in (
            (torch.float64, 3e-7, 1e-6, 1e-13),
            (torch.float32, 3e-7, 2.5e-5, 1e-6),
        ):
            representation = leaf(arrays["x"].to(dtype))
            loss = SinkhornLoss(epsilon, p=p, convention="code", tolerance=stop, gradient=gradient)(
                representation
            )
            what = f"epsilon {epsilon}, p {p}, {dtype}"
            near(loss, arrays[f"loss64_p{p}"][index], loss_tolerance, what)
            near(loss, arrays[f"loss_p{p}"][index], 6e-7, what)  # both are off by up to 3e-7
            found = _gradient(loss, representation)
            near(found, arrays[f"g64_p{p}"][index], gradient_tolerance, what)
            near(found, arrays[f"g_p{p}"][index], 2.5e-5, what)


@pytest.mark.parametrize("kind", ["", "_nonsym"])
def test_10_sinkhorn_iteration(kind: str, golden: Callable[[str], Golden]) -> None:
    arrays = golden("10_sinkhorn_iter_T12")
    symmetric = not kind
    for index, epsilon in enumerate(arrays["regs"].tolist()):
        cost = leaf(arrays[f"M{kind}"].double())
        options: dict[str, Any] = {"tolerance": 1e-13, "symmetric": symmetric}
        loss = ops.sinkhorn_distance(cost, epsilon, **options)
        near(loss, arrays[f"loss64{kind}"][index], 3e-7, f"epsilon {epsilon}")
        near(loss, arrays[f"loss{kind}"][index], 3e-7, f"epsilon {epsilon}")
        found = _gradient(loss, cost)
        near(found, arrays[f"g64{kind}"][index], 1e-6, f"epsilon {epsilon}")
        # The float32 gradient there is up to 2e-4 off its own float64 run without symmetry.
        near(found, arrays[f"g{kind}"][index], 2.5e-5 if symmetric else 2.5e-4)
        plan = ops.sinkhorn_plan(cost, epsilon, **options)
        assert int(arrays[f"iter_of_P{kind}"][index]) == 991
        near(plan, arrays[f"P_iter991{kind}"][index], 2e-6, f"epsilon {epsilon}")


def test_10_loss_after_few_iterations(golden: Callable[[str], Golden]) -> None:
    arrays = golden("10_sinkhorn_iter_T12")
    for index, epsilon in enumerate(arrays["regs"].tolist()):
        for column, iterations in enumerate(arrays["iters"].tolist()):
            loss = ops.sinkhorn_distance(
                arrays["M"].double(),
                epsilon,
                max_iterations=iterations,
                tolerance=0.0,
                symmetric=False,
                gradient="unrolled",
            )
            what = f"epsilon {epsilon}, {iterations} iterations"
            near(loss, arrays["loss_vs_iters"][index, column], 1e-6, what)


# ---------------------------------------------------------------- 11: training


def test_11_batches_are_centred_segments(golden: Callable[[str], Golden]) -> None:
    arrays = golden("11_train_tv")
    overlap = int(arrays["overlap"])
    segments = {}
    for source in ("vox", "bkg"):
        padded = nn.functional.pad(arrays[source], (0, overlap - len(arrays[source]) % overlap))
        pieces = padded.unfold(0, N, N - overlap)
        segments[source] = torch.cat([pieces, pieces.new_zeros(1, N)])  # a silent one, always
    used: dict[str, list[int]] = {"vox": [], "bkg": []}
    for step in range(int(arrays["n_steps"])):
        clean, mix = arrays["x_clean"][step].double(), arrays["x_mix"][step].double()
        assert abs(float((arrays["x_noisy"][step] - clean).std()) - 1e-4) < 1e-5
        voice = _nearest(clean, segments["vox"], used["vox"])
        near(clean, voice - voice.mean(), 1e-6)
        backing = _nearest(mix - voice, segments["bkg"], used["bkg"])
        near(mix, voice + backing - (voice + backing).mean(), 1e-6)
    batches = len(segments["vox"]) // int(arrays["batch_size"])
    for indices in used.values():  # both epochs hold every segment once
        for epoch in np.split(np.array(indices), int(arrays["n_steps"]) // batches):
            assert sorted(epoch) == list(range(len(segments["vox"])))


def _nearest(batch: Tensor, segments: Tensor, used: list[int]) -> Tensor:
    centred = [item - item.mean(1, keepdim=True) for item in (batch, segments)]
    indices = torch.cdist(*centred).argmin(1)
    used += indices.tolist()
    return segments[indices]


def test_11_training_steps(golden: Callable[[str], Golden]) -> None:
    arrays = golden("11_train_tv")
    model = RepresentationModel(
        ConvEncoder(C, L, S, convention="code"), ModulatedCosineDecoder(C, L, S, convention="code")
    )
    load_original_state(
        model,
        {"conv_a1.weight": arrays["init_w1"], "conv_a2.weight": arrays["init_w2"]},
        {
            "freq_mat": arrays["init_freq"],
            "phi": arrays["init_phi"],
            "norm_factor": arrays["init_b"],
        },
    )
    parameters = {
        "w1": model.encoder.get_parameter("kernels"),
        "w2": model.encoder.get_parameter("context"),
        "b": model.decoder.get_parameter("modulator"),
        "freq": model.decoder.get_parameter("frequency"),
        "phi": model.decoder.get_parameter("phase"),
    }
    reconstruction, representation = NegSNRLoss("code"), TotalVariationLoss("code")
    rate = float(arrays["lr"])
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(int(arrays["n_steps"])):
        batch = torch.cat([arrays["x_noisy"][step], arrays["x_mix"][step]])
        voice, mixture = model.encode(batch).chunk(2)
        estimate = model.decode(voice)
        rec = reconstruction(estimate, arrays["x_clean"][step])
        rep = representation(mixture)
        for key, value in (("A_v", voice), ("A_m", mixture), ("xhat", estimate)):
            near(value, arrays[key][step], 1e-5, f"{key} of step {step}")
        torch.testing.assert_close(rec, arrays["rec_loss"][step], atol=2e-5, rtol=0)  # dB
        near(rep, arrays["rep_loss"][step], 1e-5, f"rep_loss of step {step}")
        optimizer.zero_grad()
        (rec + float(arrays["lambda_reg"]) * rep).backward()
        if step == 0:
            for key, parameter in parameters.items():
                assert parameter.grad is not None
                expected = arrays[f"grad0_{key}"].reshape(parameter.shape)
                near(parameter.grad, expected, 2e-5, f"grad0_{key}")
        optimizer.step()
        if step == 0:
            _same_updates(parameters, arrays, "param1", rate)
    _same_updates(parameters, arrays, "param_last", rate * int(arrays["n_steps"]))


def _same_updates(
    parameters: dict[str, nn.Parameter], arrays: Golden, name: str, reach: float
) -> None:
    for key, parameter in parameters.items():
        error = (parameter.detach() - arrays[f"{name}_{key}"].reshape(parameter.shape)).abs()
        assert error.max() <= 1e-3 * reach, f"{name}_{key}"
