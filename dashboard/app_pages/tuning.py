"""Tuning: edit, preview, apply, watch it take hold, roll back."""

import streamlit as st

from dashboard import tables
from dashboard.asking import guarded, optional
from dashboard.here import Here, here, refreshing
from dashboard.tuning import form, history, state
from dashboard.tuning.following import follow_s, lately
from dashboard.views.history import edited_by_hand
from dashboard.views.literal import escaped
from dashboard.views.overview import Fleet
from dashboard.views.tuning import replica_table, take_hold


def show_take_hold() -> None:
    with guarded("The replicas"):
        spot = here()
        applied = state.applied()
        # What is wrong with the parameters, the form says.
        stored = optional(lambda: lately(spot, spot.parts.store.read), None)
        replicas = lately(spot, spot.parts.metrics.replicas)
        generation = stored.parameters.generation if stored else Fleet.of(replicas).generation
        hold = take_hold(replicas, generation or 0, applied.time_s if applied else None)
        (st.success if hold.done else st.info)(escaped(hold.text))
        with guarded("Edits by hand"):
            show_hand_edit(spot)
        with st.expander("Replicas"):
            tables.show(replica_table(replicas))
        if hold.done:
            state.took_hold()


def show_hand_edit(spot: Here) -> None:
    """Both are read now: of different times, they would not fit each other."""
    stored = optional(spot.parts.store.read, None)
    entries = optional(spot.parts.store.history, ())
    row = edited_by_hand(entries, stored, spot.zone) if stored else None
    if row is not None:
        st.warning(escaped(f"{row.heading}. {row.changes}"))


with guarded("The parameters"):
    with st.container():  # what stands below must not move when this grows
        refreshing(show_take_hold, follow_s())
    refreshing(form.draw, follow_s(), dated=False)
refreshing(history.draw, follow_s(), dated=False)
