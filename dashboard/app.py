"""The operator's dashboard: `streamlit run dashboard/app.py`.

The server imports this file once, for `app`. Streamlit runs it, as a script, each time that a
reader's page is drawn.
"""

import logging
import os
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboard.guard import Guard
from dashboard.hosts import KnownHosts, known_hosts
from dashboard.login import read_login
from dashboard.ports import Refused
from dashboard.settings import read_hosts
from dashboard.theme import PAGE_STYLE

HERE = Path(__file__).resolve().parent
PAGES = HERE / "app_pages"
LOAD_TESTS = "Load tests"
_LOG = logging.getLogger("dashboard")


def draw() -> None:
    # Not for the server, which has no runtime yet that could keep what they cache.
    from dashboard.asking import begin, guarded
    from dashboard.here import selectors

    # A file of our own: for a named icon the browser would ask someone else's server.
    st.set_page_config(page_title="Headway", page_icon=HERE / "icon.svg", layout="wide")
    st.html(f"<style>{PAGE_STYLE}</style>")
    page = st.navigation(
        [
            st.Page(PAGES / "overview.py", title="Overview", default=True),
            st.Page(PAGES / "latency.py", title="Latency"),
            st.Page(PAGES / "batching.py", title="Batching"),
            st.Page(PAGES / "cost.py", title="Cost"),
            st.Page(PAGES / "tuning.py", title="Tuning"),
            st.Page(PAGES / "load_tests.py", title=LOAD_TESTS),
        ],
        position="top",
    )
    begin()
    with guarded("The selectors"):
        # Runs of load tests have times of their own.
        selectors(of_measurements=page.title != LOAD_TESTS)
    with guarded("This page"):
        page.run()


def hosts() -> KnownHosts:
    """Those that are always known, where the operator's own are not to be understood."""
    try:
        named = read_hosts(os.environ)
    except Refused as refusal:
        _LOG.error("%s", refusal)
        named = frozenset()
    return known_hosts(named, st.get_option("server.address"))


def health_path() -> str:
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/_stcore/health" if base else "/_stcore/health"


if __name__ == "__main__":
    draw()
else:
    if problem := read_login(st.get_option("secrets.files")).problem:
        _LOG.error("%s", problem)
    app = st.App(
        Path(__file__).resolve(),
        middleware=[Middleware(Guard, hosts=hosts(), health_path=health_path())],
    )
