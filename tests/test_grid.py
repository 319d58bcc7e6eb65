"""Launch arithmetic of the CUDA kernels (csrc/cuda/grid.h): sizes, coverage, choice of paths."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import pytest

grid: Any = importlib.import_module("rlsv_fast._host").grid

KB = 1024
GPUS = {  # processors, KB of shared memory for one block
    "T4": (40, 64),
    "RTX 3090": (82, 99),
    "A100": (108, 163),
    "H200": (132, 227),
}
DEVICES = {name: grid.Device(count, shared * KB) for name, (count, shared) in GPUS.items()}
H200 = DEVICES["H200"]
SIZES = (1, 2, 31, 32, 33, 173, 800, 2048, 65536)
MOST_BLOCKS = 2**31 - 1


def assert_launchable(one: Any, shared: int = 48 * KB) -> None:
    assert 1 <= one.blocks <= MOST_BLOCKS
    assert 32 <= one.threads <= 1024 and one.threads % 32 == 0
    assert 0 <= one.shared <= shared


def divide_up(count: int, by: int) -> int:
    return -(-count // by)


@pytest.mark.parametrize("cut", [grid.cut_rows, grid.tile_rows], ids=["sums", "tiles"])
def test_chunks_cover_rows_of_any_length_once(cut: Any) -> None:
    for rows, length in itertools.product((1, 8, 65536), (*SIZES, 2**31 + 1, 2**40)):
        chunks = cut(rows, length)
        assert (chunks.count - 1) * chunks.size < length <= chunks.count * chunks.size
        assert chunks.total == rows * chunks.count
        assert_launchable(grid.sums_grid(chunks.total))
    assert cut(3, 0).total == 0


def test_partial_sums_stay_few() -> None:
    """The second stage, one block per row, must not become the longer one."""
    assert all(grid.cut_rows(1, length).count <= 1024 for length in (2**20, 2**31, 2**40))


def test_modulated_cosines_cover_rows_and_taps() -> None:
    for components, taps in itertools.product(SIZES, SIZES):
        forward = grid.modulated_cosines_forward_grid(components, taps)
        assert forward.blocks == components * divide_up(taps, 1024)
        chunk, chunks = (
            grid.modulated_cosines_chunk(components),
            grid.modulated_cosines_chunks(components),
        )
        assert (chunks - 1) * chunk < components <= chunks * chunk
        assert chunks <= 256
        for lanes in (1, 2, 4):
            partial = grid.modulated_cosines_partial_grid(components, taps, lanes)
            assert partial.blocks * partial.threads * lanes >= chunks * taps
            assert_launchable(partial)
        for one in (forward, grid.modulated_cosines_backward_grid(components)):
            assert_launchable(one)
        total = grid.modulated_cosines_total_grid(taps)
        assert total.blocks * total.threads >= taps


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("item", [4, 8], ids=["float32", "float64"])
def test_transforms_have_blocks_and_memory_for_every_sum(gpu: str, item: int) -> None:
    kinds = (grid.Staged.nothing, grid.Staged.inputs, grid.Staged.outputs)
    for outputs, inputs, points in itertools.product((1, 5, 20, 29, 95), (0, 5, 64, 6080), (0, 64)):
        for units, staged in itertools.product((1, 129, 640_000, 2**33), kinds):
            plan = grid.transform_grid(DEVICES[gpu], outputs, inputs, units, points, staged, item)
            assert_launchable(plan.grid)
            assert plan.share % 4 == 0 and 0 < plan.share <= 20
            assert (plan.groups - 1) * plan.share < outputs <= plan.groups * plan.share
            assert plan.pieces == plan.groups * divide_up(units, plan.grid.threads)
            # a block that has more to do stays with its group
            assert plan.grid.blocks == plan.pieces or plan.grid.blocks % plan.groups == 0
            assert plan.stage <= inputs and (plan.stage > 0) == (inputs > 0)
            needed = 16 * plan.table + item * plan.stage * plan.share
            assert needed + item * plan.staged * plan.grid.threads <= plan.grid.shared
            if staged == grid.Staged.inputs:
                assert plan.staged >= max(plan.stage, plan.share)
            elif staged == grid.Staged.outputs:
                assert plan.staged >= plan.share
            else:
                assert plan.staged == 0
    assert grid.transform_grid(DEVICES[gpu], 9, 9, 9, 65, kinds[0], item).table == 0
    assert grid.transform_grid(DEVICES[gpu], 10**6, 9, 9, 0, kinds[1], item).groups == 50_000


@pytest.mark.parametrize("offset", [-(2**33), -40, -1, 0, 1, 7, 20, 2**33])
def test_spans_hold_every_frame_and_the_windows_that_reach_it(offset: int) -> None:
    for frames, terms, dilation in itertools.product((1, 2, 33, 173), (1, 5, 18), (1, 3, 200)):
        for tiles, advance in ((1, 0), (2, 1), (20, 9), (7, 18), (3, 40)):
            spans = grid.make_spans(frames, terms, dilation, tiles, advance, offset)
            for frame in (0, frames - 1):
                place = (frame + offset) // dilation  # from where the first window begins
                span = place // spans.length
                assert spans.first <= span < spans.first + spans.count
                step = advance if tiles > 1 else 0
                reached = [t for t in range(tiles) if 0 <= place - t * step < terms]
                assert all(0 <= span - tile < spans.depth for tile in reached)
                assert tiles == 1 or step == spans.length


def test_frame_distance_fills_the_device() -> None:
    """The papers' batch has few pairs of frames: small tiles give every processor one."""
    assert grid.frame_distance_tile(H200, 8, 173) == 32
    assert grid.frame_distance_tiles(8, 173, 32) >= 132
    assert grid.frame_distance_tile(H200, 64, 512) == 64


def test_frame_distance_tiles_are_the_upper_half() -> None:
    for frames, tile in itertools.product(SIZES, (32, 64)):
        across = divide_up(frames, tile)
        pairs = {(min(i, j), max(i, j)) for i in range(min(across, 9)) for j in range(across)}
        if across <= 9:
            assert grid.frame_distance_tiles(5, frames, tile) == 5 * len(pairs)
        stride = grid.frame_distance_stride(frames)
        assert stride % 4 == 0 and frames <= stride < frames + 4


def test_frames_have_threads_for_their_taps() -> None:
    for rows, taps, lanes in itertools.product(SIZES, SIZES, (1, 2, 4)):
        one = grid.frames_grid(rows, taps, lanes)
        assert_launchable(one)
        assert one.blocks == rows * divide_up(taps, 2048)
        assert one.threads == 256 or one.threads * lanes >= taps


@pytest.mark.parametrize("offset", [-65536, -5, -4, -1, 0, 1, 3, 4, 990, 65536])
def test_overlap_add_reaches_every_output(offset: int) -> None:
    for length, lanes in itertools.product(SIZES, (1, 2, 4)):
        start = grid.overlap_start(offset, lanes)
        assert start % lanes == 0 and start <= offset < start + lanes
        blocks = grid.overlap_blocks(length, offset, lanes)
        one = grid.overlap_grid(3, length, offset, lanes)
        assert_launchable(one)
        assert one.blocks == 3 * blocks
        assert start + blocks * one.threads * lanes >= offset + length


def test_all_pole_has_threads_for_frames_and_outputs() -> None:
    for rows, order in itertools.product((*SIZES, 2**40), range(65)):
        filters, lags = grid.all_pole_filter_grid(rows), grid.all_pole_lag_grid(rows, order)
        assert_launchable(filters)
        assert filters.blocks == min(divide_up(rows, 32), MOST_BLOCKS) and filters.threads == 32
        assert order <= grid.all_pole_order(order) <= 64
        assert lags.blocks == (min(rows, MOST_BLOCKS) if order else 0)
    for batch, samples in itertools.product((1, 60, 65536), (*SIZES, 64_000)):
        one = grid.all_pole_sum_grid(batch, samples)
        assert_launchable(one)
        assert one.blocks * one.threads >= batch * samples
    assert grid.all_pole_sum_grid(5, 0).blocks == 0


def test_a_recurrent_layer_has_warps_for_units_and_lanes_for_columns() -> None:
    for items, size in itertools.product((*SIZES, 2**40), (1, 8, 33, 512, 4096)):
        forward = grid.gated_recurrence_forward_grid(items, size)
        backward = grid.gated_recurrence_backward_grid(items, size)
        tiles = divide_up(items, 8)
        assert forward.blocks == min(tiles * divide_up(size, 8), MOST_BLOCKS)
        assert backward.blocks == min(tiles * divide_up(size, 32), MOST_BLOCKS)
        for one, threads in ((forward, 256), (backward, 512)):
            assert_launchable(one)
            assert one.threads == threads


def test_line_frequencies_fit_into_any_shared_memory() -> None:
    for rows, order in itertools.product(SIZES, range(65)):
        one = grid.lsf_to_lpc_grid(rows, order)
        assert_launchable(one, 17 * KB)
        assert one.blocks * one.threads >= rows
        # P / 2 factors, one more coefficient than there are factors, twice
        assert one.shared >= 8 * one.threads * 2 * (divide_up(order, 2) + order // 2 + 2) // 2


def test_decode_f0_covers_every_frame() -> None:
    for planes, frames in itertools.product((1, 60, 65536), SIZES):
        one = grid.decode_f0_grid(planes, frames)
        assert_launchable(one)
        assert one.blocks == min(planes * divide_up(frames, 32), MOST_BLOCKS)
    assert grid.decode_f0_grid(4, 0).blocks == 0


def test_total_variation_covers_every_cell() -> None:
    for batch, components, frames in itertools.product((1, 8, 65536), SIZES, SIZES):
        shape = grid.variation_shape(batch, components, frames)
        assert shape.pieces == divide_up(frames, 32) * divide_up(components, 8)
        assert (shape.blocks - 1) * shape.share < shape.pieces <= shape.blocks * shape.share
        assert shape.blocks <= 1024
        assert_launchable(grid.variation_sums_grid(shape))
        assert_launchable(grid.variation_backward_grid(shape))
    assert grid.variation_shape(8, 0, 5).partials == 0


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("item", [4, 8], ids=["float32", "float64"])
def test_sinkhorn_fits_any_device(gpu: str, item: int) -> None:
    device, room = DEVICES[gpu], GPUS[gpu][1] * KB
    for items, rows, columns in itertools.product((1, 8, 65536), SIZES, SIZES):
        forward = grid.sinkhorn_grid(device, items, rows, columns, 3, 3, item)
        gradient = grid.sinkhorn_gradient_grid(device, items, rows, columns, item)
        reverse = grid.sinkhorn_reverse_grid(device, items, rows, columns, item)
        for one in (forward.grid, gradient.descent, gradient.elimination, reverse.grid):
            assert_launchable(one, room)
        for one in (forward, reverse):
            assert (one.workspace == 0) == one.resident
            assert one.resident or one.workspace >= rows * columns
            assert one.resident or one.grid.blocks * one.workspace * item <= max(
                256 * KB * KB, one.workspace * item
            )
        assert gradient.elimination.blocks >= 1


@pytest.mark.parametrize(
    ("name", "frames"), [("T4", 116), ("RTX 3090", 148), ("A100", 192), ("H200", 228)]
)
def test_sinkhorn_keeps_the_papers_problems_in_shared_memory(name: str, frames: int) -> None:
    """The kernel matrix of a float32 self-cost up to this many frames; above, it is streamed."""
    for size, resident in ((frames, True), (frames + 4, False)):
        assert grid.sinkhorn_grid(DEVICES[name], 8, size, size, 3, 3, 4).resident is resident


def test_sinkhorn_gradients_keep_the_papers_plans_in_shared_memory() -> None:
    matrix = grid.Residence.matrix
    assert grid.sinkhorn_gradient_grid(H200, 8, 173, 173, 4).residence == matrix
    assert grid.sinkhorn_reverse_grid(H200, 8, 173, 173, 4).resident
    far = grid.sinkhorn_gradient_grid(H200, 8, 65536, 65536, 4)
    assert far.residence == grid.Residence.nothing and far.elimination.blocks == 1


def test_banks_have_a_thread_warp_or_block_for_everything() -> None:
    for count in (*SIZES, 2**33):
        samples, pieces = grid.bank_sample_grid(count), grid.bank_piece_grid(count)
        assert samples.blocks == min(divide_up(count, samples.threads), MOST_BLOCKS)
        assert pieces.blocks == min(divide_up(count, pieces.threads // 32), MOST_BLOCKS)
        for one in (samples, pieces, grid.bank_frame_grid(count), grid.bank_item_grid(count)):
            assert_launchable(one)
