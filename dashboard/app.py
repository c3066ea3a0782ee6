"""The operator's dashboard: `streamlit run dashboard/app.py`."""

from pathlib import Path

import streamlit as st

from dashboard.asking import begin, guarded
from dashboard.here import selectors
from dashboard.theme import PAGE_STYLE

HERE = Path(__file__).resolve().parent
PAGES = HERE / "app_pages"

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
        st.Page(PAGES / "load_tests.py", title="Load tests"),
    ],
    position="top",
)
begin()
with guarded("The selectors"):
    selectors()
with guarded("This page"):
    page.run()
