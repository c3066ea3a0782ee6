"""The first steps of a model that generates: they warm the device up and show how long steps take.

A grid of steps of rows that decode and of chunks of prompts, each with little and much before it,
so that the features of a step's time (rows, tokens, context, tokens times context) can be told
apart. What the rows would have computed before is not: attention takes as long over any numbers.
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from predictor.core.errors import StartupError
from predictor.core.generation import GREEDY, Sampling
from predictor.core.model import GenerationSpec
from predictor.core.rows import Piece, Progress, Row
from predictor.core.work import Work
from predictor.engine.port import DeviceMemoryExhausted, StepRunner

_LOG = logging.getLogger("headway.engine")

BUDGET_S = 3.0


@dataclass(frozen=True, slots=True)
class Shape:
    """`decoding` rows with `context` positions before their new one, and a chunk of a prompt."""

    decoding: int
    context: int
    chunk: int = 0
    chunk_start: int = 0

    @property
    def tokens(self) -> int:
        return self.decoding + self.chunk

    @property
    def parts(self) -> Sequence[tuple[int, int]]:
        """Start and tokens of each piece."""
        chunk = [(self.chunk_start, self.chunk)] if self.chunk else []
        return [*chunk, *[(self.context, 1)] * self.decoding]

    @property
    def work(self) -> Work:
        work = Work(0, 0, 0, 0)
        for start, tokens in self.parts:
            work = work.with_piece(tokens, start)
        return work


GRID = (
    *(Shape(1, 15), Shape(4, 63), Shape(1, 1023), Shape(16, 63), Shape(0, 0, 16)),
    *(
        Shape(0, 0, 64),
        Shape(16, 511),
        Shape(4, 127, 32, 64),
        Shape(64, 127),
        Shape(0, 0, 128, 896),
    ),
    *(Shape(32, 255, 128, 128), Shape(64, 1023), Shape(0, 0, 512), Shape(256, 255)),
)


@dataclass(frozen=True, slots=True, eq=False)
class TimedStep:
    """Steps like this one took `seconds`."""

    pieces: Sequence[Piece]
    work: Work
    seconds: float


def warm_up_steps(
    runner: StepRunner, clock: Callable[[], float] = time.monotonic
) -> Iterator[TimedStep]:
    """Run the grid within a time budget, what does not fit into the model left out.

    Each step is run twice and the second time counts: the first sets libraries up. Raises
    StartupError if the model fails on a plain step.
    """
    spec = runner.spec
    limits = spec.generation
    assert limits is not None
    began_s = clock()
    per_token_s = 0.0  # of the step before
    for shape in GRID:
        if not _fits(shape, limits, spec.max_tokens):
            continue
        if clock() - began_s + 2 * per_token_s * shape.tokens > BUDGET_S:
            continue
        first = first_pieces(spec.name, shape.parts, limits)
        again = [structs.replace(piece, pages=(), fresh=False) for piece in first]
        try:
            _seconds(runner, first, clock)
            seconds = _seconds(runner, again, clock)
        except DeviceMemoryExhausted:
            _LOG.warning("%s: no memory for a step of %d tokens", spec.name, shape.tokens)
            continue
        per_token_s = seconds / shape.tokens
        yield TimedStep(again, shape.work, seconds)


def _fits(shape: Shape, limits: GenerationSpec, max_tokens: int) -> bool:
    parts = shape.parts
    pages = sum(-(-(start + tokens) // limits.page_tokens) for start, tokens in parts)
    longest = max(start + tokens for start, tokens in parts)
    return longest <= max_tokens and len(parts) <= limits.slots and pages <= limits.pages


def first_pieces(
    model: str, parts: Sequence[tuple[int, int]], limits: GenerationSpec
) -> list[Piece]:
    """The step of rows that are new to their slots. `parts`: start and tokens of each piece."""
    pieces, taken = [], 0
    for slot, (start, tokens) in enumerate(parts):
        end = start + tokens
        progress = Progress(Sampling(max_tokens=1, temperature=GREEDY), prefill=end)
        payload = (array("q", [0]) * end).tobytes()
        row = Row(model, "", end, 0.0, payload=payload, progress=progress)
        pages = range(taken, taken + -(-end // limits.page_tokens))
        taken = pages.stop
        pieces.append(Piece(row, slot, start, tokens, pages, fresh=True, samples=True))
    return pieces


def _seconds(runner: StepRunner, pieces: Sequence[Piece], clock: Callable[[], float]) -> float:
    started_s = clock()
    try:
        runner.run_step(pieces)
    except DeviceMemoryExhausted:
        raise
    except Exception as error:
        raise StartupError(
            f"model {runner.spec.name!r} fails on a step of {len(pieces)} rows: {error}"
        ) from None
    return clock() - started_s
