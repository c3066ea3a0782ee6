"""Every plot of every page, as the browser gets it: units, limits, edits, colours."""

import json
import math
from collections.abc import Callable
from datetime import UTC
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import plots
from dashboard.ports import Edit, Heatmap, Series
from dashboard.theme import DARK, LIGHT, Palette, palette
from tests.dashboard.fakes import NOW_S, FakeParts

Open = Callable[[str], AppTest]
LOOK = plots.Look(LIGHT, UTC, (Edit(NOW_S, 7),))


def charts(app: AppTest) -> list[Any]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def title(axis: dict[str, Any]) -> str:
    text: str = axis.get("title", {}).get("text", "")
    return text


@pytest.mark.parametrize(
    ("page", "count"),
    [("overview", 4), ("latency", 3), ("batching", 7), ("cost", 4), ("load_tests", 3)],
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


# how a colour looks to those who see no red, no green, no blue (Machado and others, 2009)
_SEEN = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
TOGETHER = (  # on one plot
    ("interactive", "bulk"),
    ("in time", "late", "refused", "failed", "given up"),
    ("busy", "useful"),
    ("interactive", "bulk", "padding", "idle"),
    ("spot", "on-demand"),
)
LEAST_APART = 10.0  # a difference of 2 is just seen side by side


def lab(colour: str, seen: str) -> np.ndarray:
    part = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(_SEEN[seen]) @ linear, 0.0, 1.0)
    xyz = np.array(_TO_XYZ) @ linear / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("seen", _SEEN)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_what_shares_a_plot_stays_apart_for_everyone(colours: Palette, seen: str) -> None:
    for names in TOGETHER:
        for one, other in combinations(names, 2):
            pair = [lab(colours.meanings[name], seen) for name in (one, other)]
            assert np.linalg.norm(pair[0] - pair[1]) >= LEAST_APART, (one, other)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_one_colour_means_one_thing(colours: Palette) -> None:
    used = [*colours.meanings.values(), *colours.series]
    assert len(used) == len(set(used))


def test_a_tier_has_its_colour_on_every_page_and_plot(open_page: Open, fakes: FakeParts) -> None:
    del fakes
    seen: dict[str, set[str]] = {}
    for page in ("overview", "latency", "cost"):
        for chart in charts(open_page(page)):
            for trace in chart["data"]:
                ink = trace.get("line", {}).get("color") or trace.get("marker", {}).get("color")
                if trace.get("name") in ("interactive", "bulk"):
                    seen.setdefault(trace["name"], set()).add(ink)
    assert seen == {name: {LIGHT.meanings[name]} for name in ("interactive", "bulk")}


def test_two_models_of_a_tier_differ_in_dash() -> None:
    first, second, third = LOOK.inks(["topics/bulk", "speech/bulk", "queue"])
    assert first["color"] == second["color"] == LIGHT.meanings["bulk"]
    assert first["dash"] != second["dash"]
    assert third["color"] in LIGHT.series


@pytest.mark.parametrize(
    ("value", "place"),
    [(1.0, -0.5), (2.0, 0.5), (4.0, 1.5), (2.0**0.5, 0.0), (2.0**1.5, 1.0), (5.0, None)],
)
def test_a_limit_stands_where_it_is_between_the_edges(value: float, place: float | None) -> None:
    assert plots.bin_of(value, (1.0, 2.0, 4.0)) == (None if place is None else pytest.approx(place))


def test_the_slo_of_the_heat_map_is_at_the_slo() -> None:
    found = Heatmap("s", (NOW_S,), (0.1, 0.173, 0.208, 0.25), ((1.0,), (2.0,), (3.0,)))
    figure = plots.heat(LOOK, found, "heat", "ms", scale=1e3, limits={"SLO": 200.0})
    (line,) = [each for each in figure.layout.shapes if each.type == "line" and each.y0 == each.y1]
    low, high = math.log(173), math.log(208)
    assert line.y0 == pytest.approx(0.5 + (math.log(200) - low) / (high - low))


def test_hover_tells_the_value_with_its_unit_and_no_template_of_others() -> None:
    series = [Series("bulk", (NOW_S,), (1.0,))]
    assert plots.lines(LOOK, series, "t", "time (ms)").data[0].hovertemplate == "%{y:,.4~g} ms"
    assert plots.lines(LOOK, series, "t", "of all", share=True).data[0].hovertemplate == "%{y:.1%}"
    (trace,) = plots.curves(LOOK, {"a": ([1.0], [2.0])}, "t", "%{x}", "p99 (ms)").data
    assert "%&#123;x}" in trace.hovertemplate
