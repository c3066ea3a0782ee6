"""One bad row hurts only itself: a failing batch is run again in halves.

A batch of n rows with one at fault costs about 2 * log2(n) more runs. A batch that does not
fit into device memory is halved in the same way, and the size at which it failed is reported,
so that no later batch is formed as large.

A runner fails, too, where it does not keep its promise: too few results or too many, none at
all, results of another type or size. Nothing that it returns or raises leaves a row without an
end, and each row is run at most log2(n) + 1 times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing, Row
from predictor.engine.port import DeviceLost, DeviceMemoryExhausted, Runner
from predictor.policy.service_time import Work

ITEM_BYTES = {"INT64": 8, "FP32": 4, "INT32": 4}
MOST_CHARACTERS = 1000  # of what a model says about its failure


class BrokenPromiseError(Exception):
    """The runner ended, but not with what `Runner.run` promises."""


@dataclass(slots=True)
class Ran:
    """What became of a batch: per row, in order, its result or what the model raised."""

    results: list[bytes | Exception]
    at_once: bool = True  # no second run was needed, so the time says what such a batch costs
    exhausted: list[Work] = field(default_factory=list)  # work that did not fit into memory


def run_isolated(
    runner: Runner,
    rows: Sequence[Row],
    packing: Packing,
    first_try: Callable[[], Sequence[bytes]] | None = None,
) -> Ran:
    """Run rows together; those that fail, in halves, until the ones at fault stand alone.

    `first_try` gives the results of all rows where they are on their way already. Never raises.
    """
    exhausted = []
    try:
        if first_try is not None:
            return Ran(checked(first_try(), len(rows), runner.spec))
        results = runner.run([row.payload for row in rows], packing)
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


def checked(results: object, rows: int, spec: ModelSpec) -> list[bytes | Exception]:
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
