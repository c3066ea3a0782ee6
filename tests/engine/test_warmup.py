"""The first batches of a model, on a device whose times are known."""

from collections.abc import Sequence

import msgspec
import pytest

from predictor.core.errors import StartupError
from predictor.core.model import ModelSpec, Step, Task
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted
from predictor.engine.warmup import BUDGET_S, warm_up
from predictor.policy.service_time import Work

SPEC = ModelSpec(
    name="m",
    task=Task.SIMULATED,
    row_datatype="INT64",
    result_datatype="INT64",
    result_width=1,
    max_tokens=512,
)


class Timed:
    """A batch takes `fixed_s` and `token_s` a computed token, and a first one of its size more."""

    def __init__(
        self,
        spec: ModelSpec = SPEC,
        *,
        fixed_s: float = 1e-3,
        token_s: float = 1e-5,
        first_s: float = 0.5e-1,
        room: int = 1 << 20,
    ) -> None:
        self.spec = spec
        self.now_s = 0.0
        self.ran: list[tuple[int, int]] = []
        self._costs = (fixed_s, token_s, first_s)
        self._room = room

    def clock(self) -> float:
        return self.now_s

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        size = (len(rows), len(rows[0]) // 8)
        if size[0] * size[1] > self._room:
            raise DeviceMemoryExhausted
        fixed_s, token_s, first_s = self._costs
        self.now_s += fixed_s + token_s * size[0] * size[1]
        self.now_s += 0.0 if size in self.ran else first_s
        self.ran.append(size)
        return [b""] * len(rows)


def test_what_a_first_batch_sets_up_is_not_held_against_the_next() -> None:
    runner = Timed()
    model = warm_up(runner, Packing.PADDED, runner.clock)
    for rows, tokens in ((1, 64), (16, 100), (64, 200)):
        assert model.predict_s(Work.alike(rows, tokens)) == pytest.approx(
            1e-3 + 1e-5 * rows * tokens, rel=0.1
        )


def test_a_slow_model_is_not_warmed_up_for_ever() -> None:
    runner = Timed(token_s=0.01)
    warm_up(runner, Packing.PADDED, runner.clock)
    assert runner.now_s < 2 * BUDGET_S
    assert runner.ran


def test_no_row_is_longer_than_the_model_takes() -> None:
    runner = Timed(msgspec.structs.replace(SPEC, max_tokens=20))
    warm_up(runner, Packing.PADDED, runner.clock)
    assert max(tokens for _, tokens in runner.ran) == 20


def test_batches_that_do_not_fit_into_memory_are_passed_over() -> None:
    runner = Timed(room=500)
    model = warm_up(runner, Packing.PADDED, runner.clock)
    assert model.batches
    assert max(rows * tokens for rows, tokens in runner.ran) <= 500


def test_each_step_is_run_full_and_known_by_its_second_replay() -> None:
    steps = (Step(64, 8), Step(128, 8), Step(1024, 21))
    runner = Timed(msgspec.structs.replace(SPEC, packed=True, steps=steps))
    model = warm_up(runner, Packing.PACKED, runner.clock)
    assert sorted(set(runner.ran)) == [(8, 8), (8, 16), (21, 48)]
    for step, tokens in zip(steps, (64, 128, 1008), strict=True):
        work = Work.alike(step.rows, tokens // step.rows)
        assert model.predict_s(work) == pytest.approx(1e-3 + 1e-5 * tokens, rel=0.01)


class Broken(Timed):
    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        raise RuntimeError("no kernel image")


def test_a_model_that_does_not_run_is_told_at_the_start() -> None:
    runner = Broken()
    with pytest.raises(StartupError, match="1 x 16 tokens: no kernel image"):
        warm_up(runner, Packing.PADDED, runner.clock)
