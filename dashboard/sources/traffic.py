"""Reads of requests: who came, who was answered in time, who waits."""

from dashboard.ports import TierNow, Traffic
from dashboard.sources import promql
from dashboard.sources.connection import need
from dashboard.sources.demand import TIER as _TIER
from dashboard.sources.demand import demand
from dashboard.sources.latency import distributions, quantile, token_times
from dashboard.sources.reading import Key, Reading, series
from predictor.core.rows import Outcome

REFUSED = (Outcome.QUEUE_FULL, Outcome.SHED)
FAILED = (Outcome.EXPIRED, Outcome.FAILED, Outcome.UNAVAILABLE)
NO_REPLICA = (
    "Prometheus has no predictor in this time range; check that it scrapes one, or choose"
    " another range, model or tier."
)


def tiers(reading: Reading) -> list[TierNow]:
    asked = demand(reading)
    need(list(asked.read), NO_REPLICA)
    good = reading.rates(promql.GOOD, _TIER)
    latencies = distributions(reading, promql.LATENCY, _TIER)
    tokens = token_times(reading, _TIER)
    depth = _gauge(reading, promql.QUEUE_DEPTH, "sum")
    backlog = _gauge(reading, promql.BACKLOG, "sum")
    load = _gauge(reading, promql.OFFERED_LOAD, "max")

    found = [
        TierNow(
            model=key[0],
            tier=key[1],
            p50_s=quantile(latencies.get(key, {}), 0.50),
            p95_s=quantile(latencies.get(key, {}), 0.95),
            p99_s=quantile(latencies.get(key, {}), 0.99),
            offered_per_s=asked.offered_per_s(key),
            answered_per_s=asked.ended_per_s(key, Outcome.OK),
            good_per_s=good.get(key, 0.0),
            refused_per_s=asked.ended_per_s(key, *REFUSED) + asked.unread_per_s(key),
            failed_per_s=asked.ended_per_s(key, *FAILED),
            queue_depth=depth.get(key, 0.0),
            backlog_s=backlog.get(key, 0.0),
            offered_load=load.get(key, 0.0),
            tokens=tokens.get(key),
        )
        for key in asked.read
    ]
    return sorted(found, key=lambda each: (-each.offered_per_s, each.model, each.tier))


def traffic(reading: Reading) -> Traffic:
    grid = reading.grid()
    offered = reading.moving_rates(promql.OFFERED, _TIER, grid)
    need(list(offered), NO_REPLICA)
    asked = demand(reading)
    outcomes = promql.one_of("outcome", [outcome.value for outcome in REFUSED])
    depth = promql.QUEUE_DEPTH
    if reading.recorded:
        depth = promql.DEPTH_RECORDED
    depth_query = promql.gauge(depth, "sum", _TIER, reading.where, _TIER)
    refused = reading.moving_rates(promql.REQUESTS, _TIER, grid, outcomes)
    return Traffic(
        offered=series(asked.with_unread(offered, reading, grid), grid),
        good=series(reading.moving_rates(promql.GOOD, _TIER, grid), grid),
        refused=series(asked.with_unread(refused, reading, grid), grid),
        queue_depth=series(reading.lines(depth_query, _TIER, grid), grid),
    )


def _gauge(reading: Reading, name: str, aggregate: str) -> dict[Key, float]:
    return reading.now(promql.gauge(name, aggregate, _TIER, reading.where, _TIER), _TIER)
