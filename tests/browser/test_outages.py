"""Prometheus dies under the light form of `make up`: a sentence, and the rest goes on."""

import re
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page, expect

from dashboard.stores.file import FileParameterStore
from tests.browser.pages import Dashboard
from tests.browser.stack import Stack, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


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
