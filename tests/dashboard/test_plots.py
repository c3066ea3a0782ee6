"""Every plot of every page, as the browser gets it: units, limits, edits, colours."""

import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import plots
from dashboard.ports import Edit, Series
from dashboard.theme import DARK, LIGHT, palette
from tests.dashboard.fakes import NOW_S

Open = Callable[[str], AppTest]
LOOK = plots.Look(LIGHT, UTC, (Edit(NOW_S, 7),))


def charts(app: AppTest) -> list[Any]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def title(axis: dict[str, Any]) -> str:
    text: str = axis.get("title", {}).get("text", "")
    return text


@pytest.mark.parametrize(
    ("page", "count"),
    [("overview", 4), ("latency", 3), ("batching", 7), ("cost", 2), ("load_tests", 3)],
)
def test_every_axis_of_every_plot_says_what_it_is(page: str, count: int, open_page: Open) -> None:
    found = charts(open_page(page))
    assert len(found) == count
    for chart in found:
        layout = chart["layout"]
        for name in ("xaxis", "yaxis"):
            axis = layout[name]
            assert axis.get("type") == "category" or title(axis), (layout["title"]["text"], name)


def test_the_slo_is_drawn_on_latency_plots(open_page: Open) -> None:
    latency, heat, _ = charts(open_page("latency"))
    for chart in (latency, heat):
        assert "SLO interactive" in [each["text"] for each in chart["layout"]["annotations"]]
    (line,) = [each for each in latency["layout"]["shapes"] if each["y0"] == 200]
    assert line["y1"] == 200


def test_edits_are_marked_on_every_plot_over_time(open_page: Open) -> None:
    for chart in charts(open_page("overview")):
        assert "g1" in [each["text"] for each in chart["layout"]["annotations"]]


def test_lines_of_one_model_are_named_by_tier_alone() -> None:
    one, other = (Series(name, (NOW_S,), (1.0,)) for name in ("topics/bulk", "topics/interactive"))
    assert [each.name for each in plots.shortened([one, other])] == ["bulk", "interactive"]
    speech = Series("speech/bulk", (NOW_S,), (1.0,))
    assert [each.name for each in plots.shortened([one, speech])] == ["topics/bulk", "speech/bulk"]


def test_no_more_lines_than_can_be_told_apart() -> None:
    many = [Series(f"model {index}", (NOW_S,), (1.0,)) for index in range(100)]
    figure = plots.lines(LOOK, many, "many", "rows")
    looks = {(trace.line.color, trace.line.dash) for trace in figure.data}
    assert len(figure.data) == len(looks) == plots.MOST_LINES


def test_light_and_dark_pages_have_their_own_ink() -> None:
    assert palette("dark") is DARK
    assert palette(None) is palette("light") is LIGHT
