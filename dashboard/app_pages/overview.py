"""Overview: one look tells whether all is well."""

import streamlit as st

from dashboard import charts, plots, tables
from dashboard.asking import ask, guarded, optional
from dashboard.here import Here, here, refreshing
from dashboard.ports import Pool
from dashboard.theme import FILL, TILES
from dashboard.token_plots import show_tokens
from dashboard.verdict_box import show_verdict
from dashboard.views.costs import pool_costs
from dashboard.views.literal import escaped
from dashboard.views.overview import (
    answer_slos_s,
    became_over_time,
    limits_ms,
    pool_counts,
    tier_table,
    tier_tiles,
    token_table,
    totals,
)
from dashboard.views.units import MISSING, share, usd

PLOT_PX = 270  # all of it fits 1280 by 800 pixels


def show_tiers(spot: Here) -> None:
    tiers = ask(spot.parts.metrics.tiers, spot.window, spot.where)
    tables.show(tier_table(tiers))
    if rows := token_table(tiers):
        tables.show(rows)


def tile(label: str, value: str, below: str, why: str | None = None) -> None:
    """`label` and `why` may be other people's words; `value` and `below` are numbers of ours."""
    st.metric(
        escaped(label),
        value,
        below,
        delta_color="off",
        delta_arrow="off",
        border=True,
        help=None if why is None else escaped(why),
    )


def show_traffic_tiles(spot: Here) -> None:
    tiers = ask(spot.parts.metrics.tiers, spot.window, spot.where)
    for label, (value, below) in {**tier_tiles(tiers), **totals(tiers)}.items():
        tile(label, value, below)


def show_device_tiles(spot: Here) -> None:
    used = ask(spot.parts.metrics.utilisation, spot.window, spot.where)
    tile("Busy", share(used.busy), "of its time", "Of the time that replicas were there.")
    tile("Useful", share(used.useful), "padding out", "Busy time, less that of padding.")
    if used.measured_by:
        tile(used.measured_by, share(used.measured), "as measured")


def show_cost_tiles(spot: Here) -> None:
    uses = ask(spot.parts.metrics.pools, spot.window, spot.where)
    costs = {cost.pool: cost for cost in pool_costs(uses, spot.prices())}
    for pool in (Pool.SPOT, Pool.ON_DEMAND):
        cost = costs.get(pool)
        if cost is None:
            tile(f"1,000 on {pool.value}", MISSING, "no price known")
        else:
            each = f"{usd(cost.usd_per_request)} each"
            tile(f"1,000 on {pool.value}", usd(cost.usd_per_1000), each, cost.price.source)


def show_replicas(spot: Here) -> None:
    replicas = spot.replicas()
    up = sum(each.up for each in replicas)
    tile("Replicas", f"{up} of {len(replicas)}", pool_counts(replicas))


def show_p99(spot: Here) -> None:
    series = ask(spot.parts.metrics.latency, spot.window, 0.99, spot.where)
    tiers = optional(lambda: ask(spot.parts.metrics.tiers, spot.window, spot.where), ())
    limits = limits_ms(answer_slos_s(tiers))
    charts.show_over_time(
        spot,
        plots.lines(spot.look(PLOT_PX), series, "p99 latency", "ms", scale=1e3, limits=limits),
        key="overview-p99",
        fills=True,
    )


def show_traffic(spot: Here) -> None:
    traffic = ask(spot.parts.metrics.traffic, spot.window, spot.where)
    series = became_over_time(traffic)
    charts.show_over_time(
        spot,
        plots.lines(spot.look(PLOT_PX), series, "What became of requests", "requests/s"),
        key="overview-traffic",
        fills=True,
    )


def show_queue(spot: Here) -> None:
    traffic = ask(spot.parts.metrics.traffic, spot.window, spot.where)
    charts.show_over_time(
        spot,
        plots.lines(spot.look(PLOT_PX), traffic.queue_depth, "Queue depth", "rows"),
        key="overview-queue",
        fills=True,
    )


def show_utilisation(spot: Here) -> None:
    used = ask(spot.parts.metrics.utilisation, spot.window, spot.where)
    charts.show_over_time(
        spot,
        plots.lines(
            spot.look(PLOT_PX),
            used.over_time,
            "Utilisation",
            "of device time",
            share=True,
            top=1.0,
        ),
        key="overview-utilisation",
        fills=True,
    )


def draw() -> None:
    spot = here()
    with guarded("The verdict"):
        show_verdict(spot)
    with st.container(key=f"{TILES}-overview"):
        with guarded("Traffic"):
            show_traffic_tiles(spot)
        with guarded("Utilisation"):
            show_device_tiles(spot)
        with guarded("Cost"):
            show_cost_tiles(spot)
        with guarded("Replicas"):
            show_replicas(spot)
    with guarded("The table of tiers"):
        show_tiers(spot)
    shown = (show_p99, show_traffic, show_queue, show_utilisation)
    for column, show in zip(st.columns(len(shown)), shown, strict=True):
        frame = column.container(key=f"{FILL}-{show.__name__}", height=PLOT_PX, border=False)
        with frame, guarded("This plot"):
            show(spot)
    with guarded("Tokens"):
        show_tokens(spot, 0.99, key="overview", height_px=PLOT_PX)


refreshing(draw)
