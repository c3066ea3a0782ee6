"""Cost: what a request costs, where the money goes, and what other prices would make of it."""

import streamlit as st

from dashboard import plots, tables
from dashboard.asking import ask, guarded
from dashboard.here import Here, here, refreshing
from dashboard.ports import NoData, Pool, PoolUse
from dashboard.views.costs import (
    PoolCost,
    as_csv,
    cost_table,
    pool_costs,
    saved_usd,
    spot_saving,
    spot_share,
    tier_costs,
    told_prices,
    what_if,
)
from dashboard.views.literal import escaped
from dashboard.views.units import MISSING, count, share, usd

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
    columns[-2].metric("A request on spot is cheaper by", share(spot_saving(costs)), border=True)
    columns[-1].metric("Saved by spot", usd(saved_usd(costs)), border=True, help=SAVED_HELP)


def show_bars(spot: Here, uses: list[PoolUse], costs: list[PoolCost]) -> None:
    left, right = st.columns(2)
    left.plotly_chart(
        plots.part_bars(
            spot.look(),
            {cost.pool.value: cost.parts for cost in costs},
            "Where the money of a pool goes",
            "USD in this time range",
        ),
        theme=None,
        key="cost-pools",
    )
    tiers = tier_costs(uses, spot.prices())
    right.plotly_chart(
        plots.grouped_bars(
            spot.look(),
            [tier.tier for tier in tiers],
            {"per 1,000 requests": [tier.usd_per_1000 for tier in tiers]},
            "Cost of a tier, idle and padding included",
            "USD per 1,000 requests",
        ),
        theme=None,
        key="cost-tiers",
    )


def show_table(uses: list[PoolUse], costs: list[PoolCost]) -> None:
    table = cost_table(costs)
    tables.show(table)
    row = st.container(horizontal=True, vertical_alignment="center")
    row.download_button("Download as CSV", as_csv(table), "headway-cost.csv", "text/csv")
    row.caption(escaped(told_prices(uses, costs)))


def draw() -> None:
    spot = here()
    with guarded("The costs"):
        uses, costs = costs_of(spot)
        show_tiles(costs)
        with guarded("The bars"):
            show_bars(spot, uses, costs)
        with guarded("The table"):
            show_table(uses, costs)


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
