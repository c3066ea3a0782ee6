"""The history: who changed what, when and why, and the way back."""

import streamlit as st

from dashboard.here import Here, here
from dashboard.ports import DashboardError, HistoryEntry, Stored
from dashboard.tuning import state
from dashboard.views.draft import told
from dashboard.views.times import clock
from dashboard.views.tuning import generation_of
from dashboard.views.units import escaped

ENTRIES = 20


def draw(stored: Stored | None) -> None:
    spot = here()
    entries = spot.parts.store.history(ENTRIES)
    st.subheader("History", divider="gray")
    if not entries:
        st.caption("No edit was made here yet.")
        return
    for entry in entries:
        _row(spot, stored, entry.generation, _heading(spot, entry), entry)
    oldest = generation_of(entries[-1].before)
    if oldest is not None:
        _row(spot, stored, oldest, "What was in force before the first edit shown.", None)


def _heading(spot: Here, entry: HistoryEntry) -> str:
    return f"{clock(entry.time_s, spot.zone)}, {entry.who}: {entry.reason}"


def _row(
    spot: Here, stored: Stored | None, generation: int, heading: str, entry: HistoryEntry | None
) -> None:
    what, button = st.columns([5, 1.4], vertical_alignment="center")
    with what:
        # Names and reasons are other people's words: shown as they are, never as markup.
        st.text(f"Generation {generation}. {heading}")
        if entry is not None:
            st.caption(escaped("; ".join(told(change) for change in entry.changes)))
    if stored is None or stored.parameters.generation == generation:
        return
    who = spot.who()
    if button.button(
        f"Roll back to {generation}",
        key=f"roll-back-{generation}",
        disabled=not spot.parts.store.editable or who is None,
    ):
        assert who is not None
        _roll_back(spot, stored, generation, who)


def _roll_back(spot: Here, stored: Stored, generation: int, who: str) -> None:
    try:
        now = spot.parts.store.roll_back(
            generation, expected=stored, who=who, reason=f"Roll back to generation {generation}"
        )
    except DashboardError as error:
        state.notice(f"Not rolled back. {error}")
    else:
        state.was_applied(now, spot.parts.now())
    st.rerun()
