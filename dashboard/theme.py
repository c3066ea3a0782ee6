"""How every plot looks: one Plotly template, for a light and for a dark page.

One colour means one thing on all pages: a tier, a pool, an end of requests, a share of devices.
They are of Okabe and Ito (jfly.uni-koeln.de/color) where there is one, and those that share a
plot stay apart for all common kinds of colour blindness. Whatever has no meaning of its own
(models, stages, quantiles, runs) has colours that mean nothing, of Paul Tol
(personal.sron.nl/~pault); lines of the same colour differ in dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
HEAT_SCALE = "Cividis"  # even in lightness, made for colour blindness
PLOT_HEIGHT_PX = 280


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours that depend on the page behind the plot."""

    text: str  # and lines of SLOs
    quiet: str  # ticks, captions, markers of edits
    grid: str
    hover: str
    meanings: Mapping[str, str]  # by name: of a tier, a pool, an outcome, a share
    series: tuple[str, ...]  # without a meaning


_BOTH = {
    "bulk": "#E69F00",
    "in time": "#009E73",
    "refused": "#CC79A7",
    "failed": "#D55E00",
    "on-demand": "#AA4499",
    "idle": "#BBBBBB",
}
LIGHT = Palette(
    text="#1b2733",
    quiet="#66727f",
    grid="#e4e8ec",
    hover="#ffffff",
    meanings={
        **_BOTH,
        "interactive": "#0072B2",
        "late": "#56B4E9",
        "given up": "#882255",
        "busy": "#3A3A3A",
        "useful": "#8C8C8C",
        "spot": "#44AA99",
        "padding": "#DDCC77",
    },
    series=("#332288", "#88CCEE", "#999933", "#CC6677", "#117733", "#661100", "#6699CC"),
)
DARK = Palette(
    text="#dde4ea",
    quiet="#93a1ae",
    grid="#2b3640",
    hover="#1b232c",
    meanings={
        **_BOTH,
        "interactive": "#56B4E9",
        "late": "#F0E442",
        "given up": "#FFAABB",
        "busy": "#E8E8E8",
        "useful": "#8C8C8C",
        "spot": "#44AA99",
        "padding": "#DDCC77",
    },
    series=("#77AADD", "#99DDFF", "#BBCC33", "#EE8866", "#44BB99", "#EEDD88", "#AAAA00"),
)


def palette(theme_type: str | None) -> Palette:
    """`theme_type`: "light" or "dark", as the browser tells; None counts as light."""
    return DARK if theme_type == "dark" else LIGHT


def template(colours: Palette) -> go.layout.Template:
    axis = {
        "gridcolor": colours.grid,
        "zeroline": False,
        "linecolor": colours.grid,
        "tickfont": {"color": colours.quiet, "size": 11},
        "title": {"font": {"color": colours.quiet, "size": 12}, "standoff": 6},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"color": colours.text, "size": 12},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": colours.series,
            "margin": {"l": 8, "r": 8, "t": 40, "b": 8},  # above: the title, then markers of edits
            "title": {"font": {"size": 13}, "x": 0, "xanchor": "left", "y": 0.98, "yanchor": "top"},
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": -0.3,  # below the title of the time axis
                "yanchor": "top",
                "font": {"size": 11},
                "traceorder": "normal",  # as they are stacked, also where Plotly would turn it
            },
            "hoverlabel": {"bgcolor": colours.hover, "font": {"color": colours.text}},
            "xaxis": axis,
            "yaxis": {**axis, "rangemode": "tozero"},
            "colorscale": {"sequential": HEAT_SCALE},
        }
    )


TILES = (
    "tiles"  # containers whose keys begin so hold numbers, as many in a row as there is room for
)
FILL = "fill"  # begins the key of a container that takes the height that a tall screen has left
UPDATED = "updated"  # the key of the container that says when a page was drawn

# Streamlit leaves 6 rem above and between; an overview must fit on one screen.
PAGE_STYLE = """
.stMainBlockContainer { padding: 4.2rem 1.5rem 1rem; }
[data-testid="stVerticalBlock"] { gap: 0.5rem; }
[data-testid="stMetricValue"] { font-size: 1.35rem; }
[data-testid="stMetric"] { padding: 0.35rem 0.5rem !important; }
[data-testid="stMetric"] > div { padding: 0 !important; }
[data-testid="stMetricLabel"] p { font-size: 0.8rem; }
[class*="st-key-tiles"] {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(9.6rem, 1fr)); gap: 0.4rem;
}
[data-testid="stLayoutWrapper"]:has(> [class*="st-key-fill-"]), [class*="st-key-fill-"] {
    height: max(270px, calc(100vh - 33.5rem)) !important;
    flex: 0 0 max(270px, calc(100vh - 33.5rem)) !important; overflow: visible;
}
.stMainBlockContainer { position: relative; }
[data-testid="stLayoutWrapper"]:has(> .st-key-updated) {
    position: absolute; top: 5.75rem; left: 1.5rem; width: auto;
}
@media (max-width: 800px) {
    [data-testid="stLayoutWrapper"]:has(> .st-key-updated) { position: static; }
}
[data-testid="stLayoutWrapper"]:has(> .st-key-tuning-actions) {
    position: sticky; bottom: 0; z-index: 50; background: Canvas;
}
.st-key-tuning-actions { padding: 0.4rem 0; }
[data-testid="stMetricDelta"] { font-size: 0.75rem; padding: 0 0.3rem; }
"""

# What is not of now must not pass for it.
AGED_STYLE = """
.stPlotlyChart, [data-testid="stMetric"], [data-testid="stDataFrame"] {
    filter: grayscale(1); opacity: 0.55;
}
"""
