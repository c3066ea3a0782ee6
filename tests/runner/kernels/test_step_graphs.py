"""Where a step's input lies, which steps are captured, and which graph a step runs in."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from predictor.runner.fused_decoder import StepShape
from predictor.runner.kernels.attention import HeadShape, block_positions
from predictor.runner.step_graphs import Layout, StepGraphs, aligned, blocks_of, ladder, sizes

SHAPES = [
    StepShape(1, 1),
    StepShape(5, 3, 2),
    StepShape(7, 0, 1),
    StepShape(64, 64),
    StepShape(130, 31, 9),
]


@pytest.mark.parametrize("samples", [0, 1, 3, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_of_the_input_do_not_overlap(shape: StepShape, samples: int) -> None:
    layout = Layout(shape, samples)
    # As many views as there may be, and a buffer that is longer, as the one of all graphs is.
    places = layout.views(np.arange(layout.items + 13))
    assert places[0].size >= 2
    assert [part.shape for part in places[1:]] == [
        (3, samples),
        (3, shape.tokens),
        (shape.blocks, 4),
    ]
    every = np.concatenate([part.ravel() for part in places])
    assert len(set(every.tolist())) == len(every)
    assert max(every) < layout.items


@pytest.mark.parametrize("samples", [1, 3, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_a_kernel_is_given_is_aligned(shape: StepShape, samples: int) -> None:
    """Triton compiles a kernel once more for a pointer that is not to 16 bytes."""
    layout = Layout(shape, samples)
    buffer = torch.zeros(layout.items, dtype=torch.int32)
    staged, sampled = layout.staged(buffer), layout.sampled(buffer, samples)
    given = [
        *(staged.counts, staged.slots, staged.ids, staged.positions),
        *(sampled.tokens, sampled.slots, sampled.positions),
        *([staged.blocks] if shape.blocks else []),
    ]
    for each in given:
        assert (each.data_ptr() - buffer.data_ptr()) % 16 == 0
        assert each.is_contiguous()


def test_what_is_written_on_the_host_is_found_on_the_device() -> None:
    layout = Layout(StepShape(5, 3, 2), 4)
    host = np.zeros(layout.items, np.int32)
    counts, sampled, tokens, blocks = layout.views(host)
    counts[:2] = 3, 2
    sampled[:] = np.arange(100, 112).reshape(3, 4)
    tokens[:] = np.arange(200, 215).reshape(3, 5)
    blocks[:] = np.arange(300, 308).reshape(2, 4)
    staged = layout.staged(torch.from_numpy(host))
    found = layout.sampled(torch.from_numpy(host), 2)
    assert staged.counts[:2].tolist() == [3, 2]
    assert staged.slots.tolist() == list(range(200, 205))
    assert staged.ids.tolist() == list(range(205, 210))
    assert staged.positions.tolist() == list(range(210, 215))
    assert staged.blocks.tolist() == [[300, 301, 302, 303], [304, 305, 306, 307]]
    assert (found.tokens.tolist(), found.slots.tolist()) == ([100, 101], [104, 105])
    assert found.positions.tolist() == [108, 109]


def test_aligned() -> None:
    assert [aligned(items) for items in (0, 1, 4, 5, 8)] == [0, 4, 4, 8, 8]


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (1, 100), (32, 4096), (32, 20)])
def test_sizes_lie_close(least: int, most: int) -> None:
    found = sizes(least, most)
    assert found == sorted(set(found))
    assert found[0] == min(least, most)
    assert found[-1] == most
    for smaller, larger in itertools.pairwise(found):
        assert larger <= 1.25 * smaller + 1


@pytest.mark.parametrize("heads", [HeadShape(32, 8, 64), HeadShape(9, 3, 64), HeadShape(8, 1, 10)])
@pytest.mark.parametrize("slots", [1, 6, 256])
def test_the_ladder_holds_every_step(slots: int, heads: HeadShape) -> None:
    most = 512
    shapes = ladder(slots, heads, most)
    decoding = [shape for shape in shapes if not shape.blocks]
    mixed = [shape for shape in shapes if shape.blocks]
    assert shapes == [*decoding, *mixed]
    assert all(shape.singles == shape.tokens for shape in decoding)
    assert (decoding[0].tokens, decoding[-1].tokens) == (1, slots)
    assert mixed[-1].tokens == most
    assert all(shape.singles == min(shape.tokens, slots) for shape in mixed)
    for shape in mixed:
        chunk = 16  # one for so many tokens, each of them a little more than whole blocks
        count = shape.tokens // chunk
        blocks = count * -(-chunk // block_positions(heads))
        assert shape.blocks >= blocks
        assert shape.blocks == blocks_of(shape.tokens, heads)


def graphs_of(*shapes: StepShape, choices: tuple[int, ...] = (1, 2, 4, 8)) -> StepGraphs:
    """The graph of a shape, or of so many choices, is that itself."""
    graphs: Any = [(shape, shape) for shape in shapes]
    chosen: Any = [(rows, rows) for rows in choices]
    return StepGraphs(torch.zeros(0, dtype=torch.int32), 8, graphs, chosen)


SMALL, LARGE = StepShape(2, 2), StepShape(8, 8)
FEW_BLOCKS, MANY_BLOCKS, LONG = StepShape(32, 8, 3), StepShape(40, 8, 6), StepShape(64, 8, 6)


@pytest.mark.parametrize(
    ("singles", "tokens", "blocks", "expected"),
    [
        (1, 1, 0, SMALL),
        (2, 2, 0, SMALL),
        (3, 3, 0, LARGE),
        (8, 8, 0, LARGE),
        (9, 9, 0, None),
        (0, 2, 1, FEW_BLOCKS),  # a chunk, however short
        (8, 32, 3, FEW_BLOCKS),
        (0, 32, 4, MANY_BLOCKS),
        (0, 33, 1, MANY_BLOCKS),
        (2, 41, 1, LONG),
        (9, 20, 1, None),
        (0, 20, 7, None),
        (0, 65, 2, None),
    ],
)
def test_a_step_runs_in_the_smallest_graph_that_holds_it(
    singles: int, tokens: int, blocks: int, expected: StepShape | None
) -> None:
    graphs = graphs_of(SMALL, LARGE, FEW_BLOCKS, MANY_BLOCKS, LONG)
    found: Any = graphs.forward_for(singles, tokens, blocks)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == Layout(expected, 8)
        assert found[1] is expected


def test_a_choice_is_made_by_the_smallest_graph_that_holds_it() -> None:
    graphs = graphs_of(SMALL)
    found: list[Any] = [graphs.choice_for(rows) for rows in (1, 2, 3, 4, 5, 8)]
    assert found == [1, 2, 4, 4, 8, 8]


def test_without_graphs_every_step_runs_without() -> None:
    graphs = graphs_of(choices=())
    assert graphs.forward_for(1, 1, 0) is None
    assert graphs.forward_for(0, 20, 2) is None
