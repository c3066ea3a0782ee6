"""The history: who changed what, when and why, and the way back."""

import streamlit as st

from dashboard.here import Here, here
from dashboard.ports import DashboardError, HistoryEntry, Refused, Stored
from dashboard.tuning import state
from dashboard.views.draft import told
from dashboard.views.literal import escaped, one_line
from dashboard.views.times import clock
from dashboard.views.tuning import generation_of

ENTRIES = 20


def draw() -> None:
    spot = here()
    st.subheader("History", divider="gray")
    entries = spot.parts.store.history(ENTRIES)
    if not entries:
        st.caption("No edit was made here yet.")
        return
    stored, writable = _in_place(spot)
    for entry in entries:
        _row(spot, stored, entry.generation, _heading(spot, entry), entry, writable)
    oldest = generation_of(entries[-1].before)
    if oldest is not None:
        before = "What was in force before the first edit shown."
        _row(spot, stored, oldest, before, None, writable)


def _in_place(spot: Here) -> tuple[Stored | None, bool]:
    """What lies in the store, None where that is refused, and whether it can be replaced."""
    try:
        return spot.parts.store.read(), True
    except Refused:
        return None, True
    except DashboardError:
        return None, False


def _heading(spot: Here, entry: HistoryEntry) -> str:
    return f"{clock(entry.time_s, spot.zone)}, {entry.who}: {entry.reason}"


def _row(
    spot: Here,
    stored: Stored | None,
    generation: int,
    heading: str,
    entry: HistoryEntry | None,
    writable: bool,
) -> None:
    what, button = st.columns([5, 1.4], vertical_alignment="center")
    with what:
        # Names and reasons are other people's words: shown as they are, never as markup.
        st.text(one_line(f"Generation {generation}. {heading}"))
        if entry is not None:
            changes = "; ".join(told(change) for change in entry.changes)
            st.caption(escaped(changes or "What lay there was wrong, and was replaced whole."))
    if writable and (stored is None or stored.parameters.generation != generation):
        with button:
            offer(spot, stored, generation, f"roll-back-{generation}")


def offer(spot: Here, stored: Stored | None, generation: int, key: str) -> None:
    """A button that rolls back. `stored`: None where what lies there is refused."""
    who = spot.who()
    if st.button(
        f"Roll back to {generation}",
        key=key,
        disabled=not spot.parts.store.editable or who is None,
    ):
        assert who is not None
        _roll_back(spot, stored, generation, who)


def _roll_back(spot: Here, stored: Stored | None, generation: int, who: str) -> None:
    try:
        now = spot.parts.store.roll_back(
            generation, expected=stored, who=who, reason=f"Roll back to generation {generation}"
        )
    except DashboardError as error:
        state.notice(f"Not rolled back. {error}")
    else:
        state.was_applied(now, spot.parts.now())
    st.rerun()
