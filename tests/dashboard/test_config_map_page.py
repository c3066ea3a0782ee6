"""The Tuning page on a ConfigMap: chosen by the environment, edited with the dashboard's rights."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.settings import EDIT, NAMESPACE, PARAMETERS, PROMETHEUS
from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_PARAMETERS, parse_document
from tests.dashboard.conftest import APP, RUN_LIMIT_S, at_this_machine
from tests.dashboard.test_pages import assert_sound, sentences
from tests.kubernetes_api.access import PLACE, write_kubeconfig
from tests.kubernetes_api.server import DASHBOARD, ApiServer


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    with ApiServer().serving() as api:
        for name, value in {
            "KUBECONFIG": str(write_kubeconfig(tmp_path / "kubeconfig", api.url, DASHBOARD)),
            NAMESPACE.name: PLACE.namespace,
            PARAMETERS.name: f"configmap:{PLACE.name}",
            PROMETHEUS.name: f"http://127.0.0.1:{port}",
            EDIT.name: "yes",
        }.items():
            monkeypatch.setenv(name, value)
        at_this_machine(monkeypatch)
        api.put(parameters_yaml=commented_document(DEFAULT_PARAMETERS))
        st.cache_resource.clear()
        st.cache_data.clear()
        yield api


def test_an_edit_on_the_page_reaches_the_config_map_or_says_which_right_is_missing(
    api: ApiServer,
) -> None:
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    app.switch_page("app_pages/tuning.py").run()
    assert_sound(app)
    api.rights = {DASHBOARD: {"get"}}
    _apply(app, "150")
    (said,) = [each for each in sentences(app) if each.startswith("Not applied.")]
    assert "give it a Role with get and patch" in said
    api.rights = {DASHBOARD: {"get", "patch"}}
    _apply(app, "160")
    parameters = parse_document(api.data["parameters.yaml"].encode())
    assert parameters.generation == 2
    assert parameters.tiers["interactive"].slo_ms == 160


def _apply(app: AppTest, slo_ms: str) -> None:
    (slo,) = [
        each for each in app.text_input if (each.key or "").endswith("tiers.interactive.slo_ms")
    ]
    slo.set_value(slo_ms).run()
    (reason,) = [each for each in app.text_input if each.label == "Reason"]
    reason.set_value("promised to the customer").run()
    app.button(key="tuning-apply").click().run()
    assert_sound(app)
