from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast.umss import LateDeep, VoasCNN, import_weights, load_networks
from rlsv_fast.umss.tall_conv import SameConv2d, transformed

WEIGHTS = ("late_deep_multif0.npz", "voas_cnn.npz")


@pytest.mark.parametrize("kernel", [(70, 3), (360, 1), (16, 3), (17, 1)])
def test_the_transform_is_the_convolution(kernel: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 40, 70, generator=generator, dtype=torch.float64, requires_grad=True)
    conv = SameConv2d(3, 4, kernel).double()
    y = conv(x)
    height, width = kernel
    above = (height - 1) // 2
    padded = functional.pad(x, (width // 2, width // 2, above, height - 1 - above))
    expected = functional.conv2d(padded, conv.weight, conv.bias)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    inputs = (x, conv.weight, conv.bias)
    found = torch.autograd.grad((y * weight).sum(), inputs)
    for gradient, reference in zip(
        found, torch.autograd.grad((expected * weight).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-10)


def test_the_transform_in_float32_is_as_exact_as_the_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 90, 150, generator=generator)
    weight = torch.randn(4, 8, 70, 3, generator=generator)
    flow = torch.randn(1, 4, 90, 150, generator=generator)

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 34, 35)), weight)

    def found(call: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
        leaves = [value.detach().requires_grad_() for value in inputs]
        y = call(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, flow.to(y))]

    exact = found(plain, x.double(), weight.double())
    mine = found(lambda *inputs: transformed(*inputs, None), x, weight)
    for one, other, true in zip(mine, found(plain, x, weight), exact, strict=True):
        assert (one - true).abs().max() <= 2 * (other - true).abs().max()


def test_sizes_and_the_frames_that_a_frame_sees() -> None:
    late, voas = LateDeep().eval(), VoasCNN().eval()
    assert sum(p.numel() for p in late.parameters()) == 1_251_701
    assert sum(p.numel() for p in voas.parameters()) == 189_830
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 5, 360, 30, generator=generator)
    changed = maps.clone()
    changed[..., 29] += 1
    with torch.inference_mode():
        before, after = late(maps, maps), late(changed, changed)
        seen = (before != after).any(2).flatten().nonzero().flatten().tolist()
        assert before.shape == (1, 1, 360, 30)
        salience = torch.rand(1, 1, 360, 20, generator=generator)
        voices = voas(salience)
        salience[..., 19] += 1
        heard = (voices != voas(salience)).any(2).any(1).flatten().nonzero().flatten().tolist()
        assert voices.shape == (1, 4, 360, 20)
    # transformed in blocks from the first frame on: what is not seen stays the same to the bit
    assert seen == list(range(29 - LateDeep.CONTEXT, 30))
    assert heard == list(range(19 - VoasCNN.CONTEXT, 20))


def test_bfloat16_is_near() -> None:
    voas = VoasCNN().eval()
    salience = torch.rand(1, 1, 360, 1)
    with torch.inference_mode():
        exact, rough = voas(salience), voas.bfloat16()(salience.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (exact - rough.float()).abs().max() < 0.02


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"magnitude must have shape \(B, 5, 360, T\)"):
        LateDeep()(torch.zeros(1, 4, 360, 2), torch.zeros(1, 5, 360, 2))
    with pytest.raises(ValueError, match="must share one shape"):
        LateDeep()(torch.zeros(1, 5, 360, 2), torch.zeros(1, 5, 360, 3))
    with pytest.raises(ValueError, match=r"salience must have shape \(B, 1, 360, T\)"):
        VoasCNN()(torch.zeros(1, 4, 360, 2))


def test_golden(shared: Path, tmp_path: Path) -> None:
    folder = shared / "weights"
    if not all((folder / name).is_file() for name in WEIGHTS):
        pytest.skip("no pretrained weights beside the checkout")
    import_weights([folder / name for name in WEIGHTS], tmp_path)
    networks = load_networks(tmp_path)
    with np.load(shared / "golden" / "umss" / "late_deep_and_voas.npz") as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    with torch.inference_mode():
        branch = networks.multif0.magnitude(golden["mags"]).mean(2)
        salience = networks.multif0(golden["mags"], golden["dphase"])
        assigned = networks.assignment(golden["salience"])
    torch.testing.assert_close(branch, golden["branch_mag_mean"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(salience, golden["salience"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(assigned, golden["assigned"], rtol=1e-4, atol=1e-5)
