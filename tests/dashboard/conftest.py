from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import wiring
from tests.dashboard.fakes import FakeParts

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
RUN_LIMIT_S = 30.0

Open = Callable[[str], AppTest]


def at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OS user may edit: it listens on 127.0.0.1, and a browser here asks, which AppTest is not.

    test_access.py asks over HTTP.
    """
    monkeypatch.setattr(wiring, "is_loopback", lambda _: True)
    monkeypatch.setattr(wiring, "is_this_machine", lambda *_: True)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeParts:
    made = FakeParts()
    monkeypatch.setattr(wiring, "parts", made.parts)
    st.cache_data.clear()
    st.cache_resource.clear()  # the last answers of others
    return made


@pytest.fixture
def open_page(fakes: FakeParts) -> Open:
    """Opens a page of the app by its name, as a reader who clicks on it."""

    def opened(name: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
        app.run()
        if name != "overview":
            app.switch_page(f"app_pages/{name}.py").run()
        return app

    return opened
