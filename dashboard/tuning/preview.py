"""Preview: what the simulator says of an edit, beside what is measured."""

import streamlit as st

from dashboard import tables
from dashboard.asking import ask, optional
from dashboard.here import Here
from dashboard.ports import ALL, Forecast
from dashboard.tuning import state
from dashboard.views.costs import pool_costs, usd_per_1000
from dashboard.views.draft import checked
from dashboard.views.literal import escaped
from dashboard.views.tuning import Whole, forecast_table, question_of, whole_of
from dashboard.views.units import MISSING, share, usd


def draw(spot: Here, current: state.Draft, *, run: bool) -> None:
    with st.container():  # what stands below does not move when this has gone
        if run:
            with st.spinner("Simulating…"):
                state.keep_forecast(current, _simulate(spot, current))
    found = state.forecast(current)
    if found is None:
        return
    forecast, fresh = found
    st.markdown("**Preview**")
    with st.container():
        if not fresh:
            st.info("The edits have changed since this preview; press Preview again.")
    _show_whole(_measured(spot), forecast)
    tiers = optional(lambda: ask(spot.parts.metrics.tiers, spot.window, ALL), ())
    tables.show(forecast_table(tiers, forecast))
    simulated = f"{forecast.requests:,} requests, {forecast.simulated_s:.0f} s simulated."
    st.caption(escaped(" ".join(part for part in (simulated, forecast.note) if part)))


def _simulate(spot: Here, current: state.Draft) -> Forecast:
    """All models: they share the devices."""
    metrics = spot.parts.metrics
    return spot.parts.preview(
        question_of(
            checked(current.base.parameters, current.edits),
            ask(metrics.arrivals, spot.window, ALL),
            ask(metrics.service_models, ALL),
            spot.replicas(),
            spot.prices(),
        )
    )


def _measured(spot: Here) -> Whole:
    metrics, window = spot.parts.metrics, spot.window
    costs = pool_costs(optional(lambda: ask(metrics.pools, window, ALL), ()), spot.prices())
    return whole_of(
        optional(lambda: ask(metrics.utilisation, window, ALL), None),
        optional(lambda: ask(metrics.batches, window, ALL), None),
        usd_per_1000(costs),
    )


def _show_whole(now: Whole, forecast: Forecast) -> None:
    rows = f"{now.mean_batch_rows:.1f}" if now.mean_batch_rows is not None else MISSING
    tiles = {
        "Device busy": (share(forecast.busy), share(now.busy)),
        "Of use": (share(forecast.useful), share(now.useful)),
        "Rows in a batch": (f"{forecast.mean_batch_rows:.1f}", rows),
        "1,000 requests": (usd(forecast.usd_per_1000), usd(now.usd_per_1000)),
    }
    for column, (label, (then, before)) in zip(st.columns(len(tiles)), tiles.items(), strict=True):
        column.metric(
            label, then, f"now {before}", delta_color="off", delta_arrow="off", border=True
        )
