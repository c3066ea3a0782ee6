"""The benchmark of step times says how wrong predictions are, and how sure that is."""

import random
from collections.abc import Callable, Sequence

import pytest

from loadtest.bench.scenarios.step_times import StepTimesResult, drawn, measured
from predictor.core.generation import Sampled
from predictor.core.model import GenerationSpec, ModelSpec, Task
from predictor.core.rows import Piece
from predictor.core.work import NOTHING, Work

Law = Callable[[Work], float]


def linear(work: Work) -> float:
    return 0.07 + 8e-3 * work.rows + 2.6e-3 * (work.tokens - work.rows) + 8e-7 * work.pairs


def quadratic(work: Work) -> float:
    return 0.01 + 1e-3 * work.rows**2


class Machine:
    """A runner whose clock goes on by a law, and noise."""

    spec = ModelSpec(
        name="model",
        task=Task.TEXT_GENERATION,
        row_datatype="INT64",
        result_datatype="INT64",
        result_width=1,
        max_tokens=4096,
        generation=GenerationSpec(page_tokens=16, pages=1 << 16, slots=64, end_ids=()),
    )

    def __init__(self, law: Law, noise: float) -> None:
        self.now_s = 0.0
        self._law = law
        self._noise = noise
        self._random = random.Random(3)

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        work = NOTHING
        for piece in pieces:
            work = work.with_piece(piece.tokens, piece.start)
        self.now_s += self._law(work) * (1.0 + self._random.uniform(0, self._noise))
        return [Sampled(1)] * len(pieces)


def result(law: Law, noise: float) -> StepTimesResult:
    machine = Machine(law, noise)
    return measured(machine, drawn(120), clocks=(lambda: machine.now_s, lambda: machine.now_s))


@pytest.mark.parametrize(
    ("law", "noise", "held"), [(linear, 0.04, True), (linear, 1.5, False), (quadratic, 0.0, False)]
)
def test_an_error_is_the_models_or_the_machines(law: Law, noise: float, held: bool) -> None:
    table = result(law, noise).table()
    everything = table.rows[0]
    assert everything[2] == "80"
    assert (everything[-1] == "yes") == held
    error, again = (float(everything[place].removesuffix("%")) for place in (3, 5))
    if not noise:
        assert again == 0 < error
    elif held:
        assert 0 < again <= 100 * noise
        assert error <= 5
    else:
        assert again > 5
    assert sum(int(row[2]) for row in table.rows[1:4]) == 80
