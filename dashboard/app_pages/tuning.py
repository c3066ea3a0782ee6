"""Tuning: edit, preview, apply, watch it take hold, roll back."""

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from dashboard import tables
from dashboard.asking import ask_now, guarded, optional
from dashboard.here import Here, here, refreshing
from dashboard.tuning import form, history, state
from dashboard.views.overview import Fleet
from dashboard.views.tuning import replica_table, take_hold

FOLLOW_S = 1.0  # while an edit takes hold
LATELY_S = 5.0  # an answer is new enough for so long, when none does

T = TypeVar("T")


def show_take_hold() -> None:
    """Ends by drawing the form anew, and only the form: were it the page, a reader who goes to
    another one at that moment would be brought back, or find it without its refresh. So the
    quick refresh stays until then, and asks less."""
    with guarded("The replicas"):
        spot = here()
        applied = state.applied()

        def asked(question: Callable[[], T]) -> T:
            return question() if applied else lately(spot, question)

        # What is wrong with the parameters, the form says.
        stored = optional(lambda: asked(spot.parts.store.read), None)
        replicas = asked(spot.parts.metrics.replicas)
        generation = stored.parameters.generation if stored else Fleet.of(replicas).generation
        hold = take_hold(replicas, generation or 0, applied.time_s if applied else None)
        (st.success if hold.done else st.info)(hold.text)
        with st.expander("Replicas"):
            tables.show(replica_table(replicas))
        if hold.done and applied is not None:
            state.took_hold()
            st.rerun(scope=form.KEY)


def lately(spot: Here, question: Callable[[], T]) -> T:
    return ask_now(question, spot.parts.now() // LATELY_S)


with guarded("The parameters"):
    with st.container():  # what stands below must not move when this grows
        refreshing(show_take_hold, FOLLOW_S if state.applied() is not None else None)
    form.draw()
with guarded("The history"):
    history.draw()
