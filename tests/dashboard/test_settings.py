"""Settings come from the environment; a wrong one is a sentence on the page."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.ports import Pool, Price, Refused
from dashboard.settings import EDIT, PRICES, PROMETHEUS, VARIABLES, read_settings
from tests.dashboard.conftest import APP, RUN_LIMIT_S
from tests.dashboard.test_pages import sentences

TABLE = """\
source: price list of 2026-10-01
usd_per_hour: {spot: 1.24, on-demand: 2}
"""


def test_reading_is_all_that_is_allowed_unless_told() -> None:
    settings = read_settings({})
    assert not settings.may_edit
    assert settings.prices == ()
    assert settings.user_header is None
    assert read_settings({EDIT.name: "Yes"}).may_edit


def test_a_price_table_names_its_source(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(TABLE)
    assert read_settings({PRICES.name: str(path)}).prices == (
        Price(Pool.SPOT, 1.24, "price list of 2026-10-01"),
        Price(Pool.ON_DEMAND, 2.0, "price list of 2026-10-01"),
    )


@pytest.mark.parametrize("document", ["[]", "source: x\nusd_per_hour: {spot: -1}", "{", "a: b: c"])
def test_a_wrong_price_table_is_refused(document: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(document)
    with pytest.raises(Refused, match="is no price table"):
        read_settings({PRICES.name: str(path)})


def test_wrong_settings_are_refused_by_name(tmp_path: Path) -> None:
    for wrong in (
        {EDIT.name: "perhaps"},
        {PROMETHEUS.name: "prometheus:9090"},
        {PRICES.name: str(tmp_path / "missing.yaml")},
    ):
        with pytest.raises(Refused) as refused:
            read_settings(wrong)
        assert [refused.value.field] == list(wrong)


def test_a_wrong_setting_is_a_sentence_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    st.cache_resource.clear()
    monkeypatch.setenv(EDIT.name, "perhaps")
    app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S).run()
    assert not app.exception
    assert "HEADWAY_EDIT is 'perhaps'; set it to yes or no." in sentences(app)


def test_every_variable_is_in_the_readme() -> None:
    readme = (APP.parents[1] / "README.md").read_text()
    assert [each.name for each in VARIABLES if f"| `{each.name}` |" not in readme] == []
