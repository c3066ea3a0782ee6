"""What the charts of a sweep show, the same on the page and in the pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from loadtest.sweep.cells import Cell, Grid
from predictor.core.parameters import Policy


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a cell. `text` is a cell's label."""

    title: str
    value: Callable[[Cell], float]
    text: str  # a format
    logarithmic: bool = False  # its colours


MEASURES = (
    Measure("average latency, ms", lambda cell: cell.mean_ms, "{:.0f}", logarithmic=True),
    Measure("p99 latency, ms", lambda cell: cell.p99_ms, "{:.0f}", logarithmic=True),
    Measure("device busy", lambda cell: cell.utilisation, "{:.0%}"),
    Measure("throughput, requests/s", lambda cell: cell.throughput_per_s, "{:.0f}"),
    Measure("padding share", lambda cell: cell.padding_share, "{:.0%}"),
    Measure("cost per 1,000", lambda cell: cell.cost_per_1000, "{:.4f}"),
)


def matrix(cells: Sequence[Cell], grid: Grid, measure: Measure) -> list[list[float]]:
    """Of the constant settings at one rate: a row for each wait, a column for each size.

    NaN where a cell was not measured, or nothing was answered.
    """
    found = {
        (cell.max_wait_ms, cell.max_batch_size): measure.value(cell)
        for cell in cells
        if cell.policy is Policy.CONSTANT and cell.answered
    }
    return [[found.get((wait_ms, size), nan) for size in grid.sizes] for wait_ms in grid.waits_ms]


def adaptive_of(cells: Sequence[Cell]) -> Cell | None:
    """The adaptive cell among those of one rate, if it answered anything."""
    return next((cell for cell in cells if cell.policy is Policy.ADAPTIVE and cell.answered), None)


def constant_of(cells: Sequence[Cell]) -> Sequence[Cell]:
    return [cell for cell in cells if cell.policy is Policy.CONSTANT and cell.answered]
