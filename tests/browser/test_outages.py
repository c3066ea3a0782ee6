"""Each thing that can break is broken for real, and the page says so; nothing of it is green."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from dashboard.stores.file import FileParameterStore
from tests.browser.pages import Dashboard
from tests.browser.stack import Stack, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def verdict(page: Page) -> Locator:
    return page.get_by_test_id("stAlert")


def asked(stack: Stack, ids: list[int], times: int) -> set[int]:
    """The statuses of so many requests; a negative id makes the model fail."""
    tensor: Any = {"name": "input_ids", "datatype": "INT64", "shape": [1, len(ids)], "data": ids}
    url = f"{stack.replica_urls[0]}/v2/models/topics/infer"
    body: Any = {"inputs": [tensor]}
    return {requests.post(url, json=body, timeout=30).status_code for _ in range(times)}


def test_whatever_breaks_is_said_worst_first_and_is_never_green(
    page: Page, tmp_path: Path, pictures: Path
) -> None:
    with running(tmp_path, replicas=2) as stack:
        stack.keep_reading()
        dashboard = Dashboard(page, stack.url)
        dashboard.open("overview")
        said = verdict(page)

        def shows(*sentences: str, name: str) -> None:
            """The first of them is in the first box."""
            expect(said.first).to_contain_text(sentences[0])
            for sentence in sentences[1:]:
                expect(page.get_by_text(sentence).first).to_be_visible()
            expect(page.get_by_test_id("stAlertContentSuccess")).to_have_count(0)
            dashboard.assert_sound()
            dashboard.picture(pictures / f"outage-{name}.png")

        shows("No traffic", name="no-traffic")
        expect(page.get_by_test_id("stAlertContentInfo")).to_have_count(1)

        assert asked(stack, [1, 2, 3], times=30) == {200}
        expect(page.get_by_test_id("stAlertContentSuccess")).to_contain_text(
            "2 of 2 replicas on generation 1"
        )
        assert asked(stack, [-1, 2, 3], times=30) == {500}
        shows("Interactive: ", "errors of the model (500)", name="errors")
        expect(page.get_by_test_id("stAlertContentError")).to_have_count(1)
        tile = page.get_by_test_id("stMetric").filter(has_text="Failed")
        expect(tile).to_contain_text("50%")

        stack.signal_replica(1, signal.SIGSTOP)
        shows("1 of 2 replicas silent: it hangs, or cannot be reached", name="hung")
        tile = page.get_by_test_id("stMetric").filter(has_text="Replicas")
        expect(tile).to_contain_text("1 of 2")
        stack.signal_replica(1, signal.SIGCONT)
        expect(tile).to_contain_text("2 of 2")

        good = stack.parameters.read_text()
        stack.parameters.unlink()
        missing = "is not there; put it back"
        shows("errors of the model", missing, "Replicas go on with what they have", name="no-file")
        expect(page.get_by_text("of 200 ms").first).to_be_visible()  # what is in force, not a file
        stack.parameters.write_text(good.replace("slo_ms: 200", "slo_ms: soon"))
        shows("errors of the model", "tiers.interactive.slo_ms", name="broken-file")
        stack.parameters.write_text(good)
        expect(page.get_by_text("Replicas go on with what they have")).to_have_count(0)

        stack.signal_service("prometheus", signal.SIGSTOP)
        away = f"Prometheus at {stack.prometheus_url} does not answer"
        shows("What is shown was measured until", away, name="prometheus-away")
        expect(page.get_by_test_id("stMetric").filter(has_text="Failed")).to_be_visible()
        grey = "each => getComputedStyle(each).filter"
        assert page.get_by_test_id("stMetric").first.evaluate(grey) == "grayscale(1)"
        stack.signal_service("prometheus", signal.SIGCONT)


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), replicas=1) as started:
        yield started


def test_prometheus_down_is_a_sentence_and_the_rest_works(page: Page, stack: Stack) -> None:
    dashboard = Dashboard(page, stack.url)
    dashboard.open("tuning")
    expect(page.get_by_text("Generation 1 is in force on 1 of 1 replica.")).to_be_visible()
    stack.kill_for_good("prometheus")
    sentence = f"Prometheus at {stack.prometheus_url} does not answer; start it"
    expect(page.get_by_text(sentence).first).to_be_visible()
    for title in ("Overview", "Latency", "Batching", "Cost", "Load tests", "Tuning"):
        dashboard.go_to(title)
        if title != "Load tests":
            expect(page.get_by_text(sentence).first).to_be_visible()
        dashboard.assert_sound()

    dashboard.field("max_batch_size (rows)").fill("32")
    dashboard.field("Reason").fill("while nobody measures")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(re.compile(r"Generation 2\..*while nobody measures"))).to_be_visible()
    store = FileParameterStore(stack.parameters, editable=False)
    assert store.read().parameters.for_model("topics").max_batch_size == 32

    (url,) = stack.replica_urls
    assert requests.get(f"{url}/v2/models/topics/ready", timeout=30).ok
    assert stack.stop() == 0
