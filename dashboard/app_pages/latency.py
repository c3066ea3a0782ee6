"""Latency: where the time goes, and how it spreads."""

from collections.abc import Mapping

import streamlit as st

from dashboard import charts, plots, tables
from dashboard.asking import ask, guarded, optional
from dashboard.here import Here, here, refreshing
from dashboard.ports import Split
from dashboard.token_plots import show_tokens
from dashboard.views.latency import endings_table, stage_table
from dashboard.views.overview import answer_slos_s, limits_ms

WHAT_COUNTS = "First tokens count from the arrival, each of the next ones from the one before."
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def limits(spot: Here) -> Mapping[str, float]:
    tiers = optional(lambda: ask(spot.parts.metrics.tiers, spot.window, spot.where), ())
    return limits_ms(answer_slos_s(tiers))


def show_over_time(spot: Here, quantile: str, by: Split) -> None:
    series = ask(spot.parts.metrics.latency, spot.window, QUANTILES[quantile], spot.where, by)
    charts.show_over_time(
        spot,
        plots.lines(
            spot.look(),
            series,
            f"{quantile} latency by {by.value}",
            "latency (ms)",
            scale=1e3,
            limits=limits(spot),
        ),
        key="latency-lines",
    )


def show_heat(spot: Here) -> None:
    found = ask(spot.parts.metrics.latency_heatmap, spot.window, spot.where)
    charts.show(
        plots.heat(
            spot.look(),
            found,
            "All answered requests",
            "latency (ms)",
            scale=1e3,
            limits=limits(spot),
        ),
        key="latency-heat",
    )


def show_stages(spot: Here, by: Split) -> None:
    groups = ask(spot.parts.metrics.stages, spot.window, spot.where, by)
    charts.show(
        plots.stage_bars(spot.look(), groups, f"Where the time goes, by {by.value}"),
        key="latency-stages",
    )
    tables.show(stage_table(groups))
    if by is Split.TIER:
        st.caption("An edge does not know tiers: decode, tokenise and encode are those of all.")


def show_endings(spot: Here) -> None:
    table = endings_table(ask(spot.parts.metrics.tiers, spot.window, spot.where))
    if table:
        st.markdown("**How requests ended**")
        tables.show(table)


def draw() -> None:
    spot = here()
    row = st.container(horizontal=True)
    quantile = row.segmented_control(
        "Quantile", list(QUANTILES), default="p99", key="latency-quantile", required=True
    )
    by = row.segmented_control(
        "Told apart by",
        list(Split),
        default=Split.TIER,
        format_func=lambda each: each.value,
        key="latency-by",
        required=True,
    )
    left, right = st.columns(2)
    with left, guarded("Latency over time"):
        show_over_time(spot, quantile, by)
    with right, guarded("The heat map"):
        show_heat(spot)
    with guarded("Tokens"):
        if show_tokens(spot, QUANTILES[quantile], by, key="latency"):
            st.caption(WHAT_COUNTS)
    with guarded("The stages"):
        show_stages(spot, by)
    with guarded("How requests ended"):
        show_endings(spot)


refreshing(draw)
