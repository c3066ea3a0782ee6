"""How well the time of a step is predicted, of the default generating model on this machine's CPU.

Steps as a server plans them, drawn at random: rows that decode, chunks of prompts, both. Before
each, the service-time model says how long it will take, and then learns how long it took. The same
step is run again at once: by how much the two differ is what no model can predict.

Both are told by two clocks. What else runs on the machine makes steps longer on the wall's, and
that changes from second to second; seconds of CPU, on one thread, say what the step itself costs.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import msgspec
from msgspec import structs

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context
from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.core.work import NOTHING
from predictor.engine.port import StepRunner
from predictor.engine.step_warmup import first_pieces, warm_up_steps
from predictor.policy.service_time import ServiceTimeModel

BOUND = 0.05
STEPS_A_ROUND = 40
LEARNING = 1 / 3  # of the steps: those that the model learns from before it is judged
MOST_ROWS = 24
MOST_CONTEXT = 600
MOST_CHUNK = 128

_NOTE = (
    "The same step again, at once, is off by what its column says: the rest of an error is the"
    " model's. Where others use the machine, both grow on the wall's clock, and from minute to"
    " minute more than from a step to its repetition."
)

Parts = Sequence[tuple[int, int]]  # start and tokens of each piece
Clock = Callable[[], float]


class Step(msgspec.Struct, frozen=True):
    """Relative: `error` of the prediction, `again` how far the same step was off when repeated."""

    decodes: bool
    prefills: bool
    error: float
    again: float


class StepTimesResult(msgspec.Struct, frozen=True, kw_only=True):
    """The steps after those that the model first learned from, by each clock."""

    cpu: Sequence[Step]
    wall: Sequence[Step]
    learned_from: int

    def table(self) -> Table:
        return Table(
            title="Generation: how long a step takes",
            intro=(
                "The default `text-generation` model, SmolLM2-135M-Instruct, in float32 on one"
                f" thread: up to {MOST_ROWS} rows that decode, with up to {MOST_CONTEXT} tokens"
                " before the new one, and up to two chunks of prompts of up to"
                f" {MOST_CHUNK} tokens. The error is that of the service-time model,"
                " |predicted ÷ measured - 1|, which sees each step once, after it was measured;"
                f" the first {self.learned_from} steps are left out."
            ),
            columns=(
                *("steps", "seconds of", "number", "median error", "p90"),
                *("the same step again, median", "bound", "held"),
            ),
            rows=[
                _cells("all", "CPU", self.cpu),
                _cells("decode only", "CPU", [each for each in self.cpu if not each.prefills]),
                _cells("prompts only", "CPU", [each for each in self.cpu if not each.decodes]),
                _cells("mixed", "CPU", [e for e in self.cpu if e.decodes and e.prefills]),
                _cells("all", "the wall's clock", self.wall),
            ],
            notes=[_NOTE],
        )


def _cells(name: str, clock: str, steps: Sequence[Step]) -> Sequence[str]:
    if not steps:
        return (name, clock, "0", *["-"] * 5)
    errors = sorted(step.error for step in steps)
    error = median(errors)
    return (
        *(name, clock, f"{len(steps)}", f"{error:.1%}", f"{errors[9 * len(errors) // 10]:.1%}"),
        *(f"{median(step.again for step in steps):.1%}", f"≤ {BOUND:.0%}", verdict(error <= BOUND)),
    )


def run(context: Context) -> StepTimesResult:
    """Raises BenchError where the model cannot be loaded."""
    import torch

    from predictor.runner.generation_loading import load_generator

    context.say("step_times: loading")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = ModelSettings(name="bench", task=Task.TEXT_GENERATION, device="cpu")
        count = STEPS_A_ROUND * context.pace.rounds
        return measured(load_generator(settings), drawn(count), say=context.say)
    except StartupError as error:
        raise BenchError(str(error)) from None
    finally:
        torch.set_num_threads(threads)


def drawn(count: int, seed: int = 0) -> list[Parts]:
    """Steps, each with a piece or more."""
    rng = random.Random(seed)
    steps: list[Parts] = []
    while len(steps) < count:
        chunks = [
            (rng.choice([0, 0, rng.randint(0, MOST_CONTEXT)]), rng.randint(8, MOST_CHUNK))
            for _ in range(rng.choice([0, 0, 1, 1, 2]))
        ]
        rows = rng.choice([0, 1, 4, 8, 16, rng.randint(1, MOST_ROWS)])
        decodes = [(rng.randint(10, MOST_CONTEXT), 1) for _ in range(rows)]
        if chunks or decodes:
            steps.append([*chunks, *decodes])
    return steps


def measured(
    runner: StepRunner,
    steps: Sequence[Parts],
    *,
    clocks: tuple[Clock, Clock] = (time.process_time, time.perf_counter),
    say: Callable[[str], None] = lambda _: None,
) -> StepTimesResult:
    """Run all steps; the clocks are of CPU seconds and of the wall."""
    models = [ServiceTimeModel(Packing.PAGED) for _ in clocks]
    for clock, model in zip(clocks, models, strict=True):
        for timed in warm_up_steps(runner, clock):
            model.learn(timed.work, timed.seconds)
    found: list[tuple[Step, ...]] = []
    for number, parts in enumerate(steps):
        if number % STEPS_A_ROUND == 0:
            say(f"step_times: {number} of {len(steps)} steps")
        found.append(tuple(_judged(runner, parts, clocks, models)))
    first = int(LEARNING * len(steps))
    cpu, wall = zip(*found[first:], strict=True)
    return StepTimesResult(cpu=cpu, wall=wall, learned_from=first)


def _judged(
    runner: StepRunner, parts: Parts, clocks: Sequence[Clock], models: Sequence[ServiceTimeModel]
) -> Iterable[Step]:
    limits = runner.spec.generation
    assert limits is not None
    first = first_pieces(runner.spec.name, parts, limits)
    pieces = [structs.replace(piece, pages=(), fresh=False) for piece in first]
    work = NOTHING
    for start, tokens in parts:
        work = work.with_piece(tokens, start)
    runner.run_step(first)
    times = []
    for _ in range(2):
        began = [clock() for clock in clocks]
        runner.run_step(pieces)
        times.append([clock() - start for clock, start in zip(clocks, began, strict=True)])
    for model, seconds, again_s in zip(models, *times, strict=True):
        yield Step(
            decodes=any(tokens == 1 for _, tokens in parts),
            prefills=any(tokens > 1 for _, tokens in parts),
            error=abs(model.predict_s(work) / seconds - 1.0),
            again=abs(again_s / seconds - 1.0),
        )
        model.learn(work, seconds)
