"""Preview: what the simulator says of an edit, beside what it says of what is in force."""

import streamlit as st

from dashboard import tables
from dashboard.asking import ask, optional
from dashboard.here import Here
from dashboard.ports import ALL, Edit
from dashboard.tuning import state
from dashboard.views.costs import pool_costs, usd_per_1000
from dashboard.views.draft import checked
from dashboard.views.literal import escaped
from dashboard.views.preview import (
    Comparison,
    Measured,
    compare,
    doubts,
    forecast_table,
    question_of,
    tiles,
    whole_of,
)


def draw(spot: Here, current: state.Draft, *, run: bool) -> None:
    with st.container():  # what stands below does not move when this has gone
        if run:
            with st.spinner("Simulating…"):
                state.keep_forecast(current, _simulate(spot, current))
    kept = state.forecast(current)
    if kept is None:
        return
    found, fresh = kept
    st.markdown("**Preview**: what is edited and what is in force, simulated on the same traffic")
    with st.container():
        if not fresh:
            st.info("The edits have changed since this preview; press Preview again.")
        for doubt in doubts(found):
            st.warning(escaped(doubt))
    shown = tiles(found)
    for column, (label, (then, beside)) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(label, then, beside, delta_color="off", delta_arrow="off", border=True)
    tables.show(forecast_table(found))
    forecast = found.edited
    simulated = f"{forecast.requests:,} requests, {forecast.simulated_s:.0f} s simulated."
    st.caption(escaped(" ".join(part for part in (simulated, forecast.note) if part)))


def _simulate(spot: Here, current: state.Draft) -> Comparison:
    """All models: they share the devices."""
    metrics, base = spot.parts.metrics, current.base.parameters
    question = question_of(
        base,
        ask(metrics.arrivals, spot.window, ALL),
        ask(metrics.service_models, ALL),
        spot.replicas(),
        spot.prices(),
    )
    edited = checked(base, current.edits) if current.edits else base
    return compare(spot.parts.preview, question, edited, _measured(spot))


def _measured(spot: Here) -> Measured:
    """Of the time whose traffic is simulated: it stays beside the forecast as time goes on."""
    metrics, window = spot.parts.metrics, spot.window
    costs = pool_costs(optional(lambda: ask(metrics.pools, window, ALL), ()), spot.prices())
    nobody: tuple[Edit, ...] = ()
    return Measured(
        optional(lambda: ask(metrics.tiers, window, ALL), ()),
        whole_of(
            optional(lambda: ask(metrics.utilisation, window, ALL), None),
            optional(lambda: ask(metrics.batches, window, ALL), None),
            usd_per_1000(costs),
        ),
        [each.generation for each in optional(lambda: ask(metrics.edits, window), nobody)],
    )
