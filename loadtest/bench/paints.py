"""How long the dashboard takes to draw a page: with its real sources, and without a browser."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from dashboard.views.times import DEFAULT_RANGE, RANGES_S, STEPS
from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import scrape
from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_PARAMETERS

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
LIMIT_S = 120.0
FIRST = "Overview"
PRICES = {"source": "price table", "usd_per_hour": {"spot": 0.5, "on-demand": 1.2}}
STEP_S = RANGES_S[DEFAULT_RANGE] / STEPS  # by which its window moves on, and lists of names
_ASKED = "prometheus_http_requests_total"


class Paint(msgspec.Struct, frozen=True, kw_only=True):
    """`again_s`: for a second reader. Queries are those that Prometheus answered."""

    page: str
    range_name: str
    first_s: float
    again_s: float
    queries: int
    queries_again: int


@contextmanager
def dashboard_on(prometheus_url: str) -> Iterator[None]:
    """The settings of a dashboard that reads this Prometheus, in the environment."""
    with tempfile.TemporaryDirectory(prefix="headway-dashboard-") as name:
        folder = Path(name)
        (folder / "parameters.yaml").write_text(commented_document(DEFAULT_PARAMETERS))
        (folder / "prices.yaml").write_text(yaml.safe_dump(PRICES))
        settings = {
            "HEADWAY_PROMETHEUS": prometheus_url,
            "HEADWAY_PARAMETERS": str(folder / "parameters.yaml"),
            "HEADWAY_PRICES": str(folder / "prices.yaml"),
            "HEADWAY_RESULTS": str(folder),
        }
        before = {variable: os.environ.get(variable) for variable in settings}
        os.environ.update(settings)
        _forget()
        try:
            yield
        finally:
            _forget()
            for variable, value in before.items():
                if value is None:
                    del os.environ[variable]
                else:
                    os.environ[variable] = value


def paint(prometheus_url: str, page: str, range_name: str) -> Paint:
    """A page drawn for a reader who is the first to ask, and for the next one.

    Readers who look at once see the same window, so it is begun when a window begins.

    Raises:
        BenchError: something on the page could not be shown.
    """
    _forget()
    time.sleep(STEP_S - time.time() % STEP_S)
    before = _queries(prometheus_url)
    first_s = _drawn_s(page, range_name)
    between = _queries(prometheus_url)
    again_s = _drawn_s(page, range_name)
    return Paint(
        page=page,
        range_name=range_name,
        first_s=first_s,
        again_s=again_s,
        queries=between - before,
        queries_again=_queries(prometheus_url) - between,
    )


def _forget() -> None:
    import streamlit as st
    from streamlit import logger

    st.get_option("logger.level")  # reads its settings, which would undo the next line
    logger.set_log_level(logging.CRITICAL)  # it misses its own server, at every turn
    st.cache_data.clear()
    st.cache_resource.clear()


def _drawn_s(page: str, range_name: str) -> float:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(APP), default_timeout=LIMIT_S)
    app.query_params["range"] = range_name
    if page != FIRST:
        app.switch_page(f"app_pages/{page.lower()}.py")
    began_s = time.perf_counter()
    app.run()
    took_s = time.perf_counter() - began_s
    wrong = [each.value for each in (*app.error, *app.warning, *app.info)]
    wrong += [each.message for each in app.exception]
    if wrong:
        raise BenchError(f"{page}, {range_name}: the page says {'; '.join(wrong)}")
    return took_s


def _queries(prometheus_url: str) -> int:
    port = urlsplit(prometheus_url).port or 0
    seen = scrape(port)
    handlers = ("/api/v1/query", "/api/v1/query_range")
    return round(sum(seen.total(_ASKED, handler=handler) for handler in handlers))
