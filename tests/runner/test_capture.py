"""The ladder of sizes and which step a batch runs in; what is captured is tested on a GPU."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.model import Step
from predictor.runner.capture import (
    FEWEST_ROWS,
    LARGEST_TOKENS,
    MOST_ROWS,
    SMALLEST_TOKENS,
    TOKENS_PER_ROW,
    Graph,
    Graphs,
    ladder,
)


def sizes(steps: list[Step]) -> list[int]:
    return sorted({step.tokens for step in steps})


def test_the_ladder_goes_from_the_smallest_to_the_largest_in_short_steps() -> None:
    steps = ladder()
    assert all(a < b for a, b in pairwise((step.tokens, step.rows) for step in steps))
    tokens = sizes(steps)
    assert (tokens[0], tokens[-1]) == (SMALLEST_TOKENS, LARGEST_TOKENS)
    assert max(b / a for a, b in pairwise(tokens)) <= 1.25


@pytest.mark.parametrize("per_row", TOKENS_PER_ROW)
def test_every_size_is_there_for_usual_and_for_short_rows(per_row: int) -> None:
    steps = ladder()
    for tokens in sizes(steps):
        rows = min(max(tokens // per_row, FEWEST_ROWS), MOST_ROWS)
        assert Step(tokens, rows) in steps


@given(st.integers(1, 20_000))
def test_the_ladder_ends_where_it_is_told(largest: int) -> None:
    steps = ladder(largest)
    assert all(step.tokens <= largest for step in steps)
    assert bool(steps) == (largest >= SMALLEST_TOKENS)
    if steps:
        assert steps == ladder()[: len(steps)]
        assert largest < 1.25 * steps[-1].tokens or largest > LARGEST_TOKENS


def graphs_of(steps: list[Step]) -> Graphs:
    nothing = cast("Any", None)
    return Graphs([Graph(step, nothing, nothing, nothing) for step in steps])


@given(st.integers(1, 600), st.integers(1, 100))
def test_a_batch_runs_in_the_smallest_step_with_room_for_it(tokens: int, rows: int) -> None:
    steps = ladder(512)
    graphs = graphs_of(steps)
    assert graphs.steps == tuple(steps)
    found = graphs.smallest_for(tokens, rows)
    holding = [step for step in steps if step.tokens >= tokens and step.rows >= rows]
    if not holding:
        assert found is None
    else:
        assert found is not None
        assert found.step == min(holding, key=lambda step: (step.tokens, step.rows))


def test_without_steps_nothing_is_held() -> None:
    assert graphs_of([]).smallest_for(1, 1) is None
