"""Tuning: edit, preview, apply, watch it take hold, roll back."""

import streamlit as st

from dashboard import tables
from dashboard.asking import guarded, optional
from dashboard.here import here, refreshing
from dashboard.tuning import form, history, state
from dashboard.views.overview import Fleet
from dashboard.views.tuning import replica_table, take_hold

FOLLOW_S = 1.0  # while an edit takes hold


def show_take_hold() -> None:
    with guarded("The replicas"):
        spot = here()
        applied = state.applied()
        stored = optional(spot.parts.store.read, None)  # what is wrong with it, the form says
        replicas = spot.parts.metrics.replicas()
        generation = stored.parameters.generation if stored else Fleet.of(replicas).generation
        hold = take_hold(replicas, generation or 0, applied.time_s if applied else None)
        (st.success if hold.done else st.info)(hold.text)
        with st.expander("Replicas"):
            tables.show(replica_table(replicas))
        if hold.done and applied is not None:
            state.took_hold()
            st.rerun()


with guarded("The parameters"):
    with st.container():  # what stands below must not move when this grows
        refreshing(show_take_hold, FOLLOW_S if state.applied() is not None else None)
    form.draw()
with guarded("The history"):
    history.draw()
