"""The history: who changed what, when and why, and the way back."""

import streamlit as st

from dashboard.here import Here, here
from dashboard.ports import DashboardError, Missing, Refused, Stored
from dashboard.tuning import state
from dashboard.views.history import Row, rows
from dashboard.views.literal import escaped, one_line

ENTRIES = 20
MAX_REASON_LENGTH = 500


def draw() -> None:
    """Redrawn by itself: an edit of another tab shows here, too."""
    spot = here()
    st.subheader("History", divider="gray")
    entries = spot.parts.store.history(ENTRIES)
    if not entries:
        st.caption("No edit was made here yet.")
        return
    stored, obstacle = in_place(spot)
    for row in rows(entries, stored, spot.zone):
        _show(spot, stored, row, obstacle)


def in_place(spot: Here) -> tuple[Stored | None, str]:
    """What lies in the store, None where that is refused or missing, and why it cannot be
    replaced; empty where it can."""
    try:
        return spot.parts.store.read(), ""
    except (Refused, Missing):
        return None, ""
    except DashboardError as error:
        return None, str(error)


def _show(spot: Here, stored: Stored | None, row: Row, obstacle: str) -> None:
    what, button = st.columns([5, 1.4], vertical_alignment="center")
    with what:
        # Names and reasons are other people's words: shown as they are, never as markup.
        st.text(one_line(f"Generation {row.generation}. {row.heading}"))
        if row.changes:
            st.caption(escaped(row.changes))
    if row.can_return:
        with button:
            offer(spot, stored, row.generation, f"roll-back-{row.generation}", obstacle)


def offer(spot: Here, stored: Stored | None, generation: int, key: str, obstacle: str = "") -> None:
    """A button that asks why, and rolls back. `stored`: None where what lies there is refused, or
    nothing does. `obstacle`: why it cannot be done."""
    who = spot.who()
    if not spot.parts.store.editable:
        obstacle = "Read-only: editing is off in this dashboard's settings."
    elif who is None:
        obstacle = "Nothing tells who you are: log in first."
    if st.button(
        f"Roll back to {generation}",
        key=key,
        disabled=bool(obstacle),
        help=escaped(obstacle) if obstacle else None,
    ):
        state.ask_why(key)
    if state.asks_why(key) and who is not None:
        reason = st.text_input(
            "Why?", max_chars=MAX_REASON_LENGTH, live=True, key=f"{key}-reason", placeholder="why"
        )
        yes, no = st.columns(2)
        if yes.button("Do it", type="primary", disabled=not reason.strip(), key=f"{key}-do"):
            _roll_back(spot, stored, generation, who, reason.strip())
        if no.button("Leave it", key=f"{key}-leave"):
            state.ask_why(None)
            st.rerun()


def _roll_back(spot: Here, stored: Stored | None, generation: int, who: str, reason: str) -> None:
    why = f"Roll back to generation {generation}: {reason}"[:MAX_REASON_LENGTH]
    try:
        now = spot.parts.store.roll_back(generation, expected=stored, who=who, reason=why)
    except DashboardError as error:
        state.notice(f"Not rolled back. {error}")
    else:
        state.was_applied(now, spot.parts.now())
    state.ask_why(None)
    st.rerun()
