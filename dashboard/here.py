"""Where the reader is: the chosen time range and model, light or dark, and who it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import wraps

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import wiring
from dashboard.asking import aged, ask, ask_now, begin, guarded, optional, was_said
from dashboard.parts import Parts, Reader
from dashboard.plots import Look
from dashboard.ports import Edit, Filter, Pool, Price, Replica, Stored, Window
from dashboard.theme import AGED_STYLE, PLOT_HEIGHT_PX, palette
from dashboard.views.costs import prices_in_force
from dashboard.views.history import with_notes
from dashboard.views.literal import escaped
from dashboard.views.times import (
    DEFAULT_RANGE,
    DEFAULT_REFRESH,
    RANGES_S,
    REFRESHES_S,
    elapsed,
    moment,
    window_of,
    zone_of,
)
from predictor.core.parameters import Parameters

ALL_MODELS = "all models"
LOGIN_CLAIMS = ("email", "preferred_username", "sub")  # a provider has one of these


@dataclass(frozen=True)
class Here:
    """One run of a page."""

    parts: Parts
    window: Window
    model: str | None  # None: all
    refresh_s: float | None
    zone: tzinfo

    @property
    def where(self) -> Filter:
        return Filter() if self.model is None else Filter(models=(self.model,))

    def look(self, height_px: int = PLOT_HEIGHT_PX) -> Look:
        edits: Sequence[Edit] = optional(lambda: ask(self.parts.metrics.edits, self.window), ())
        if edits:
            history = optional(lambda: ask_now(self.parts.store.history, self.window.end_s), ())
            edits = with_notes(edits, history)
        return Look(palette(st.context.theme.type), self.zone, edits, height_px)

    def replicas(self) -> Sequence[Replica]:
        """Raises SourceDown."""
        return ask_now(self.parts.metrics.replicas, self.window.end_s)

    def prices(self) -> Mapping[Pool, Price]:
        measured = optional(lambda: ask_now(self.parts.metrics.prices, self.window.end_s), ())
        return prices_in_force(measured, self.parts.price_table)

    def parameters(self) -> Parameters | None:
        """What the store holds; None where it cannot be read, which Tuning tells."""
        stored: Stored | None = optional(self.parts.store.read, None)
        return None if stored is None else stored.parameters

    def who(self) -> str | None:
        logged_in = st.user.get("is_logged_in")  # None: no login is set up
        told = (st.user.get(claim) for claim in LOGIN_CLAIMS) if logged_in else ()
        name = next((each for each in told if isinstance(each, str) and each), None)
        headers = dict(st.context.headers.items())
        return self.parts.who(Reader(name, headers, must_log_in=logged_in is not None))


def here() -> Here:
    """From the selectors, which app.py draws above every page."""
    parts = wiring.parts()
    chosen = st.session_state
    model = chosen.get("model", ALL_MODELS)
    return Here(
        parts=parts,
        window=window_of(chosen.get("range", DEFAULT_RANGE), parts.now()),
        model=None if model == ALL_MODELS else model,
        refresh_s=REFRESHES_S.get(chosen.get("refresh", DEFAULT_REFRESH)),
        zone=zone_of(st.context.timezone),
    )


def selectors() -> None:
    """Time range, model and refresh; kept in the URL, so that a reload or a link has them."""
    parts = wiring.parts()
    step = window_of(DEFAULT_RANGE, parts.now()).end_s
    models = list(optional(lambda: ask_now(parts.metrics.models, step), ()))
    # A model that nobody reports now stays chosen: Prometheus may only be away.
    for kept in (st.query_params.get("model"), st.session_state.get("model")):
        if kept is not None and kept not in (ALL_MODELS, *models):
            models.append(kept)
    row = st.container(horizontal=True, horizontal_alignment="right", gap="small")
    _select(row, "range", "Time range", list(RANGES_S), DEFAULT_RANGE)
    _select(row, "model", "Model", [ALL_MODELS, *models], ALL_MODELS)
    _select(row, "refresh", "Refresh", list(REFRESHES_S), DEFAULT_REFRESH)


def _select(
    row: DeltaGenerator, key: str, label: str, options: Sequence[str], default: str
) -> None:
    row.selectbox(
        label,
        options,
        index=options.index(default),
        key=key,
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        width=160,
    )


def refreshing(draw: Callable[[], None], every_s: float | None = None) -> None:
    """Draw a part, and again as often as the reader chose. Nothing else on the page is touched,
    so an edit in progress stays."""

    @wraps(draw)  # a fragment is known by its function's name
    def safely() -> None:
        begin()
        above = st.container()
        with guarded("This part"):
            draw()
        with above:
            _say_aged()

    st.fragment(safely, run_every=every_s if every_s is not None else here().refresh_s)()


def _say_aged() -> None:
    """That what was drawn is not of now, where it is so."""
    old = aged()
    if old is None:
        return
    if not was_said(old.why):
        st.error(escaped(old.why), icon=":material/cloud_off:")
    now_s = wiring.parts().now()
    shown = moment(old.as_of_s, zone_of(st.context.timezone), now_s)
    st.warning(f"What is shown was measured until {shown}, {elapsed(now_s - old.as_of_s)} ago.")
    st.html(f"<style>{AGED_STYLE}</style>")
