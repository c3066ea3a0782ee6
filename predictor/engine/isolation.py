"""One bad row hurts only itself: a failing batch is run again in halves.

A batch of n rows with one at fault costs about 2 * log2(n) more runs. A batch that does not
fit into device memory is halved in the same way, and the size at which it failed is told,
so that no later batch is formed as large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from predictor.core.rows import Packing, Row
from predictor.engine.port import DeviceLost, DeviceMemoryExhausted, Runner
from predictor.policy.service_time import Work


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

    `first_try` gives the results of all rows where they are on their way already.
    """
    try:
        if first_try is not None:
            return Ran(list(first_try()))
        return Ran(list(runner.run([row.payload for row in rows], packing)))
    except DeviceLost as error:  # whatever else runs there fails, too
        return Ran([error] * len(rows), at_once=False)
    except DeviceMemoryExhausted as error:
        exhausted, failure = [Work.of(rows)], Exception(str(error) or "out of device memory")
    except Exception as error:  # whatever a model raises is that row's answer
        exhausted, failure = [], error
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
