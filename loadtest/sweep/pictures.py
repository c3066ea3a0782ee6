"""The charts of a sweep as PNGs, for reports. Small, and drawn without a browser."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from loadtest.sweep.cells import Cell, Grid
from loadtest.sweep.front import Latency, at_rate, front, mean_ms, p99_ms, rates_of
from loadtest.sweep.measures import MEASURES, Measure, adaptive_of, constant_of, matrix

FRONT_FILE, GRID_FILE = "front.png", "grid.png"
DPI = 80
PANEL_INCHES = (3.6, 2.7)


def write_pictures(folder: Path, cells: Sequence[Cell], grid: Grid, title: str) -> Sequence[Path]:
    """Latency over device time, and each measure over N and K. Raises OSError."""
    paths = folder / FRONT_FILE, folder / GRID_FILE
    for path, figure in zip(
        paths, (_fronts(cells, title), _grids(cells, grid, title)), strict=True
    ):
        figure.savefig(path, dpi=DPI)
    return paths


def _panels(rows: int, cols: int, title: str) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * cols, height * rows), layout="constrained")
    figure.suptitle(title, parse_math=False)  # a name may have dollars in it
    panels: Sequence[Sequence[Axes]] = figure.subplots(rows, cols, squeeze=False).tolist()
    return figure, panels


def _fronts(cells: Sequence[Cell], title: str) -> Figure:
    rates = rates_of(cells)
    figure, panels = _panels(2, len(rates), f"{title}\ncolour: N; size: K; star: adaptive")
    waits = [cell.max_wait_ms for cell in constant_of(cells)] or [0.0]
    colours = Normalize(min(waits), max(waits))
    for col, rate_per_s in enumerate(rates):
        here = at_rate(cells, rate_per_s)
        for row, (name, latency) in enumerate((("average", mean_ms), ("p99", p99_ms))):
            panel = panels[row][col]
            _front(panel, here, latency, colours)
            panel.set_title(f"{rate_per_s:g} requests/s", fontsize=9)
            panel.set_xlabel("device busy")
            panel.set_ylabel(f"{name} latency, ms")
    return figure


def _front(panel: Axes, cells: Sequence[Cell], latency: Latency, colours: Normalize) -> None:
    constant, adaptive = constant_of(cells), adaptive_of(cells)
    edge = front(constant, latency)
    panel.plot([cell.utilisation for cell in edge], [latency(cell) for cell in edge], c="0.8")
    panel.scatter(
        [cell.utilisation for cell in constant],
        [latency(cell) for cell in constant],
        c=[cell.max_wait_ms for cell in constant],
        s=[10 * (1 + np.log2(cell.max_batch_size)) for cell in constant],
        norm=colours,
        alpha=0.8,
    )
    if adaptive:
        panel.scatter(
            [adaptive.utilisation], [latency(adaptive)], marker="*", s=180, c="crimson", zorder=3
        )
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(_whole_ms)
    panel.yaxis.set_minor_formatter(_whole_ms)
    panel.tick_params(which="both", labelsize=7)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _whole_ms(value: float, _: float) -> str:
    return f"{value:,.0f}"


def _grids(cells: Sequence[Cell], grid: Grid, title: str) -> Figure:
    rates = rates_of(cells)
    figure, panels = _panels(len(MEASURES), len(rates), f"{title}\nN down, K across")
    for row, measure in enumerate(MEASURES):
        for col, rate_per_s in enumerate(rates):
            here = at_rate(cells, rate_per_s)
            adaptive = adaptive_of(here)
            star = f"; adaptive {measure.text.format(measure.value(adaptive))}" if adaptive else ""
            panels[row][col].set_title(f"{measure.title}, {rate_per_s:g}/s{star}", fontsize=8)
            _grid(panels[row][col], here, grid, measure)
    return figure


def _grid(panel: Axes, cells: Sequence[Cell], grid: Grid, measure: Measure) -> None:
    values = np.array(matrix(cells, grid, measure))
    known = values[~np.isnan(values)]
    logarithmic = measure.logarithmic and known.size > 0 and known.min() > 0
    panel.imshow(values, aspect="auto", norm=LogNorm() if logarithmic else None, alpha=0.6)
    for (down, across), value in np.ndenumerate(values):
        if not np.isnan(value):
            panel.text(across, down, measure.text.format(value), ha="center", va="center", size=8)
    panel.set_xticks(range(len(grid.sizes)), [str(size) for size in grid.sizes])
    panel.set_yticks(range(len(grid.waits_ms)), [f"{wait_ms:g}" for wait_ms in grid.waits_ms])
