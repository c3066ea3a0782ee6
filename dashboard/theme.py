"""How every plot looks: one Plotly template, for a light and for a dark page.

Series colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which stay apart for all
common kinds of colour blindness; lines that could be confused in grey differ in dash too. The
dark blue among them would be lost on a dark page, which begins with the light one.
"""

from dataclasses import dataclass

import plotly.graph_objects as go

_BLUE, _SKY = "#0072B2", "#56B4E9"
_OTHERS = ("#E69F00", "#009E73", "#CC79A7")
_LAST = ("#D55E00", "#999999")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
HEAT_SCALE = "Cividis"  # even in lightness, made for colour blindness
LIMIT_COLOUR = "#D55E00"  # SLO lines, and what is over them
PLOT_HEIGHT_PX = 280


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours that depend on the page behind the plot."""

    text: str
    quiet: str  # ticks, captions, markers of edits
    grid: str
    hover: str
    series: tuple[str, ...]


LIGHT = Palette(
    text="#1b2733",
    quiet="#66727f",
    grid="#e4e8ec",
    hover="#ffffff",
    series=(_BLUE, *_OTHERS, _SKY, *_LAST),
)
DARK = Palette(
    text="#dde4ea",
    quiet="#93a1ae",
    grid="#2b3640",
    hover="#1b232c",
    series=(_SKY, *_OTHERS, "#F0E442", *_LAST),
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
            "margin": {"l": 8, "r": 8, "t": 34, "b": 8},
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
