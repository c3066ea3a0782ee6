"""The whole of `make up` in a real browser, under load: seen, tuned, followed and rolled back.

What is seen is kept as pictures: in run/screenshots, or where --screenshots says.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as TookTooLong

from dashboard.stores.file import FileParameterStore
from dashboard.views.draft import Place, edited
from tests.browser.conftest import screen
from tests.browser.pages import Dashboard
from tests.browser.stack import Stack, load, load_to_its_end, running
from tests.server.jobs import say

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PLOTS = {"overview": 4, "latency": 3, "batching": 7, "cost": 4, "tuning": 0, "load_tests": 2}
MEAN = "Mean batch size"
ON_ONE_SCREEN = """count => {
    const boxes = [...document.querySelectorAll('.js-plotly-plot')]
        .map(each => each.getBoundingClientRect()).filter(box => box.height > 0);
    return boxes.length === count && boxes.every(box => box.bottom <= innerHeight);
}"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, minutes: int) -> Iterator[Stack]:
    """Under load to the end, with a load test behind it."""
    with running(tmp_path_factory.mktemp("stack")) as started:
        started.keep_reading()
        load_to_its_end(started, "12s")
        with load(started, "20m", ahead_s=60.0 * minutes):
            yield started


@pytest.fixture
def dashboard(page: Page, stack: Stack) -> Dashboard:
    return Dashboard(page, stack.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_tells_all_on_one_screen(
    scheme: str, browser: Browser, stack: Stack, pictures: Path
) -> None:
    with screen(browser, scheme) as context:
        dashboard = Dashboard(context.new_page(), stack.url)
        dashboard.open("overview")
        expect(dashboard.plots).to_have_count(PLOTS["overview"])
        page = dashboard.page
        expect(page.get_by_text("2 of 2 replicas on generation 1")).to_be_visible()
        expect(page.get_by_text("cheaper per request")).to_be_visible()
        for pool in ("spot", "on-demand"):
            tile = page.get_by_test_id("stMetric").filter(has_text=f"1,000 on {pool}")
            expect(tile).to_contain_text("$")
            expect(tile).to_contain_text("each")
        page.wait_for_function(ON_ONE_SCREEN, arg=PLOTS["overview"])
        assert cut(page) == []
        dashboard.assert_sound()
        dashboard.picture(pictures / f"overview{'' if scheme == 'light' else '-dark'}.png")


def cut(page: Page) -> list[str]:
    """What of the tiles does not fit, and ends in dots."""
    found: list[str] = page.evaluate("""() =>
        [...document.querySelectorAll('[data-testid="stMetric"] *')]
            .filter(each => getComputedStyle(each).overflowX === 'hidden'
                && each.scrollWidth > each.clientWidth)
            .map(each => each.textContent)""")
    return found


@pytest.mark.parametrize("name", PLOTS)
def test_every_page_is_whole(name: str, dashboard: Dashboard, pictures: Path) -> None:
    dashboard.open(name)
    expect(dashboard.plots).to_have_count(PLOTS[name])
    dashboard.assert_sound()
    if name in ("latency", "cost", "load_tests"):
        dashboard.picture(pictures / f"{name}.png")


FROM_TO = re.compile(r"from=\d{4}-.*&to=\d{4}-")
MOST_TRIES = 10
NEWEST = """() => {
    const shown = document.querySelector('.js-plotly-plot')?.data?.[0]?.x ?? [];
    return String(shown[shown.length - 1] ?? '');
}"""


def test_a_refresh_brings_newer_values_into_plots(dashboard: Dashboard) -> None:
    page = dashboard.page
    dashboard.open("overview")
    expect(dashboard.plots).to_have_count(PLOTS["overview"])
    before = page.evaluate(NEWEST)
    assert before
    page.wait_for_function(f"before => ({NEWEST})() > before", arg=before)
    dashboard.assert_sound()


def draw_across(page: Page) -> None:
    """From half a minute before the end of the first plot to it."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    if box is not None:
        right = box["x"] + box["width"]
        page.mouse.move(right - 25, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(right - 4, box["y"] + 90, steps=8)
        page.mouse.up()


def test_time_drawn_across_a_plot_is_the_range_of_all(dashboard: Dashboard) -> None:
    page = dashboard.page
    dashboard.open("overview")
    expect(dashboard.plots).to_have_count(PLOTS["overview"])
    page.wait_for_function("""() => document.querySelector('.js-plotly-plot')
        .calcdata[0].filter(point => Number.isFinite(point.y)).length > 12""")
    dashboard.open("overview", refresh="no refresh")  # which puts another plot under the hand
    expect(dashboard.plots).to_have_count(PLOTS["overview"])
    for _ in range(MOST_TRIES):
        draw_across(page)
        with suppress(TookTooLong):
            page.wait_for_url(FROM_TO, timeout=5000)
            break
    expect(page).to_have_url(FROM_TO)
    back = page.get_by_role("button", name="Back to now")
    expect(back).to_be_visible()
    dashboard.go_to("Latency")
    expect(page).to_have_url(re.compile(r"from=\d{4}-"))
    expect(dashboard.plots).to_have_count(PLOTS["latency"])
    dashboard.assert_sound()
    back.click()
    expect(back).to_have_count(0)
    expect(page).not_to_have_url(re.compile("from="))


def test_the_first_screen_of_a_phone_has_the_verdict_and_each_tier(
    browser: Browser, stack: Stack, pictures: Path
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, timezone_id="UTC")
    with context:
        dashboard = Dashboard(context.new_page(), stack.url)
        dashboard.open("overview")
        page = dashboard.page
        shown = [page.get_by_test_id("stAlert").first]
        shown += [
            page.get_by_test_id("stMetric").filter(has_text=f"{tier} p99")
            for tier in ("interactive", "bulk")
        ]
        for each in shown:
            expect(each).to_be_visible()
            expect(each).to_be_in_viewport(ratio=1.0)
        dashboard.picture(pictures / "phone.png")


def test_a_large_screen_is_filled(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, timezone_id="UTC")
    with context:
        dashboard = Dashboard(context.new_page(), stack.url)
        dashboard.open("overview")
        expect(dashboard.plots).to_have_count(PLOTS["overview"])
        dashboard.page.wait_for_function("""() => Math.max(
            ...[...document.querySelectorAll('.js-plotly-plot')]
                .map(each => each.getBoundingClientRect().bottom)) > 0.9 * innerHeight""")


def test_an_edit_is_previewed_applied_followed_seen_and_rolled_back(
    dashboard: Dashboard, stack: Stack, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = dashboard.page
    dashboard.open("batching")
    dashboard.wait_for_last(MEAN, "last > 2.01")
    dashboard.go_to("Tuning")
    dashboard.field("max_batch_size (rows)").fill("2")
    page.get_by_role("button", name="Preview").click()
    simulated = page.get_by_text("s simulated.")
    expect(simulated).to_be_visible()
    sides = page.get_by_test_id("stMetricDelta").filter(has_text="in force")
    expect(sides).to_have_count(4)
    expect(sides.filter(has_text="measured")).to_have_count(4)
    dashboard.field("Reason").fill("smaller batches, to see what they cost")
    apply = page.get_by_role("button", name="Apply")
    expect(apply).to_be_enabled()
    dashboard.at_rest()
    simulated.evaluate("each => each.scrollIntoView({block: 'end'})")
    dashboard.picture(pictures / "tuning.png")
    applied_s = time.monotonic()
    apply.click()
    expect(page.get_by_text("Generation 2 is in force on 2 of 2 replicas.")).to_be_visible()
    say(capsys, f"2 of 2 replicas are seen to follow {time.monotonic() - applied_s:.1f} s later")
    expect(dashboard.in_force("max_batch_size (rows)")).to_have_text("In force: 2 on 2 replicas")
    expect(page.get_by_text("models.topics.max_batch_size: 64 → 2")).to_be_visible()
    dashboard.field("Reason").click()
    page.keyboard.type("typed while the form is drawn anew", delay=80)
    expect(dashboard.field("Reason")).to_have_value("typed while the form is drawn anew")
    dashboard.field("max_batch_size (rows)").fill("4")
    page.get_by_role("button", name="Preview").click()
    expect(simulated).to_be_visible()
    page.get_by_role("button", name="Drop my edits").click()
    expect(dashboard.field("max_batch_size (rows)")).to_have_value("2")
    dashboard.assert_sound()
    store = FileParameterStore(stack.parameters, editable=False)
    assert store.read().parameters.for_model("topics").max_batch_size == 2
    assert store.history()[0].reason == "smaller batches, to see what they cost"

    dashboard.go_to("Batching")
    dashboard.wait_for_last(MEAN, "last < 2.01")  # a quotient of rates, so not to the last digit
    assert "g2" in dashboard.drawn(MEAN)["marks"]
    assert max(value for value in dashboard.drawn(MEAN)["values"] if value) > 2.01
    expect(page.locator(".js-plotly-plot text").get_by_text("g2").first).to_be_visible()
    dashboard.assert_sound()

    dashboard.go_to("Tuning")
    page.get_by_role("button", name="Roll back to 1").click()
    page.get_by_role("textbox", name="Why?").fill("small batches cost too much")
    page.get_by_role("button", name="Do it").click()
    expect(page.get_by_text("Generation 3 is in force on 2 of 2 replicas.")).to_be_visible()
    expect(dashboard.field("max_batch_size (rows)")).to_have_value("64")
    expect(dashboard.in_force("max_batch_size (rows)")).to_have_text("In force: 64 on 2 replicas")
    dashboard.assert_sound()
    assert store.read().parameters.for_model("topics").max_batch_size == 64
    dashboard.go_to("Batching")
    dashboard.wait_for_last(MEAN, "last > 2.01")
    assert {"g2", "g3"} <= set(dashboard.drawn(MEAN)["marks"])
    dashboard.picture(pictures / "batching.png")


def test_a_bad_value_is_told_at_its_field_and_cannot_be_applied(dashboard: Dashboard) -> None:
    page = dashboard.page
    dashboard.open("tuning")
    dashboard.field("max_batch_size (rows)").fill("5000")
    message = page.get_by_test_id("stAlert").filter(has_text="Range: ≥ 1 and ≤ 4,096.")
    expect(message).to_be_visible()
    field, told = dashboard.field("max_batch_size (rows)").bounding_box(), message.bounding_box()
    assert field is not None
    assert told is not None
    assert field["y"] < told["y"] < field["y"] + 2 * field["height"]
    dashboard.field("Reason").fill("by mistake")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    dashboard.field("max_batch_size (rows)").fill("64")
    expect(message).to_have_count(0)
    dashboard.assert_sound()


def test_who_types_in_one_field_and_at_once_in_the_next_loses_nothing(
    dashboard: Dashboard,
) -> None:
    page = dashboard.page
    dashboard.open("tuning")
    reason = "what is typed while the page answers to the field before"
    dashboard.field("max_batch_size (rows)").fill("32")
    dashboard.field("Reason").click()
    page.keyboard.type(reason, delay=40)
    expect(page.get_by_text("models.topics.max_batch_size: ").first).to_be_visible()
    expect(dashboard.field("Reason")).to_have_value(reason)
    expect(page.get_by_role("button", name="Apply")).to_be_enabled()


def test_a_refresh_leaves_what_is_being_typed(dashboard: Dashboard) -> None:
    page = dashboard.page
    dashboard.open("tuning")
    dashboard.field("slo_ms (ms)").fill("150")
    expect(page.get_by_text("tiers.interactive.slo_ms: 200 → 150")).to_be_visible()
    # A refresh asks the server again: two of them are waited for.
    for _ in range(2):
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="running"]')
        dashboard.settled()
    expect(dashboard.field("slo_ms (ms)")).to_have_value("150")
    page.reload()
    expect(page).to_have_url(re.compile(r"refresh=every"))
    dashboard.settled()
    expect(page.get_by_role("combobox", name="Refresh")).to_have_value("every 5 s")


def test_edits_that_are_dropped_are_gone_from_their_fields(dashboard: Dashboard) -> None:
    page = dashboard.page
    dashboard.open("tuning")
    for _ in range(2):
        dashboard.field("max_batch_size (rows)").fill("4")
        edit = page.get_by_text("models.topics.max_batch_size: 64 → 4")
        expect(edit).to_be_visible()
        page.get_by_role("button", name="Drop my edits").click()
        expect(dashboard.field("max_batch_size (rows)")).to_have_value("64")
        expect(edit).to_have_count(0)


def test_an_edit_of_someone_else_is_seen_while_one_edits(
    dashboard: Dashboard, stack: Stack
) -> None:
    page = dashboard.page
    dashboard.open("tuning")
    dashboard.field("max_batch_size (rows)").fill("32")
    dashboard.field("Reason").fill("mine")
    store = FileParameterStore(stack.parameters, editable=True)
    before = store.read()
    theirs = edited(before.parameters, {Place("tiers", "interactive", "slo_ms"): 180})
    store.apply(theirs, expected=before, who="bob", reason="theirs")
    expect(page.get_by_text("Theirs: tiers.interactive.slo_ms: 200 → 180")).to_be_visible()
    page.get_by_role("button", name="Put my edits on top").click()
    expect(dashboard.field("slo_ms (ms)")).to_have_value("180")
    expect(dashboard.in_force("slo_ms (ms)")).to_have_text("In force: 180 on 2 replicas")
    expect(dashboard.field("max_batch_size (rows)")).to_have_value("32")
    expect(dashboard.field("Reason")).to_have_value("mine")
    page.get_by_role("button", name="Drop my edits").click()
    generation = before.parameters.generation
    store.roll_back(generation, expected=store.read(), who="bob", reason="as it was")
    expect(dashboard.field("slo_ms (ms)")).to_have_value("200")
    dashboard.assert_sound()
