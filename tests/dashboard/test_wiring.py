"""The app on its real sources: a parameter file, a results folder, and no Prometheus there."""

import socket
from pathlib import Path

import msgspec
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.settings import EDIT, PARAMETERS, PROMETHEUS, RESULTS
from dashboard.stores.file import FileParameterStore
from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_PARAMETERS
from tests.dashboard.conftest import APP, RUN_LIMIT_S, at_this_machine
from tests.dashboard.nasty import drawn
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
    at_this_machine(monkeypatch)
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
    roll_back(app, "roll-back-1")
    assert store.read().parameters.tiers == DEFAULT_PARAMETERS.tiers


def test_a_file_that_was_broken_by_hand_can_be_rolled_back(parameters: Path) -> None:
    store = FileParameterStore(parameters, editable=True)
    good = msgspec.to_builtins(DEFAULT_PARAMETERS)
    good["tiers"]["interactive"]["slo_ms"] = 150.0
    edited = store.apply(good, expected=store.read(), who="ada", reason="promised")
    parameters.write_text(edited.document.replace("slo_ms: 150.0", "slo_ms: soon"))
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    assert_sound(app)
    (said,) = [each for each in sentences(app) if "The parameters in place are wrong" in each]
    assert "tiers.interactive.slo_ms" in said
    assert said.endswith(". Replicas go on with what they have.")
    assert ".." not in said
    roll_back(app, "tuning-mend")
    assert store.read().parameters.tiers["interactive"].slo_ms == 150
    assert store.read().parameters.generation == 3
    assert not [each for each in sentences(app) if "wrong" in each]


def roll_back(app: AppTest, button: str) -> None:
    app.button(key=button).click().run()
    app.text_input(key=f"{button}-reason").set_value("it was better").run()
    app.button(key=f"{button}-do").click().run()
    assert_sound(app)


def test_a_file_that_was_deleted_is_put_back(parameters: Path) -> None:
    store = FileParameterStore(parameters, editable=True)
    good = msgspec.to_builtins(DEFAULT_PARAMETERS)
    good["tiers"]["interactive"]["slo_ms"] = 150.0
    store.apply(good, expected=store.read(), who="ada", reason="promised")
    parameters.unlink()
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    app.run()  # a reload says and offers the same
    assert_sound(app)
    assert [each for each in sentences(app) if "is not there; put it back" in each]
    assert {"roll-back-1", "roll-back-2"} <= {each.key for each in app.button}
    roll_back(app, "tuning-mend")
    assert store.read().parameters.tiers["interactive"].slo_ms == 150
    assert store.read().parameters.generation == 3
    assert not [each for each in sentences(app) if "is not there" in each]


def test_a_broken_file_without_a_history_is_to_be_mended_by_hand(parameters: Path) -> None:
    parameters.write_text("generation: [")
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    assert_sound(app)
    assert [each for each in app.text if str(parameters) in each.value]


def test_nobody_is_asked_to_log_in_where_no_login_is_set_up(parameters: Path) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    assert "tuning-login" not in {each.key for each in app.button}


def test_where_a_login_is_set_up_nobody_edits_without_it(parameters: Path) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
    app.user = {"is_logged_in": False}  # as it is where there is a section [auth] of secrets
    app.run()
    app.switch_page("app_pages/tuning.py").run()
    assert_sound(app)
    assert [each for each in app.caption if "log in first" in each.value]
    app.button(key="tuning-login").click().run()  # there are no secrets here at all
    assert_sound(app)
    assert "Login is not set up right; the dashboard's log says why." in sentences(app)


def test_an_edit_carries_the_name_of_the_login(parameters: Path) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
    app.user = {"is_logged_in": True, "email": "ada@example.org"}
    app.run()
    app.switch_page("app_pages/tuning.py").run()
    assert [each for each in app.caption if "the name ada@example.org" in drawn(each.value)[0]]
    assert "tuning-login" not in {each.key for each in app.button}
    assert "tuning-logout" in {each.key for each in app.button}
