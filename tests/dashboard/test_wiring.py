"""The app on its real sources: a parameter file, a results folder, and no Prometheus there."""

import socket
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import wiring
from dashboard.settings import EDIT, PARAMETERS, PROMETHEUS, RESULTS
from dashboard.stores.file import FileParameterStore
from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_PARAMETERS
from tests.dashboard.conftest import APP, RUN_LIMIT_S
from tests.dashboard.test_pages import assert_sound, sentences


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "parameters.yaml"
    path.write_text(commented_document(DEFAULT_PARAMETERS))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    monkeypatch.setenv(PROMETHEUS.name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv(PARAMETERS.name, str(path))
    monkeypatch.setenv(RESULTS.name, str(tmp_path / "results"))
    monkeypatch.setenv(EDIT.name, "yes")
    # As .streamlit/config.toml has it, so that the OS user may edit.
    monkeypatch.setattr(wiring, "LOOPBACK", (st.get_option("server.address"),))
    st.cache_resource.clear()
    st.cache_data.clear()
    return path


@pytest.mark.parametrize("page", ["latency", "batching", "cost", "load_tests"])
def test_pages_without_prometheus_say_so(page: str, parameters: Path) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    assert_sound(app)
    app.switch_page(f"app_pages/{page}.py").run()
    assert_sound(app)
    assert sentences(app)


def test_an_edit_reaches_the_file_and_its_history_without_prometheus(parameters: Path) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    assert_sound(app)
    (slo,) = [
        each for each in app.text_input if (each.key or "").endswith("tiers.interactive.slo_ms")
    ]
    slo.set_value("150").run()
    (reason,) = [each for each in app.text_input if each.label == "Reason"]
    reason.set_value("promised to the customer").run()
    app.button(key="tuning-apply").click().run()
    assert_sound(app)
    store = FileParameterStore(parameters, editable=False)
    assert store.read().parameters.tiers["interactive"].slo_ms == 150
    (entry,) = store.history()
    assert entry.reason == "promised to the customer"
    assert entry.who
    app.button(key="roll-back-1").click().run()
    assert_sound(app)
    assert store.read().parameters.tiers == DEFAULT_PARAMETERS.tiers
