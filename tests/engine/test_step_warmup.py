from collections.abc import Sequence

import pytest

from predictor.core.errors import StartupError
from predictor.core.generation import Sampled
from predictor.core.model import GenerationSpec, ModelSpec, Task
from predictor.core.rows import Piece
from predictor.engine.port import DeviceMemoryExhausted
from predictor.engine.step_warmup import BUDGET_S, GRID, warm_up_steps


class TimedRunner:
    """Takes a known time for each row and token, by a clock of its own."""

    def __init__(self, *, max_tokens: int = 4096, slots: int = 512, pages: int = 10_000) -> None:
        self.spec = ModelSpec(
            name="m",
            task=Task.TEXT_GENERATION,
            row_datatype="INT64",
            result_datatype="INT64",
            result_width=0,
            max_tokens=max_tokens,
            generation=GenerationSpec(page_tokens=16, pages=pages, slots=slots, end_ids=()),
        )
        self.now_s = 0.0
        self.token_s = 1e-5
        self.steps: list[Sequence[Piece]] = []
        self.error: Exception | None = None

    def clock(self) -> float:
        return self.now_s

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        if self.error is not None:
            raise self.error
        self.steps.append(pieces)
        first = 0.1 if pieces[0].fresh else 0.0
        self.now_s += first + 1e-3 + self.token_s * sum(piece.tokens for piece in pieces)
        return [Sampled(0)] * len(pieces)


def test_each_step_of_the_grid_is_timed_when_it_is_warm() -> None:
    runner = TimedRunner()
    timed = list(warm_up_steps(runner, runner.clock))
    assert len(timed) == len(GRID)
    for step, shape in zip(timed, GRID, strict=True):
        assert step.seconds == pytest.approx(1e-3 + 1e-5 * shape.tokens)
        assert step.work == shape.work
    ran = [[(piece.start, piece.tokens) for piece in pieces] for pieces in runner.steps[::2]]
    assert ran == [list(shape.parts) for shape in GRID]


def test_pages_and_slots_are_each_rows_own() -> None:
    runner = TimedRunner()
    list(warm_up_steps(runner, runner.clock))
    for fresh, again in zip(runner.steps[::2], runner.steps[1::2], strict=True):
        pages = [page for piece in fresh for page in piece.pages]
        assert len(set(pages)) == len(pages)
        assert len({piece.slot for piece in fresh}) == len(fresh)
        assert all(len(piece.pages) * 16 >= piece.start + piece.tokens for piece in fresh)
        assert [piece.row for piece in again] == [piece.row for piece in fresh]
        assert not any(piece.fresh or piece.pages for piece in again)


def test_what_the_model_has_no_room_for_is_left_out() -> None:
    runner = TimedRunner(max_tokens=100, slots=8, pages=30)
    timed = list(warm_up_steps(runner, runner.clock))
    assert 3 <= len(timed) < len(GRID)
    for pieces in runner.steps:
        assert len(pieces) <= 8
        assert all(piece.start + piece.tokens <= 100 for piece in pieces)


def test_a_slow_device_is_given_less() -> None:
    runner = TimedRunner()
    runner.token_s = 0.05
    timed = list(warm_up_steps(runner, runner.clock))
    assert timed
    assert max(step.work.tokens for step in timed) < 64
    assert runner.now_s < 2 * BUDGET_S


def test_a_model_that_fails_does_not_start() -> None:
    runner = TimedRunner()
    runner.error = RuntimeError("no such kernel")
    with pytest.raises(StartupError, match="no such kernel"):
        list(warm_up_steps(runner, runner.clock))


def test_a_step_without_memory_is_left_out() -> None:
    runner = TimedRunner()
    runner.error = DeviceMemoryExhausted("no memory")
    assert list(warm_up_steps(runner, runner.clock)) == []
