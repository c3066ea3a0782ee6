"""Plotly figures from what the ports tell. Every axis has its unit; edits and SLOs are marked.

Names are other people's words: each passes `plot_text` where it enters a figure.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dashboard.ports import Edit, Heatmap, Series, StageBreakdown
from dashboard.theme import (
    DASHES,
    HEAT_SCALE,
    PLOT_HEIGHT_PX,
    Palette,
    template,
)
from dashboard.views.literal import plot_text

MOST_EDITS = 50  # markers on one plot, the newest
MOST_LINES = 20  # series on one plot; more could not be told apart
LABELLED_TICKS = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What all plots of a page share."""

    palette: Palette
    zone: tzinfo
    edits: Sequence[Edit] = ()
    height_px: int = PLOT_HEIGHT_PX

    def figure(self, title: str, y_title: str, *, over_time: bool = True) -> go.Figure:
        figure = go.Figure()
        figure.update_layout(
            template=template(self.palette),
            title=plot_text(title),
            yaxis_title=plot_text(y_title),
            height=self.height_px,
        )
        if over_time:
            figure.update_layout(xaxis={"title": f"time ({_zone_name(self.zone)})", "type": "date"})
            self._mark_edits(figure)
        return figure

    def inks(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Colour and dash for each name: the colour of what it means (`model/tier` means the tier),
        else one that means nothing. Names of the same colour differ in dash."""
        found: list[dict[str, str]] = []
        without_meaning = 0
        for name in names:
            colour = self.palette.meanings.get(name.rpartition("/")[2])
            if colour is None:
                colour = self.palette.series[without_meaning % len(self.palette.series)]
                without_meaning += 1
            alike = sum(each["color"] == colour for each in found)
            found.append({"color": colour, "dash": DASHES[alike % len(DASHES)]})
        return found

    def times(self, times_s: Iterable[float]) -> list[datetime]:
        # Plotly shows what it is given: without the zone, in the reader's local time.
        return [datetime.fromtimestamp(each, self.zone).replace(tzinfo=None) for each in times_s]

    def _mark_edits(self, figure: go.Figure) -> None:
        for edit in sorted(self.edits, key=lambda each: each.time_s)[-MOST_EDITS:]:
            (at,) = self.times([edit.time_s])
            figure.add_shape(
                type="line",
                x0=at,
                x1=at,
                y0=0,
                y1=1,
                yref="paper",
                line={"color": self.palette.quiet, "width": 1, "dash": "dot"},
            )
            figure.add_annotation(
                x=at,
                y=1,
                yref="paper",
                text=f"g{edit.generation}",
                hovertext=plot_text(
                    f"generation {edit.generation} came into force"
                    + (f", {edit.note}" if edit.note else "")
                ),
                showarrow=False,
                xanchor="center",
                yanchor="bottom",  # above the plot: within it, a heat map would hide it
                font={"size": 10, "color": self.palette.quiet},
            )


def lines(
    look: Look,
    series: Sequence[Series],
    title: str,
    y_title: str,
    *,
    scale: float = 1.0,
    limits: Mapping[str, float] | None = None,
    stacked: bool = False,
    share: bool = False,
    top: float | None = None,
) -> go.Figure:
    """`scale`: from the port's unit to the axis's. `limits`: dashed lines, in the axis's unit.
    `top`: of the axis, where what is missing to it matters too."""
    figure = look.figure(title, y_title)
    kept = shortened(series)[:MOST_LINES]
    value = "%{y:.1%}" if share else f"%{{y:,.4~g}} {_hover_text(unit_of(y_title))}"
    for each, ink in zip(kept, look.inks([each.name for each in kept]), strict=True):
        figure.add_scatter(
            x=look.times(each.times_s),
            y=[value * scale for value in each.values],
            name=plot_text(each.name),
            mode="lines",
            line={"width": 1 if stacked else 2, **ink},
            stackgroup="all" if stacked else None,
            hovertemplate=value,
        )
    for name, limit in (limits or {}).items():
        limit_line(look, figure, name, limit)
    figure.update_layout(showlegend=len(series) > 1, hovermode="x unified")
    if share:
        figure.update_layout(yaxis={"tickformat": "~%"})
    if top is not None:
        figure.update_layout(yaxis={"range": [0, 1.02 * top]})
    return figure


def renamed(series: Series, what: str) -> Series:
    """The same line, told apart from another of the same group."""
    return replace(series, name=f"{series.name} {what}")


def shortened(series: Sequence[Series]) -> Sequence[Series]:
    """`model/tier` as the tier alone, where all are of one model: legends are narrow."""
    models = {each.name.partition("/")[0] for each in series if "/" in each.name}
    if len(models) != 1:
        return series
    return [replace(each, name=each.name.partition("/")[2] or each.name) for each in series]


def unit_of(axis: str) -> str:
    """ "latency (ms)" is in "ms", "rows" in "rows"."""
    _, bracket, unit = axis.rstrip(")").rpartition("(")
    return unit if bracket else axis


def _hover_text(text: str) -> str:
    """Within a template, where a brace begins a value."""
    return plot_text(text).replace("{", "&#123;")


def limit_line(look: Look, figure: go.Figure, name: str, value: float) -> None:
    """In the colour of text: those of lines mean something else."""
    figure.add_hline(
        y=value,
        line={"color": look.palette.text, "width": 1.5, "dash": "dash"},
        annotation={"text": plot_text(name), "font": {"size": 10, "color": look.palette.text}},
        annotation_position="top left",
    )


def heat(
    look: Look,
    found: Heatmap,
    title: str,
    y_title: str,
    *,
    scale: float = 1.0,
    limits: Mapping[str, float] | None = None,
) -> go.Figure:
    """Bins grow in proportion, so they are rows of equal height, labelled by their lower edge."""
    figure = look.figure(title, y_title)
    bins = len(found.counts)
    figure.add_heatmap(
        x=look.times(found.times_s),
        y=list(range(bins)),
        z=[[count or None for count in row] for row in found.counts],
        colorscale=HEAT_SCALE,
        colorbar={"title": {"text": "per s", "side": "right"}, "thickness": 10},
        customdata=[
            [f"{low * scale:.4g} to {high * scale:.4g}"] * len(found.times_s)
            for low, high in zip(found.edges, found.edges[1:], strict=False)
        ],
        hovertemplate="%{x}<br>%{customdata}<br>%{z:.3g} per s<extra></extra>",
    )
    every = max(1, -(-bins // LABELLED_TICKS))
    ticks = list(range(0, bins, every))
    figure.update_layout(
        yaxis={
            "tickvals": [tick - 0.5 for tick in ticks],
            "ticktext": [_edge(found.edges[tick] * scale, found.unit) for tick in ticks],
            "range": [-0.5, max(bins, 1) - 0.5],
        }
    )
    for name, limit in (limits or {}).items():
        at = bin_of(limit / scale, found.edges)
        if at is not None:
            limit_line(look, figure, name, at)
    return figure


def bin_of(value: float, edges: Sequence[float]) -> float | None:
    """Where a value stands on an axis of bins, whose middles are whole numbers; None outside.

    Within a bin, in proportion, as bins grow: of edges at 173 and 208, 200 stands near the upper.
    """
    for place, (low, high) in enumerate(pairwise(edges)):
        if low <= value <= high:
            part = math.log(value / low) / math.log(high / low) if low > 0 else value / high
            return place - 0.5 + part
    return None


def stage_bars(look: Look, groups: Sequence[StageBreakdown], title: str) -> go.Figure:
    """A bar for each group, its mean time split into stages, in order."""
    figure = look.figure(title, "", over_time=False)
    names = list(dict.fromkeys(each.stage for group in groups for each in group.stages))
    for name, ink in zip(names, look.inks(names), strict=True):
        figure.add_bar(
            y=[plot_text(group.group) for group in groups],
            x=[
                sum((each.mean_s or 0.0) * 1e3 for each in group.stages if each.stage is name)
                for group in groups
            ],
            name=name.value,
            orientation="h",
            marker={"color": ink["color"]},
            hovertemplate="%{y}: %{x:.2f} ms<extra>" + name.value + "</extra>",
        )
    figure.update_layout(
        barmode="stack",
        xaxis_title="mean time of a request (ms)",
        yaxis={"type": "category", "autorange": "reversed"},
    )
    return figure


def part_bars(
    look: Look, bars: Mapping[str, Mapping[str, float]], title: str, y_title: str
) -> go.Figure:
    """A stacked bar for each key, split into its parts."""
    figure = look.figure(title, y_title, over_time=False)
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    for part, ink in zip(parts, look.inks(parts), strict=True):
        figure.add_bar(
            x=[plot_text(bar) for bar in bars],
            y=[bar.get(part, 0.0) for bar in bars.values()],
            name=plot_text(part),
            hovertemplate="%{x}: %{y:,.4~g} " + _hover_text(unit_of(y_title)),
            marker={"color": ink["color"]},
        )
    figure.update_layout(barmode="stack", xaxis={"type": "category"})
    return figure


def grouped_bars(
    look: Look,
    groups: Sequence[str],
    bars: Mapping[str, Sequence[float | None]],
    title: str,
    y_title: str,
) -> go.Figure:
    """For each group, a bar of each name beside the others."""
    figure = look.figure(title, y_title, over_time=False)
    shown = [plot_text(group) for group in groups]
    inks = look.inks(list(bars))
    for (name, values), ink in zip(bars.items(), inks, strict=True):
        figure.add_bar(
            x=shown,
            y=list(values),
            name=plot_text(name),
            hovertemplate="%{x}: %{y:,.4~g} " + _hover_text(unit_of(y_title)),
            marker={"color": ink["color"]},
        )
    # Else a run's name, which begins with a date, might be taken for one.
    figure.update_layout(barmode="group", xaxis={"type": "category", "tickangle": 0})
    figure.update_xaxes(ticktext=[_broken(group) for group in shown], tickvals=shown)
    # Above, beside the title: below are names of several lines.
    figure.update_layout(
        legend={"x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}, margin={"t": 60}
    )
    return figure


def curves(
    look: Look,
    named: Mapping[str, tuple[Sequence[Any], Sequence[float | None]]],
    title: str,
    x_title: str,
    y_title: str,
    *,
    front: tuple[Sequence[Any], Sequence[float | None]] | None = None,
) -> go.Figure:
    """Lines with points over anything that is not time. With a `front`, that is the only line."""
    figure = look.figure(title, y_title, over_time=False)
    inks = look.inks(list(named))
    for (name, (along, up)), ink in zip(named.items(), inks, strict=True):
        figure.add_scatter(
            x=list(along),
            y=list(up),
            name=plot_text(name),
            mode="lines+markers" if front is None else "markers",
            line=ink,
            marker={"color": ink["color"], "size": 7},
            hovertemplate=(
                f"%{{x:,.4~g}} {_hover_text(unit_of(x_title))},"
                f" %{{y:,.4~g}} {_hover_text(unit_of(y_title))}"
            ),
        )
    if front is not None:
        along, up = front
        figure.add_scatter(
            x=list(along),
            y=list(up),
            name="front",
            mode="lines",
            line={"color": look.palette.text, "dash": "dot", "width": 1.5},
            hoverinfo="skip",
        )
    figure.update_layout(xaxis_title=plot_text(x_title), showlegend=len(figure.data) > 1)
    return figure


def _edge(value: float, unit: str) -> str:
    if unit != "s" and value < 1:
        return ""  # half a row is there for the arithmetic alone
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _broken(name: str) -> str:
    """A long name on several lines: slanted, it would run into the legend."""
    return re.sub(r"(?<=\d)(?=T\d{6}Z)|(?<=Z)-| ", "<br>", name)


def _zone_name(zone: tzinfo) -> str:
    return str(getattr(zone, "key", zone))
