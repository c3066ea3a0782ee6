"""One bad row hurts only itself: a failing batch is run again in halves.

A batch of n rows with one at fault costs about 2 * log2(n) more runs. A batch that does not
fit into device memory is halved in the same way, and the size at which it failed is reported,
so that no later batch is formed as large. A step of rows that generate is treated alike: one that
raised has advanced no row, so what is run again comes out the same.

A runner fails, too, where it does not keep its promise: too few results or too many, none at
all, results of another type or size. Nothing that it returns or raises leaves a row without an
end, and each row is run at most log2(n) + 1 times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from predictor.core.generation import Sampled
from predictor.core.model import ModelSpec
from predictor.core.rows import Packing, Piece, Row
from predictor.engine.port import AnyRunner, DeviceLost, DeviceMemoryExhausted, StepRunner
from predictor.policy.service_time import Work

ITEM_BYTES = {"INT64": 8, "FP32": 4, "INT32": 4}
MOST_CHARACTERS = 1000  # of what a model says about its failure


Part = Row | Piece  # what a batch consists of
Result = bytes | Sampled | Exception | None  # None: of a piece that samples nothing


class BrokenPromiseError(Exception):
    """The runner ended, but not with what `Runner.run` promises."""


@dataclass(slots=True)
class Ran:
    """What became of a batch: per row or piece, in order, its result or what the model raised."""

    results: list[Result]
    at_once: bool = True  # no second run was needed, so the time says what such a batch costs
    exhausted: list[Work] = field(default_factory=list)  # work that did not fit into memory


def run_isolated(
    runner: AnyRunner,
    rows: Sequence[Part],
    packing: Packing,
    first_try: Callable[[], object] | None = None,
) -> Ran:
    """Run rows, or pieces of them, together; those that fail, in halves, until the ones at fault
    stand alone.

    `first_try` gives the results of all where they are on their way already. Never raises.
    """
    exhausted = []
    try:
        results = run_parts(runner, rows, packing) if first_try is None else first_try()
        if packing is Packing.PAGED:
            return Ran(checked_step(results, rows))
        return Ran(checked(results, len(rows), runner.spec))
    except DeviceLost as error:  # whatever else runs there fails, too
        return Ran([error] * len(rows), at_once=False)
    except DeviceMemoryExhausted as error:
        exhausted.append(Work.of(rows))
        failure: Exception = error
    except Exception as error:  # whatever a model raises is that row's answer
        failure = error
    except BaseException as error:  # sys.exit() in a model must not end the device's thread
        failure = Exception(f"{type(error).__name__}: {said_by(error)}")
    if len(rows) == 1:
        return Ran([failure], at_once=False, exhausted=exhausted)
    middle = len(rows) // 2
    first = run_isolated(runner, rows[:middle], packing)
    second = run_isolated(runner, rows[middle:], packing)
    return Ran(
        [*first.results, *second.results],
        at_once=False,
        exhausted=[*exhausted, *first.exhausted, *second.exhausted],
    )


def run_parts(runner: AnyRunner, parts: Sequence[Part], packing: Packing) -> object:
    """What the runner makes of them, as it comes."""
    if isinstance(runner, StepRunner):
        return runner.run_step([part for part in parts if isinstance(part, Piece)])
    return runner.run([part.payload for part in parts if isinstance(part, Row)], packing)


def checked_step(results: object, pieces: Sequence[Part]) -> list[Result]:
    """The results of a step. Raises BrokenPromiseError where they are something else."""
    if not isinstance(results, Sequence) or len(results) != len(pieces):
        raise BrokenPromiseError(f"the runner did not return {len(pieces)} results of a step")
    for piece, result in zip(pieces, results, strict=True):
        samples = isinstance(piece, Piece) and piece.samples
        if not isinstance(result, Exception | (Sampled if samples else None)):
            raise BrokenPromiseError(
                f"the runner returned {type(result).__name__} for a piece that"
                f" {'samples' if samples else 'samples nothing'}"
            )
    return list(results)


def checked(results: object, rows: int, spec: ModelSpec) -> list[Result]:
    """The results of `rows` rows. Raises BrokenPromiseError where they are something else."""
    if not isinstance(results, Sequence):
        raise BrokenPromiseError(f"the runner returned {type(results).__name__}, not results")
    if len(results) != rows:
        raise BrokenPromiseError(f"the runner returned {len(results)} results for {rows} rows")
    taken = list(islice(results, rows))
    kinds = set(map(type, taken))
    if kinds != {bytes}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - {bytes}))
        raise BrokenPromiseError(f"the runner returned {names} where bytes are a result")
    item_bytes = ITEM_BYTES.get(spec.result_datatype, 1)
    sizes = set(map(len, taken))
    if spec.result_width and sizes != {spec.result_width * item_bytes}:
        raise BrokenPromiseError(
            f"the runner returned results of {_listed(sizes)} bytes; {spec.result_width}"
            f" {spec.result_datatype} are {spec.result_width * item_bytes}"
        )
    if any(size % item_bytes for size in sizes):
        raise BrokenPromiseError(
            f"the runner returned results of {_listed(sizes)} bytes, no whole number of"
            f" {spec.result_datatype}"
        )
    return taken


def said_by(error: BaseException) -> str:
    """What an error of a model says, on one line and of bounded length."""
    try:
        text = str(error)
    except Exception:  # an error that cannot even be written still ends its row
        text = ""
    return " ".join(text[: 4 * MOST_CHARACTERS].split())[:MOST_CHARACTERS] or type(error).__name__


def _listed(sizes: set[int]) -> str:
    some = ", ".join(map(str, sorted(sizes)[:4]))
    return some if len(sizes) <= 4 else f"{some}, …"
