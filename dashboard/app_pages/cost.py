"""Cost: what a request costs, where the money goes, and what other prices would make of it."""

import streamlit as st

from dashboard import charts, plots, tables
from dashboard.asking import ask, guarded
from dashboard.here import Here, here, refreshing
from dashboard.ports import NoData, Pool, PoolUse
from dashboard.views.costs import (
    PoolCost,
    as_csv,
    as_json,
    compared_words,
    cost_table,
    costs_over_time,
    model_costs,
    pool_costs,
    saved_usd,
    saved_words,
    spot_saving,
    spot_share,
    tier_costs,
    told_prices,
    what_if,
    why_unlike,
    with_times,
)
from dashboard.views.literal import escaped
from dashboard.views.units import MISSING, count, usd

SAVED_HELP = "What the replica time on spot would have cost more at the on-demand price."


def costs_of(spot: Here) -> tuple[list[PoolUse], list[PoolCost]]:
    """Raises NoData where no pool has a price."""
    uses = ask(spot.parts.metrics.pools, spot.window, spot.where)
    costs = pool_costs(uses, spot.prices())
    if not costs:
        raise NoData(
            "No pool has a price. Let Prometheus scrape OpenCost or Karpenter, or fill in the"
            " price table."
        )
    return list(uses), list(costs)


def show_tiles(costs: list[PoolCost]) -> None:
    columns = st.columns(len(costs) + 2)
    for column, cost in zip(columns, costs, strict=False):
        column.metric(
            f"1,000 requests on {cost.pool.value}",
            usd(cost.usd_per_1000),
            border=True,
            help=f"{usd(cost.usd_per_request)} a request; {count(cost.completed)} answered by"
            f" {cost.replicas:.1f} replicas on average.",
        )
    saving, saved = spot_saving(costs), saved_usd(costs)
    label, value = compared_words(saving)
    columns[-2].metric(label, value, border=True)
    label, value = saved_words(saved)
    columns[-1].metric(label, value, border=True, help=SAVED_HELP)
    if sentence := why_unlike(saving, saved):
        st.caption(sentence)


def show_over_time(spot: Here, uses: list[PoolUse]) -> None:
    presence = [(use.pool, use.over_time) for use in uses if use.over_time is not None]
    charts.show_over_time(
        spot,
        plots.lines(
            spot.look(),
            costs_over_time(presence, spot.prices()),
            "What pools cost, by their replicas",
            "USD an hour",
            stacked=True,
        ),
        key="cost-over-time",
    )


def show_bars(spot: Here, uses: list[PoolUse], costs: list[PoolCost]) -> None:
    left, right = st.columns(2)
    with left:
        show_over_time(spot, uses)
    charts.show(
        plots.part_bars(
            spot.look(),
            {cost.pool.value: cost.parts for cost in costs},
            "Where the money of a pool goes",
            "USD in this time range",
        ),
        key="cost-pools",
        where=right,
    )
    tiers, models = tier_costs(uses, spot.prices()), model_costs(uses, spot.prices())
    left, right = st.columns(2)
    for column, key, title, named in (
        (left, "tiers", "Cost of a tier", {each.tier: each.usd_per_1000 for each in tiers}),
        (right, "models", "Cost of a model", {each.model: each.usd_per_1000 for each in models}),
    ):
        charts.show(
            plots.grouped_bars(
                spot.look(),
                list(named),
                {"per 1,000 requests": list(named.values())},
                f"{title}, idle and padding included",
                "USD per 1,000 requests",
            ),
            key=f"cost-{key}",
            where=column,
        )


def show_table(spot: Here, uses: list[PoolUse], costs: list[PoolCost]) -> None:
    table = cost_table(costs)
    tables.show(table)
    of_range = with_times(table, spot.window)
    row = st.container(horizontal=True, vertical_alignment="center")
    row.download_button("Download as CSV", as_csv(of_range), "headway-cost.csv", "text/csv")
    row.download_button("as JSON", as_json(of_range), "headway-cost.json", "application/json")
    row.page_link(
        "app_pages/cost.py",
        label="Link to this time range",
        icon=":material/link:",
        query_params=spot.link(),
    )
    row.caption(escaped(told_prices(uses, costs)))


def draw() -> None:
    spot = here()
    with guarded("The costs"):
        uses, costs = costs_of(spot)
        show_tiles(costs)
        with guarded("The bars"):
            show_bars(spot, uses, costs)
        with guarded("The table"):
            show_table(spot, uses, costs)


def price_input(pool: Pool, known_usd: float) -> float:
    return st.number_input(
        f"{pool.value} (USD an hour for each replica)",
        min_value=0.0,
        max_value=10_000.0,
        value=min(known_usd, 10_000.0),
        step=0.01,
        format="%.4f",
        key=f"what-if-{pool.value}",
    )


@st.fragment
def ask_what_if() -> None:
    with guarded("What if"):
        spot = here()
        uses = ask(spot.parts.metrics.pools, spot.window, spot.where)
        prices = {pool: price.usd_per_hour for pool, price in spot.prices().items()}
        one, two, three = st.columns(3)
        with one:
            on_spot = price_input(Pool.SPOT, prices.get(Pool.SPOT, 0.0))
        with two:
            on_demand = price_input(Pool.ON_DEMAND, prices.get(Pool.ON_DEMAND, 0.0))
        with three:
            percent = st.slider(
                "Replica time on spot (%)",
                0,
                100,
                round(spot_share(uses) * 100),
                key="what-if-share",
            )
        found = what_if(
            uses,
            duration_s=spot.window.duration_s,
            spot_usd_per_hour=on_spot,
            on_demand_usd_per_hour=on_demand,
            share_on_spot=percent / 100,
        )
        one, two, three = st.columns(3)
        one.metric("This time range", usd(found.usd), border=True)
        two.metric("1,000 requests", usd(found.usd_per_1000) or MISSING, border=True)
        three.metric("A month like this", usd(found.usd_per_month), border=True)
        st.caption("The same replica time and the same requests; only prices and shares change.")


refreshing(draw)
st.subheader("What if", divider="gray")
ask_what_if()
