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
from dashboard.theme import AGED_STYLE, PLOT_HEIGHT_PX, UPDATED, palette
from dashboard.views.costs import prices_in_force
from dashboard.views.history import with_notes
from dashboard.views.literal import escaped
from dashboard.views.times import (
    DEFAULT_RANGE,
    DEFAULT_REFRESH,
    RANGES_S,
    REFRESHES_S,
    absolute,
    elapsed,
    moment,
    span_of,
    time_of,
    window_of,
    written,
    zone_of,
)
from predictor.core.parameters import Parameters

ALL_MODELS = "all models"
_CHOSEN = "chosen-range"  # of a plot, until the fields that hold it are drawn
_ENDS = ("from", "to")
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
        colours = palette(st.context.theme.type)
        return Look(colours, self.zone, edits, height_px)

    @property
    def shown(self) -> str:
        """The time range and model, which stay while the range moves on."""
        window = self.window
        of_range = f"{window.duration_s:g}" if window.moves else f"{window.start_s}-{window.end_s}"
        return f"{of_range} {self.model}"

    def link(self) -> dict[str, str]:
        """The parameters of an address that shows the same to anyone at any time."""
        ends = {"from": written(self.window.start_s), "to": written(self.window.end_s)}
        return ends | ({} if self.model is None else {"model": self.model})

    def choose_range(self, start: str, end: str) -> None:
        """Of all plots and pages, as a plot has its times: in the reader's zone."""
        start_s, end_s = (time_of(each, self.zone) for each in (start, end))
        if start_s is not None and end_s is not None:
            st.session_state[_CHOSEN] = (written(start_s), written(end_s))

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
        window=_window(parts.now(), zone_of(st.context.timezone)),
        model=None if model == ALL_MODELS else model,
        refresh_s=REFRESHES_S.get(chosen.get("refresh", DEFAULT_REFRESH)),
        zone=zone_of(st.context.timezone),
    )


def _window(now_s: float, zone: tzinfo) -> Window:
    """The absolute range where one is given and can be read, else the chosen one up to now."""
    chosen = st.session_state
    found = absolute(chosen.get("from") or "", chosen.get("to") or "", zone, now_s)
    if isinstance(found, Window):
        return found
    return window_of(chosen.get("range", DEFAULT_RANGE), now_s)


def selectors(*, of_measurements: bool = True) -> None:
    """Time range, model and refresh; kept in the URL, so that a reload or a link has them.

    On a page that measures nothing, they would do nothing, and are not there.
    """
    if (chosen := st.session_state.pop(_CHOSEN, None)) is not None:
        st.session_state["from"], st.session_state["to"] = chosen
    parts = wiring.parts()
    if not of_measurements:
        st.markdown(f"**{escaped(parts.name)}**")
        return
    step = window_of(DEFAULT_RANGE, parts.now()).end_s
    models = list(optional(lambda: ask_now(parts.metrics.models, step), ()))
    # A model that nobody reports now stays chosen: Prometheus may only be away.
    for kept in (st.query_params.get("model"), st.session_state.get("model")):
        if kept is not None and kept not in (ALL_MODELS, *models):
            models.append(kept)
    row = st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="top", gap="small"
    )
    row.markdown(f"**{escaped(parts.name)}**", width="stretch")
    _absolute(row, parts.now())
    _select(row, "range", "Time range", list(RANGES_S), DEFAULT_RANGE)
    _select(row, "model", "Model", [ALL_MODELS, *models], ALL_MODELS)
    _select(row, "refresh", "Refresh", list(REFRESHES_S), DEFAULT_REFRESH)


def _absolute(row: DeltaGenerator, now_s: float) -> None:
    """From when to when, instead of up to now."""
    zone = zone_of(st.context.timezone)
    # Before the fields are drawn the first time, the address alone has them.
    start, end = (st.session_state.get(each, st.query_params.get(each)) or "" for each in _ENDS)
    found = absolute(start, end, zone, now_s)
    label = ":material/calendar_month: From … to …"
    if isinstance(found, Window):
        label = f":material/calendar_month: {escaped(span_of(found, zone, now_s))}"
    with row.popover(label, width="content"):
        for key, name in zip(_ENDS, ("From", "To"), strict=True):
            st.text_input(
                name,
                key=key,
                bind="query-params",
                persist_state="session",
                placeholder="2026-11-30 14:05:00",
                help="In your time zone; or with a Z at its end, in UTC.",
                max_chars=40,
            )
        if isinstance(found, str):
            st.error(escaped(found))
        st.caption("Or draw across a plot over time.")
    if isinstance(found, Window):
        row.button("Back to now", on_click=_back_to_now, key="back-to-now")


def _back_to_now() -> None:
    for each in _ENDS:
        st.session_state[each] = ""


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


def refreshing(
    draw: Callable[[], None], every_s: float | None = None, *, dated: bool = True
) -> None:
    """Draw a part, and again as often as the reader chose. Nothing else on the page is touched,
    so an edit in progress stays. `dated`: the page says when this part was drawn."""

    @wraps(draw)  # a fragment is known by its function's name
    def safely() -> None:
        if _CHOSEN in st.session_state:
            st.rerun()  # the fields that hold it are not of this part
        begin()
        if dated:
            _say_updated()
        above = st.container()
        with guarded("This part"):
            draw()
        with above:
            _say_aged()

    spot = here()
    # What is past does not change.
    every_s = every_s if every_s is not None or not spot.window.moves else spot.refresh_s
    st.fragment(safely, run_every=every_s)()


def _say_updated() -> None:
    parts, zone = wiring.parts(), zone_of(st.context.timezone)
    now_s = parts.now()
    with st.container(key=UPDATED):  # beside the selectors
        st.caption(f"updated at {moment(now_s, zone, now_s)}")


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
