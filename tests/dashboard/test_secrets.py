"""The password in Prometheus' address lets the dashboard in, and nobody sees it."""

import base64
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.settings import PARAMETERS, PROMETHEUS, RESULTS
from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_PARAMETERS
from tests.dashboard.conftest import APP, RUN_LIMIT_S
from tests.dashboard.test_pages import PAGES, assert_sound, sentences

RIGHT = "Basic " + base64.b64encode(b"reader:s3cret").decode()
EMPTY = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


class Guarded(BaseHTTPRequestHandler):
    """A Prometheus without a series, behind a password. `let_in` counts those who have it."""

    let_in = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        right = self.headers["authorization"] == RIGHT
        type(self).let_in += right
        body = EMPTY if right else b"Unauthorized"
        self.send_response(200 if right else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[int]:
    """Its port."""
    Guarded.let_in = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def dashboard(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = folder / "parameters.yaml"
    path.write_text(commented_document(DEFAULT_PARAMETERS))
    monkeypatch.setenv(PROMETHEUS.name, url)
    monkeypatch.setenv(PARAMETERS.name, str(path))
    monkeypatch.setenv(RESULTS.name, str(folder / "results"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield
    st.cache_resource.clear()
    st.cache_data.clear()


def page(name: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    if name != "overview":
        app.switch_page(f"app_pages/{name}.py").run()
    assert_sound(app)
    return app


def everything(app: AppTest) -> str:
    return " ".join(str(element.proto) for element in (*app.main, *app.sidebar))


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("secret", "right"), [("s3cret", True), ("wr0ng", False)])
def test_a_page_shows_no_password(
    name: str,
    secret: str,
    right: bool,
    guarded: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with dashboard(tmp_path, f"http://reader:{secret}@127.0.0.1:{guarded}", monkeypatch):
        app = page(name)
    shown = everything(app) + " ".join(sentences(app)) + caplog.text
    assert secret not in shown
    assert "reader" not in shown
    if name not in ("tuning", "load_tests"):
        assert bool(Guarded.let_in) == right
        refused = f"Prometheus at http://***@127.0.0.1:{guarded} lets this dashboard not in"
        assert (refused in " ".join(sentences(app))) != right


@pytest.mark.parametrize("name", PAGES)
def test_a_prometheus_that_is_down_shows_no_password(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = "http://reader:s3c/ret@127.0.0.1:1"
    with dashboard(tmp_path, url, monkeypatch):
        app = page(name)
    shown = everything(app) + " ".join(sentences(app)) + caplog.text
    for part in ("reader", "s3c", "ret@"):
        assert part not in shown
    if name not in ("tuning", "load_tests"):
        assert "Prometheus at http://***@127.0.0.1:1 does not answer" in " ".join(sentences(app))


def test_a_run_that_kept_a_password_is_shown_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = dict.fromkeys(("requests", "ok", "within_slo", "refused", "failed"), 1) | dict.fromkeys(
        ("mean_ms", "p50_ms", "p95_ms", "p99_ms"), 1.0
    )
    for number in (1, 2):
        folder = tmp_path / "results" / f"20261130T00000{number}Z-steady"
        folder.mkdir(parents=True)
        run = {
            "script": "steady",
            "settings": {"URL": f"http://reader:s3cret{number}@host{number}:8080"},
            "started": "2026-11-30T00:00:00Z",
            "generation": 1,
            "revision": None,
            "machine": {"cores": 2},
        }
        summary = {
            "script": "steady",
            "settings": {},
            "seconds": 1.0,
            "dropped": 0,
            "lag_p99_ms": 0.0,
            "tiers": {"interactive": tier},
            "phases": [],
            "thresholds": [],
        }
        (folder / "run.json").write_bytes(msgspec.json.encode(run))
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))
    with dashboard(tmp_path, "http://127.0.0.1:1", monkeypatch):
        app = page("load_tests")
    assert "s3cret" not in everything(app)
