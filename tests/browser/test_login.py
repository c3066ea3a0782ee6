"""A login by OpenID Connect: nobody edits before it, and every edit carries its name."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from dashboard.stores.file import FileParameterStore
from loadtest.bench.servers import free_ports
from predictor.local.__main__ import create_parameters_file
from predictor.local.dashboard import create_price_table, dashboard_service
from tests.browser.pages import Dashboard
from tests.browser.provider import CLIENT_ID, EMAIL, Provider
from tests.browser.stack import environment
from tests.dashboard.prometheus_process import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SECRETS = """
[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "for this test alone"
client_id = "{client}"
client_secret = "for this test alone"
server_metadata_url = "{provider}/openid"
"""


@dataclass(frozen=True)
class Served:
    url: str
    provider: str
    parameters: Path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The dashboard alone, in a folder that has its secrets."""
    provider = Provider()
    parameters, prices = tmp_path / "parameters.yaml", tmp_path / "prices.yaml"
    (port,) = free_ports(1)
    create_parameters_file(parameters)
    create_price_table(prices)
    service = dashboard_service(port, parameters=parameters, prices=prices, prometheus_url=None)
    url = f"http://127.0.0.1:{port}"
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        SECRETS.format(url=url, client=CLIENT_ID, provider=provider.url)
    )
    settings = {**(service.environment or {}), **environment()}
    process = subprocess.Popen(service.command, cwd=tmp_path, env=settings)
    try:
        until(lambda: answers(service.ready_url, process))
        yield Served(url, provider.url, parameters)
    finally:
        process.terminate()
        process.wait()
        provider.stop()


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the dashboard ended"
    try:
        return requests.get(url, timeout=5.0).ok
    except requests.ConnectionError:
        return False


def test_an_edit_needs_the_login_and_carries_its_name(page: Page, served: Served) -> None:
    dashboard = Dashboard(page, served.url)
    dashboard.open("tuning")
    dashboard.field("max_batch_size (rows)").fill("32")
    dashboard.field("Reason").fill("as nobody")
    expect(page.get_by_text("an edit carries a name: log in first")).to_be_visible()
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()

    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{served.url}/")  # by way of the provider
    dashboard.go_to("Tuning")
    expect(page.get_by_text(f"Edits carry the name {EMAIL}.")).to_be_visible()
    dashboard.field("max_batch_size (rows)").fill("32")
    dashboard.field("Reason").fill("as Ada")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"{EMAIL}: as Ada")).to_be_visible()
    (entry,) = FileParameterStore(served.parameters, editable=False).history()
    assert entry.who == EMAIL

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)
    dashboard.open("tuning")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
