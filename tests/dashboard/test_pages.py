"""Every page as a reader meets it: all well, nothing measured, and with parts that fail."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.ports import Slo, SourceDown, Split, Window
from tests.dashboard.conftest import APP, RUN_LIMIT_S
from tests.dashboard.fakes import DOWN, EMPTY, FakeParts, down, empty
from tests.dashboard.nasty import drawn

Open = Callable[[str], AppTest]
MEASURED = ("overview", "latency", "batching", "cost")
PAGES = (*MEASURED, "tuning", "load_tests")


def sentences(app: AppTest) -> list[str]:
    """As they read: without what keeps them from being markup."""
    shown = [each.value for kind in (app.info, app.warning, app.error) for each in kind]
    return [drawn(text)[0] for text in shown]


def assert_sound(app: AppTest) -> None:
    """No stack trace, and nothing that a guard had to hide."""
    assert not app.exception
    assert not [each for each in sentences(app) if "could not be drawn" in each]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn(page: str, open_page: Open) -> None:
    app = open_page(page)
    assert_sound(app)
    assert app.main.children


@pytest.mark.parametrize("page", MEASURED)
def test_nothing_measured_is_one_sentence_and_no_trace(
    page: str, open_page: Open, fakes: FakeParts
) -> None:
    fakes.metrics.trouble = empty()
    app = open_page(page)
    assert_sound(app)
    assert EMPTY in sentences(app)


@pytest.mark.parametrize("page", PAGES)
def test_prometheus_down_is_said_and_the_page_goes_on(
    page: str, open_page: Open, fakes: FakeParts
) -> None:
    fakes.metrics.trouble = down()
    app = open_page(page)
    assert_sound(app)
    if page != "load_tests":
        assert DOWN in sentences(app)


@pytest.mark.parametrize(
    ("page", "method"),
    [
        ("overview", "tiers"),
        ("overview", "utilisation"),
        ("overview", "pools"),
        ("latency", "latency_heatmap"),
        ("latency", "stages"),
        ("tuning", "replicas"),
    ],
)
def test_one_missing_metric_leaves_the_rest(
    page: str, method: str, open_page: Open, fakes: FakeParts
) -> None:
    whole = len(open_page(page).main.children)
    fakes.metrics.troubles[method] = empty()
    fakes.now_s += 3600  # what is kept is of another window
    app = open_page(page)
    assert_sound(app)
    assert EMPTY in sentences(app)
    assert len(app.main.children) >= whole - 1


def test_a_source_with_a_bug_is_a_sentence_too(open_page: Open, fakes: FakeParts) -> None:
    fakes.metrics.troubles["utilisation"] = ZeroDivisionError("secret detail")
    app = open_page("overview")
    assert not app.exception
    assert [each for each in sentences(app) if each.startswith("Utilisation could not be drawn.")]
    assert not [each for each in sentences(app) if "secret" in each]


def test_the_overview_gives_its_verdict(open_page: Open) -> None:
    app = open_page("overview")
    (verdict,) = app.success
    assert verdict.value == (
        "Interactive p99 is 143 ms of 200 ms; the spot pool is 38% cheaper per request; "
        "2 of 2 replicas on generation 1."
    )
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Busy"] == "71%"
    assert shown["Replicas"] == "2 of 2"
    assert shown["1,000 on spot"] == "$0.00115"


def charts(app: AppTest) -> dict[str, str]:
    """What each plot is called, and all that was drawn of it."""
    specs = [str(each.proto.spec) for each in app.get("plotly_chart")]
    return {json.loads(spec)["layout"]["title"]["text"]: spec for spec in specs}


def generating(fakes: FakeParts) -> None:
    fakes.metrics.generates = True
    fakes.metrics.slos["interactive"] = Slo(10.0, 1.0)


@pytest.mark.parametrize("page", ["overview", "latency"])
def test_tokens_stand_beside_their_deadlines_where_a_model_generates(
    page: str, open_page: Open, fakes: FakeParts
) -> None:
    generating(fakes)
    app = open_page(page)
    assert_sound(app)
    shown = charts(app)
    for title, limit_ms in (("first token", "10000"), ("next tokens", "1000")):
        (spec,) = [spec for name, spec in shown.items() if title in name]
        assert "SLO interactive" in spec
        assert limit_ms in re.findall(r'"y0":(\d+)', spec)
    (whole,) = [spec for name, spec in shown.items() if name.startswith("p99 latency")]
    assert "SLO" not in whole


@pytest.mark.parametrize("page", ["overview", "latency"])
def test_where_no_model_generates_nothing_is_said_of_tokens(page: str, open_page: Open) -> None:
    app = open_page(page)
    shown = charts(app)
    assert shown
    assert not [name for name in shown if "token" in name]
    assert not [each.value for each in app.caption if "okens" in each.value]
    assert not [name for table in app.dataframe for name in table.value if "token" in name]


def test_tokens_by_pool_follow_the_selectors(open_page: Open, fakes: FakeParts) -> None:
    generating(fakes)
    app = open_page("latency")
    app.segmented_control(key="latency-quantile").set_value("p50").run()
    app.segmented_control(key="latency-by").set_value(Split.POOL).run()
    assert_sound(app)
    assert "p50 of first token by pool" in charts(app)
    asked = [about for name, about in fakes.metrics.asked if name == "token_times"]
    assert {(quantile, by) for _, quantile, _, by in asked[-2:]} == {(0.5, Split.POOL)}


def test_the_overview_tells_what_tokens_are_promised(open_page: Open, fakes: FakeParts) -> None:
    generating(fakes)
    app = open_page("overview")
    (verdict,) = app.success
    assert verdict.value.startswith(
        "Interactive first token p99 is 160 ms of 10.00 s;"
        " interactive next tokens p99 is 31 ms of 1.00 s; "
    )
    tokens = app.dataframe[1].value
    assert tokens["tier"].tolist() == ["interactive", "bulk"]
    assert tokens["first token SLO"].tolist() == ["10.00 s", "none"]
    assert tokens["next tokens p99 ms"].tolist() == [31.0, 31.0]


def test_a_replica_that_is_gone_is_in_the_verdict(open_page: Open, fakes: FakeParts) -> None:
    first, second = fakes.metrics.fleet
    fakes.metrics.fleet = (first, replace(second, up=False))
    app = open_page("overview")
    (verdict,) = app.error
    assert "1 of 2 replicas gone" in verdict.value


def test_the_store_down_leaves_the_overview_and_is_said(open_page: Open, fakes: FakeParts) -> None:
    fakes.store.trouble = SourceDown("/etc/parameters.yaml cannot be read.")
    app = open_page("overview")
    assert_sound(app)
    assert app.dataframe
    assert app.dataframe[0].value["SLO"].tolist() == ["200 ms", "none"]
    (verdict,) = app.warning
    assert "cannot be read. Replicas go on with what they have." in verdict.value


def test_several_faults_are_one_box_the_worst_first(open_page: Open, fakes: FakeParts) -> None:
    first, second = fakes.metrics.fleet
    fakes.metrics.fleet = (first, replace(second, up=False))
    fakes.metrics.tier_changes = {"failed_per_s": 200.0, "failures": {"failed": 200.0}}
    app = open_page("overview")
    assert_sound(app)
    assert not app.success
    assert not app.warning
    (verdict,) = app.error
    lines = verdict.value.split("\n\n")
    assert ["1 of 2 replicas gone" in lines[0], "42% failed" in lines[1]] == [True, True]
    icons = [verdict.icon, *(line.partition(" ")[0] for line in lines[1:])]
    assert icons == [":material/error:"] * 3
    assert {metric.label: metric.value for metric in app.metric}["Failed"] == "67%"


def test_without_traffic_nothing_is_green(open_page: Open, fakes: FakeParts) -> None:
    fakes.metrics.tier_changes = {"offered_per_s": 0.0, "p99_s": None}
    app = open_page("overview")
    assert_sound(app)
    assert not app.success
    (verdict,) = app.info
    assert verdict.value.startswith("No traffic")


def test_prometheus_away_leaves_what_was_known_and_says_its_age(
    open_page: Open, fakes: FakeParts
) -> None:
    app = open_page("overview")
    shown = {metric.label: metric.value for metric in app.metric}
    fakes.metrics.trouble = down()
    fakes.now_s += 180
    app.run()
    assert_sound(app)
    assert not app.success
    (verdict,) = app.error
    assert drawn(verdict.value)[0] == DOWN
    (age,) = app.warning
    assert re.fullmatch(r"What is shown was measured until \S+, 3 min ago\.", age.value)
    again = {metric.label: metric.value for metric in app.metric}
    assert again == {label: value for label, value in shown.items() if label != "Replicas"}
    fakes.metrics.trouble = None
    fakes.now_s += 60
    app.run()
    assert app.success
    assert not app.error


def test_a_longer_range_is_not_answered_with_a_shorter_one(
    open_page: Open, fakes: FakeParts
) -> None:
    app = open_page("overview")
    fakes.metrics.trouble = down()
    fakes.now_s += 180
    app.selectbox(key="range").set_value("6 h").run()
    assert DOWN in sentences(app)
    assert not app.metric


def test_no_price_is_said_with_what_to_do(open_page: Open, fakes: FakeParts) -> None:
    fakes.price_table = ()
    app = open_page("cost")
    assert_sound(app)
    assert [each for each in sentences(app) if "price table" in each]


def test_what_if_follows_the_fields(open_page: Open) -> None:
    app = open_page("cost")
    app.slider(key="what-if-share").set_value(100).run()
    app.number_input(key="what-if-spot").set_value(3.6).run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["This time range"] == "$1.80"  # 2 replicas for a quarter of an hour
    assert_sound(app)


def test_the_selectors_follow_the_url(fakes: FakeParts) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
    app.query_params["range"] = "6 h"
    app.query_params["model"] = "topics"
    app.run()
    assert app.selectbox(key="range").value == "6 h"
    assert app.selectbox(key="model").value == "topics"
    asked = [about for name, about in fakes.metrics.asked if name == "tiers"]
    assert asked[-1].duration_s == 6 * 3600


def test_an_absolute_range_follows_the_url_and_stays_on_other_pages(fakes: FakeParts) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
    app.query_params["from"] = "2026-09-21T12:00:00Z"
    app.query_params["to"] = "2026-09-21T12:05:00Z"
    app.run()
    assert_sound(app)

    def asked(what: str) -> Window:
        found: Window = next(about for name, about in fakes.metrics.asked[::-1] if name == what)
        return found

    window = Window(1_789_992_000.0, 1_789_992_300.0)
    assert asked("tiers") == window
    app.switch_page("app_pages/cost.py").run()
    assert asked("pools") == window
    app.button(key="back-to-now").click().run()
    assert asked("pools").moves
    assert not [each for each in app.button if each.key == "back-to-now"]


def test_a_range_that_is_none_is_told_and_the_other_one_counts(fakes: FakeParts) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
    app.query_params["from"] = "yesterday"
    app.run()
    assert_sound(app)
    assert [each for each in sentences(app) if each.startswith("Give both ends of the range")]
    assert app.metric


def test_the_title_says_what_is_watched_and_when_it_was_drawn(
    open_page: Open, fakes: FakeParts
) -> None:
    fakes.title = "topics in eu-west"
    app = open_page("overview")
    assert [each for each in app.markdown if "topics in eu" in each.value]
    assert [each.value for each in app.caption if each.value.startswith("updated at ")]


def test_a_choice_stays_on_other_pages_and_while_prometheus_is_away(
    open_page: Open, fakes: FakeParts
) -> None:
    app = open_page("overview")
    app.selectbox(key="range").set_value("6 h").run()
    app.selectbox(key="model").set_value("topics").run()
    fakes.metrics.trouble = down()
    fakes.now_s += 3600
    app.switch_page("app_pages/latency.py").run()
    assert app.selectbox(key="range").value == "6 h"
    assert app.selectbox(key="model").value == "topics"
    assert_sound(app)


def test_selectors_that_do_nothing_are_not_there(open_page: Open, fakes: FakeParts) -> None:
    app = open_page("load_tests")
    assert not [box.key for box in app.selectbox if box.key in ("range", "model", "refresh")]
    assert not [each for each in app.selectbox if each.key == "load-sweep"]  # there is one
    assert [json.loads(str(each.proto.spec)) for each in app.get("plotly_chart")][-1]["data"]
    app.switch_page("app_pages/latency.py").run()
    assert app.selectbox(key="range").value == "15 min"


def test_a_sweep_shows_its_front_first_and_any_columns_on_demand(
    open_page: Open, fakes: FakeParts
) -> None:
    app = open_page("load_tests")
    (title,) = [name for name in charts(app) if name.startswith("sweep-simulated")]
    assert title == "sweep-simulated: throughput beside p99"
    (kind,) = [each for each in app.segmented_control if each.key == "kind-sweep-simulated"]
    kind.set_value("any two columns").run()
    assert_sound(app)
    assert "sweep-simulated" in charts(app)
    assert not [each for each in app.selectbox if each.key == "along-sweep-simulated"]


def test_no_runs_yet_is_said(open_page: Open, fakes: FakeParts) -> None:
    fakes.results.trouble = empty()
    app = open_page("load_tests")
    assert_sound(app)
    assert sentences(app) == [EMPTY]


def test_a_broken_results_folder_is_named_beside_the_others(open_page: Open) -> None:
    app = open_page("load_tests")
    assert "results/broken: summary.json is cut off." in sentences(app)
    assert len(app.dataframe) >= 2


def test_a_sentence_is_said_once_however_many_parts_need_it(
    open_page: Open, fakes: FakeParts
) -> None:
    fakes.metrics.trouble = down()
    app = open_page("overview")
    assert sentences(app) == [DOWN]
    assert [each.value for each in app.caption].count("Not shown, for the reason above.") > 3
