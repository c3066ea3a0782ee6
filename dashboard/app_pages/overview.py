"""Overview: one look tells whether all is well."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import plots, tables
from dashboard.asking import ask, guarded, optional
from dashboard.here import Here, here, refreshing
from dashboard.ports import Pool
from dashboard.token_plots import show_tokens
from dashboard.views.costs import pool_costs
from dashboard.views.literal import escaped
from dashboard.views.overview import (
    answer_slos_s,
    limits_ms,
    pool_counts,
    tier_table,
    token_table,
    totals,
    verdict,
)
from dashboard.views.units import MISSING, share, usd

PLOT_PX = 340  # all of it fits 1280 by 800 pixels


def say_verdict(spot: Here) -> None:
    tiers = ask(spot.parts.metrics.tiers, spot.window, spot.where)
    costs = pool_costs(
        optional(lambda: ask(spot.parts.metrics.pools, spot.window, spot.where), ()), spot.prices()
    )
    said = verdict(tiers, spot.parameters(), costs, optional(spot.replicas, ()))
    show = st.success if said.well else st.warning
    show(escaped(said.text), icon=":material/check_circle:" if said.well else ":material/warning:")


def show_tiers(spot: Here) -> None:
    tiers = ask(spot.parts.metrics.tiers, spot.window, spot.where)
    tables.show(tier_table(tiers, spot.parameters()))
    if rows := token_table(tiers, spot.parameters()):
        tables.show(rows)


def tile(where: DeltaGenerator, label: str, value: str, below: str, why: str | None = None) -> None:
    """`label` and `why` may be other people's words; `value` and `below` are numbers of ours."""
    where.metric(
        escaped(label),
        value,
        below,
        delta_color="off",
        delta_arrow="off",
        border=True,
        help=None if why is None else escaped(why),
    )


def show_traffic_tiles(spot: Here) -> None:
    numbers = totals(ask(spot.parts.metrics.tiers, spot.window, spot.where))
    for column, (label, (value, below)) in zip(st.columns(3), numbers.items(), strict=True):
        tile(column, label, value, below)


def show_device_tiles(spot: Here) -> None:
    used = ask(spot.parts.metrics.utilisation, spot.window, spot.where)
    left, middle, right = st.columns(3)
    tile(left, "Busy", share(used.busy), "of its time")
    tile(middle, "Useful", share(used.useful), "padding out", "Busy time, less that of padding.")
    if used.measured_by:
        tile(right, used.measured_by, share(used.measured), "as measured")
    else:
        tile(right, "NVML", MISSING, "not measured", "No replica's device tells its utilisation.")


def show_cost_tiles(spot: Here) -> None:
    uses = ask(spot.parts.metrics.pools, spot.window, spot.where)
    costs = {cost.pool: cost for cost in pool_costs(uses, spot.prices())}
    for column, pool in zip(st.columns(2), (Pool.SPOT, Pool.ON_DEMAND), strict=True):
        cost = costs.get(pool)
        if cost is None:
            tile(column, f"1,000 on {pool.value}", MISSING, "no price known")
        else:
            each = f"{usd(cost.usd_per_request)} each"
            tile(column, f"1,000 on {pool.value}", usd(cost.usd_per_1000), each, cost.price.source)


def show_replicas(spot: Here) -> None:
    replicas = spot.replicas()
    up = sum(each.up for each in replicas)
    tile(st.container(), "Replicas", f"{up} of {len(replicas)}", pool_counts(replicas))


def show_p99(spot: Here) -> None:
    series = ask(spot.parts.metrics.latency, spot.window, 0.99, spot.where)
    tiers = optional(lambda: ask(spot.parts.metrics.tiers, spot.window, spot.where), ())
    limits = limits_ms(answer_slos_s(tiers, spot.parameters()))
    st.plotly_chart(
        plots.lines(spot.look(PLOT_PX), series, "p99 latency", "ms", scale=1e3, limits=limits),
        theme=None,
        key="overview-p99",
    )


def show_traffic(spot: Here) -> None:
    traffic = ask(spot.parts.metrics.traffic, spot.window, spot.where)
    series = [
        *(plots.renamed(each, "good") for each in traffic.good),
        *(plots.renamed(each, "refused") for each in traffic.refused),
    ]
    st.plotly_chart(
        plots.lines(spot.look(PLOT_PX), series, "Goodput and refusals", "requests/s"),
        theme=None,
        key="overview-traffic",
    )


def show_queue(spot: Here) -> None:
    traffic = ask(spot.parts.metrics.traffic, spot.window, spot.where)
    st.plotly_chart(
        plots.lines(spot.look(PLOT_PX), traffic.queue_depth, "Queue depth", "rows"),
        theme=None,
        key="overview-queue",
    )


def show_utilisation(spot: Here) -> None:
    used = ask(spot.parts.metrics.utilisation, spot.window, spot.where)
    st.plotly_chart(
        plots.lines(
            spot.look(PLOT_PX),
            used.over_time,
            "Utilisation",
            "of device time",
            share=True,
            top=1.0,
        ),
        theme=None,
        key="overview-utilisation",
    )


def draw() -> None:
    spot = here()
    with guarded("The verdict"):
        say_verdict(spot)
    with guarded("The table of tiers"):
        show_tiers(spot)
    traffic, device, cost, replicas = st.columns([3, 2.8, 2.8, 1.4])
    with traffic, guarded("Traffic"):
        show_traffic_tiles(spot)
    with device, guarded("Utilisation"):
        show_device_tiles(spot)
    with cost, guarded("Cost"):
        show_cost_tiles(spot)
    with replicas, guarded("Replicas"):
        show_replicas(spot)
    shown = (show_p99, show_traffic, show_queue, show_utilisation)
    for column, show in zip(st.columns(len(shown)), shown, strict=True):
        with column, guarded("This plot"):
            show(spot)
    with guarded("Tokens"):
        show_tokens(spot, 0.99, key="overview", height_px=PLOT_PX)


refreshing(draw)
