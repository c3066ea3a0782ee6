"""sweep.html: the charts of a sweep to look into, in one page that needs no network."""

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from loadtest.sweep.cells import Cell, Grid
from loadtest.sweep.front import Latency, at_rate, front, mean_ms, p99_ms, rates_of
from loadtest.sweep.measures import MEASURES, Measure, adaptive_of, constant_of, matrix

ROW_PX = 340
STAR = {"symbol": "star", "size": 16, "color": "crimson", "line": {"width": 1, "color": "white"}}
HEADING = "<!doctype html><html><head><meta charset='utf-8'><title>{0}</title></head><body>"


def write_page(path: Path, cells: Sequence[Cell], grid: Grid, title: str) -> None:
    """Raises OSError where it cannot be written."""
    title = html.escape(title, quote=False)  # HTML, and what Plotly takes for it
    figures = [_latency_over_utilisation(cells, title)]
    figures += [_over_grid(cells, grid, measure) for measure in MEASURES]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures)
    ]
    path.write_text("\n".join([HEADING.format(title), *parts, "</body></html>"]))


def _titles(rates: Sequence[float]) -> list[str]:
    return [f"{rate_per_s:g} requests/s" for rate_per_s in rates]


def _latency_over_utilisation(cells: Sequence[Cell], title: str) -> go.Figure:
    rates = rates_of(cells)
    figure = make_subplots(
        rows=2,
        cols=len(rates),
        subplot_titles=_titles(rates),
        row_titles=["average latency, ms", "p99 latency, ms"],
    )
    for col, rate_per_s in enumerate(rates, start=1):
        here = at_rate(cells, rate_per_s)
        for row, latency in enumerate((mean_ms, p99_ms), start=1):
            for trace in _points(here, latency):
                figure.add_trace(trace, row=row, col=col)
    figure.update_yaxes(type="log")
    figure.update_xaxes(tickformat=".0%", title="device busy")
    figure.update_layout(
        title=f"{title}: colour is N, size is K, the star is adaptive, the line the front",
        template="plotly_white",
        height=2 * ROW_PX,
    )
    return figure


def _points(cells: Sequence[Cell], latency: Latency) -> Iterator[go.Scatter]:
    """At one rate: the front, the constant settings, and adaptive."""
    constant, adaptive = constant_of(cells), adaptive_of(cells)
    edge = front(constant, latency)
    yield go.Scatter(
        x=[cell.utilisation for cell in edge],
        y=[latency(cell) for cell in edge],
        mode="lines",
        line={"color": "lightgrey"},
        showlegend=False,
        hoverinfo="skip",
    )
    marker = {
        "color": [cell.max_wait_ms for cell in constant],
        "colorscale": "Viridis",
        "size": [5 + 2 * np.log2(cell.max_batch_size) for cell in constant],
    }
    shown: list[tuple[Sequence[Cell], Mapping[str, object]]] = [(constant, marker)]
    if adaptive:
        shown.append(([adaptive], STAR))
    for group, look in shown:
        yield go.Scatter(
            x=[cell.utilisation for cell in group],
            y=[latency(cell) for cell in group],
            text=[_hover(cell) for cell in group],
            mode="markers",
            marker=look,
            showlegend=False,
        )


def _over_grid(cells: Sequence[Cell], grid: Grid, measure: Measure) -> go.Figure:
    rates = rates_of(cells)
    titles = []
    for rate_per_s, text in zip(rates, _titles(rates), strict=True):
        adaptive = adaptive_of(at_rate(cells, rate_per_s))
        star = f", adaptive {measure.text.format(measure.value(adaptive))}" if adaptive else ""
        titles.append(text + star)
    figure = make_subplots(cols=len(rates), subplot_titles=titles)
    for col, rate_per_s in enumerate(rates, start=1):
        values = np.array(matrix(at_rate(cells, rate_per_s), grid, measure))
        labels = [
            ["" if np.isnan(value) else measure.text.format(value) for value in row]
            for row in values
        ]
        figure.add_trace(
            go.Heatmap(
                x=[str(size) for size in grid.sizes],
                y=[f"{wait_ms:g}" for wait_ms in grid.waits_ms],
                z=np.log10(np.maximum(values, 1e-9)) if measure.logarithmic else values,
                text=labels,
                texttemplate="%{text}",
                hovertemplate="K %{x}, N %{y} ms: %{text}<extra></extra>",
                colorscale="Viridis",
                showscale=False,
            ),
            row=1,
            col=col,
        )
    figure.update_xaxes(title="K, max_batch_size")
    figure.update_yaxes(title="N, max_wait_ms", col=1)
    figure.update_layout(title=measure.title, template="plotly_white", height=ROW_PX)
    return figure


def _hover(cell: Cell) -> str:
    return (
        f"{cell.setting}<br>p50 {cell.p50_ms:.1f} ms, p99 {cell.p99_ms:.1f} ms"
        f"<br>{cell.goodput_per_s:.1f}/s in time, {cell.mean_batch_rows:.1f} rows a batch"
    )
