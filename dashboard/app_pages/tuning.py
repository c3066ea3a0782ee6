"""Tuning: edit, preview, apply, watch it take hold, roll back."""

import streamlit as st

from dashboard import tables
from dashboard.asking import guarded, optional
from dashboard.here import here, refreshing
from dashboard.tuning import form, history, state
from dashboard.views.tuning import replica_table, take_hold

FOLLOW_S = 1.0  # while an edit takes hold


def show_take_hold() -> None:
    with guarded("The replicas"):
        spot = here()
        applied = state.applied()
        stored = spot.parts.store.read()
        replicas = spot.parts.metrics.replicas()
        hold = take_hold(
            replicas, stored.parameters.generation, applied.time_s if applied else None
        )
        (st.success if hold.done else st.info)(hold.text)
        with st.expander("Replicas"):
            tables.show(replica_table(replicas))
        if hold.done and applied is not None:
            state.took_hold()
            st.rerun()


with guarded("The parameters"):
    refreshing(show_take_hold, FOLLOW_S if state.applied() is not None else None)
    form.draw()
with guarded("The history"):
    history.draw(optional(here().parts.store.read, None))
