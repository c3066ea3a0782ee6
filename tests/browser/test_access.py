"""What a browser makes of strangers' pages, and of other people's words."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from dashboard.views.literal import one_line
from loadtest.bench.servers import free_ports
from tests.browser.pages import Dashboard
from tests.dashboard.nasty import NASTY
from tests.dashboard.prometheus_process import until
from tests.dashboard.serving import LOCALHOST, ROOT, Served, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as it:
        yield it


@pytest.fixture
def stranger(dashboard: Served) -> Iterator[str]:
    """A page of another port of this machine: it frames the dashboard, and talks to it."""
    page = f"""<!doctype html><iframe id="frame" src="{dashboard.url}/tuning"></iframe><script>
        const socket = new WebSocket("{dashboard.url.replace("http", "ws")}/_stcore/stream");
        socket.onopen = () => document.title = "opened";
        socket.onerror = () => document.title = "refused";
    </script>""".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((LOCALHOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{LOCALHOST}:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_page_of_another_port_neither_frames_it_nor_talks_to_it(
    page: Page, stranger: str, dashboard: Served
) -> None:
    page.goto(stranger)
    expect(page).to_have_title("refused")
    assert page.frame_locator("#frame").get_by_text("Tuning").count() == 0
    assert any("may not use the dashboard" in line for line in list(dashboard.log))


def test_the_os_user_edits_on_this_machine(page: Page, dashboard: Served) -> None:
    tab = Dashboard(page, dashboard.url)
    tab.open("tuning")
    tab.field("max_batch_size (rows)").fill("32")
    tab.field("Reason").fill("<b>as</b> :red[me] :material/home:")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(": <b>as</b> :red[me] :material/home:")).to_be_visible()


@pytest.mark.parametrize("secrets", ["[auth]", "[auth"])
def test_with_a_broken_login_nobody_edits(page: Page, tmp_path: Path, secrets: str) -> None:
    with served(tmp_path, secrets) as it:
        tab = Dashboard(page, it.url)
        tab.open("tuning")
        expect(page.get_by_text("is not set up right").first).to_be_visible()
        tab.field("max_batch_size (rows)").fill("32")
        tab.field("Reason").fill("as anyone")
        expect(page.get_by_text("max_batch_size: 64 → 32")).to_be_visible()
        expect(page.get_by_role("button", name="Apply")).to_be_disabled()


@pytest.fixture
def words_page(tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    url = f"http://{LOCALHOST}:{port}"
    script = str(Path(__file__).with_name("literal_page.py"))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamlit", "run", script, f"--server.port={port}"),
            *(f"--server.address={LOCALHOST}", "--server.headless=true"),
            "--browser.gatherUsageStats=false",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    def answers() -> bool:
        try:
            return requests.get(f"{url}/_stcore/health", timeout=5.0).ok
        except requests.ConnectionError:
            return False

    try:
        until(answers)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_words_are_shown_letter_by_letter(page: Page, words_page: str) -> None:
    tab = Dashboard(page, words_page)
    page.goto(words_page)
    tab.settled()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    for at, words in enumerate(NASTY):
        shown = page.locator(f".st-key-words-{at}")
        wanted = one_line(words)
        for part in ("stAlertContainer", "stCaptionContainer", "stMetricLabel", "stText"):
            assert seen(shown.get_by_test_id(part).inner_text()) == wanted, part
        assert f"Model {wanted}" in seen(shown.inner_text())
        drawn = shown.locator(
            "a, img, script, b, em, del, h1, h2, li, blockquote, hr, table, .katex"
        )
        assert drawn.count() == 0, words
        assert shown.get_by_test_id("stIconMaterial").count() == 0, words
    plots = page.locator(".js-plotly-plot")
    texts = plots.locator("text").all_text_contents()
    for words in (NASTY[0], NASTY[1], NASTY[2], NASTY[-4]):
        assert any(one_line(words) in seen(text) for text in texts), words
    assert plots.locator("a[*|href], image, script").count() == 0
    tab.assert_sound()


def seen(text: str) -> str:
    return " ".join(text.split())
