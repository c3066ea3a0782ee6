"""What serving cost: a pool's price times its presence, and where that money went.

cost of a pool  = price of a replica * time that its replicas were there
of that: idle   = price * (presence - busy)
         padding = price * busy * share of padding tokens
         a tier = price * its device time, without the padding in it
per request     = cost of the pool / requests it answered, idle and padding included
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard.ports import Pool, PoolUse, Price, Series, Window
from dashboard.views.times import written
from dashboard.views.units import MISSING, listed, share, usd

HOUR_S = 3600.0
IDLE, PADDING = "idle", "padding"


@dataclass(frozen=True, slots=True)
class PoolCost:
    """USD in a window. A pool without a price is not among the costs."""

    pool: Pool
    price: Price
    replicas: float
    completed: float
    usd: float
    idle_usd: float
    padding_usd: float
    tier_usd: Mapping[str, float]  # device time alone, idle and padding left out

    @property
    def usd_per_request(self) -> float | None:
        return self.usd / self.completed if self.completed > 0 else None

    @property
    def usd_per_1000(self) -> float | None:
        each = self.usd_per_request
        return None if each is None else each * 1000

    @property
    def parts(self) -> Mapping[str, float]:
        """Tiers, padding, idle: together all of the cost."""
        return {**self.tier_usd, PADDING: self.padding_usd, IDLE: self.idle_usd}


@dataclass(frozen=True, slots=True)
class TierCost:
    """A tier over all pools. `usd` carries its part of idle and padding too, by device time."""

    tier: str
    completed: float
    usd: float

    @property
    def usd_per_1000(self) -> float | None:
        return self.usd / self.completed * 1000 if self.completed > 0 else None


def prices_in_force(measured: Sequence[Price], table: Sequence[Price]) -> Mapping[Pool, Price]:
    """What Prometheus says goes before the price table."""
    return {price.pool: price for price in (*table, *measured)}


def pool_costs(uses: Sequence[PoolUse], prices: Mapping[Pool, Price]) -> Sequence[PoolCost]:
    return [_cost(use, prices[use.pool]) for use in uses if use.pool in prices]


def _cost(use: PoolUse, price: Price) -> PoolCost:
    usd_per_s = price.usd_per_hour / HOUR_S
    usd_per_device_s = usd_per_s / max(use.devices, 1.0)
    computed = 1.0 - use.padding_share
    return PoolCost(
        pool=use.pool,
        price=price,
        replicas=use.replicas,
        completed=use.completed,
        usd=usd_per_s * use.present_s,
        idle_usd=max(0.0, usd_per_s * use.present_s - usd_per_device_s * use.busy_s),
        padding_usd=usd_per_device_s * use.busy_s * use.padding_share,
        tier_usd={
            tier: usd_per_device_s * device_s * computed
            for tier, device_s in use.tier_device_s.items()
        },
    )


def tier_costs(uses: Sequence[PoolUse], prices: Mapping[Pool, Price]) -> Sequence[TierCost]:
    """All that was paid, shared out to tiers by their device time."""
    completed: dict[str, float] = {}
    usd: dict[str, float] = {}
    for use in uses:
        for tier, requests in use.tier_completed.items():
            completed[tier] = completed.get(tier, 0.0) + requests
        if use.pool not in prices:
            continue
        paid = prices[use.pool].usd_per_hour / HOUR_S * use.present_s
        device_s = sum(use.tier_device_s.values())
        for tier, of_tier_s in use.tier_device_s.items():
            if device_s > 0:
                usd[tier] = usd.get(tier, 0.0) + paid * of_tier_s / device_s
    return [TierCost(tier, completed[tier], usd.get(tier, 0.0)) for tier in completed]


def spot_saving(costs: Sequence[PoolCost]) -> float | None:
    """How much less a request costs on spot than on on-demand, as a ratio; negative: more."""
    each = {cost.pool: cost.usd_per_request for cost in costs}
    spot, on_demand = each.get(Pool.SPOT), each.get(Pool.ON_DEMAND)
    return None if spot is None or not on_demand else 1.0 - spot / on_demand


def saved_usd(costs: Sequence[PoolCost]) -> float | None:
    """What the time on spot would have cost more at the on-demand price."""
    prices = {cost.pool: cost.price.usd_per_hour for cost in costs}
    spot = next((cost for cost in costs if cost.pool is Pool.SPOT), None)
    if spot is None or Pool.ON_DEMAND not in prices or prices[Pool.SPOT] <= 0:
        return None
    return spot.usd * (prices[Pool.ON_DEMAND] / prices[Pool.SPOT] - 1.0)


def compared_words(saving: float | None) -> tuple[str, str]:
    """What a tile about it is called, and its number, which is never negative: who reads "cheaper"
    beside it takes it for good news."""
    if saving is None:
        return "Spot beside on-demand", MISSING
    word = "cheaper" if saving >= 0 else "dearer"
    return f"A request on spot is {word} by", share(abs(saving))


def saved_words(saved: float | None) -> tuple[str, str]:
    """The same of money: what was paid more is not saved."""
    if saved is not None and saved < 0:
        return "Paid more for spot's hours", usd(-saved)
    return "Saved by spot's hours", usd(saved)


def why_unlike(saving: float | None, saved: float | None) -> str:
    """Where hours and requests tell the contrary of each other; empty where they do not."""
    if saving is None or saved is None or (saving < 0) == (saved < 0):
        return ""
    if saving < 0:
        return "Spot's hours were cheaper and its requests dearer: its replicas answered fewer."
    return "Spot's hours were dearer and its requests cheaper: its replicas answered more."


@dataclass(frozen=True, slots=True)
class ModelCost:
    """A model over all pools, its part of idle and padding included, by device time."""

    model: str
    completed: float
    usd: float

    @property
    def usd_per_1000(self) -> float | None:
        return self.usd / self.completed * 1000 if self.completed > 0 else None


def model_costs(uses: Sequence[PoolUse], prices: Mapping[Pool, Price]) -> Sequence[ModelCost]:
    """All that was paid, shared out to models by their device time; all to one that is alone."""
    completed: dict[str, float] = {}
    usd: dict[str, float] = {}
    for use in uses:
        for model, requests in use.model_completed.items():
            completed[model] = completed.get(model, 0.0) + requests
        if use.pool not in prices:
            continue
        paid = prices[use.pool].usd_per_hour / HOUR_S * use.present_s
        device_s = sum(use.model_device_s.values())
        for model, of_model_s in use.model_device_s.items():
            if device_s > 0:
                usd[model] = usd.get(model, 0.0) + paid * of_model_s / device_s
    return [ModelCost(model, completed[model], usd.get(model, 0.0)) for model in completed]


def costs_over_time(
    presence: Sequence[tuple[Pool, Series]], prices: Mapping[Pool, Price]
) -> Sequence[Series]:
    """USD an hour of each pool that has a price: its replicas times that."""
    return [
        Series(
            pool.value,
            line.times_s,
            tuple(value * prices[pool].usd_per_hour for value in line.values),
        )
        for pool, line in presence
        if pool in prices
    ]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The same replica time and requests, at other prices and another share of spot."""

    usd: float
    usd_per_1000: float | None
    usd_per_month: float


def spot_share(uses: Sequence[PoolUse]) -> float:
    """Of the replica time; 0 where there was none."""
    present_s = sum(use.present_s for use in uses)
    spot_s = sum(use.present_s for use in uses if use.pool is Pool.SPOT)
    return spot_s / present_s if present_s > 0 else 0.0


def what_if(
    uses: Sequence[PoolUse],
    *,
    duration_s: float,
    spot_usd_per_hour: float,
    on_demand_usd_per_hour: float,
    share_on_spot: float,
) -> WhatIf:
    """`duration_s`: of the window that `uses` are from; where data is younger, its age counts.

    A month has 730 hours.
    """
    known_s = (use.present_s / use.replicas for use in uses if use.replicas > 0)
    seconds = min(duration_s, max(known_s, default=duration_s))
    present_s = sum(use.present_s for use in uses)
    completed = sum(use.completed for use in uses)
    usd_per_hour = (
        share_on_spot * spot_usd_per_hour + (1.0 - share_on_spot) * on_demand_usd_per_hour
    )
    usd = usd_per_hour * present_s / HOUR_S
    return WhatIf(
        usd=usd,
        usd_per_1000=usd / completed * 1000 if completed > 0 else None,
        usd_per_month=usd / seconds * HOUR_S * 730 if seconds > 0 else 0.0,
    )


def with_times(
    table: Sequence[Mapping[str, str | float]], window: Window
) -> list[dict[str, str | float]]:
    """Each row with the range that it is of, so that a file says it when nobody else does."""
    ends = {"from": written(window.start_s), "to": written(window.end_s)}
    return [{**ends, **row} for row in table]


def as_json(table: Sequence[Mapping[str, str | float]]) -> str:
    return json.dumps(table, indent=1)


def cost_table(costs: Sequence[PoolCost]) -> list[dict[str, str | float]]:
    """A row for each pool and part, for the table and its download."""
    return [
        {
            "pool": cost.pool.value,
            "part": part,
            "USD": usd,
            "share of the pool": usd / cost.usd if cost.usd else 0.0,
            "USD per 1,000 requests": usd / cost.completed * 1000 if cost.completed else 0.0,
        }
        for cost in costs
        for part, usd in cost.parts.items()
    ]


def told_prices(uses: Sequence[PoolUse], costs: Sequence[PoolCost]) -> str:
    """ "Prices: spot $1.24 an hour on g2-standard-4 (OpenCost)"; the node where it is known."""
    types = {use.pool: use.instance_types for use in uses}
    return "Prices: " + "; ".join(
        f"{cost.pool.value} {usd(cost.price.usd_per_hour)} an hour"
        + (f" on {listed(types[cost.pool])}" if types[cost.pool] else "")
        + f" ({cost.price.source})"
        for cost in costs
    )


def as_csv(table: Sequence[Mapping[str, str | float]]) -> str:
    if not table:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def usd_per_1000(costs: Sequence[PoolCost]) -> float | None:
    """Over all pools that have a price."""
    completed = sum(cost.completed for cost in costs)
    return sum(cost.usd for cost in costs) / completed * 1000 if completed > 0 else None
