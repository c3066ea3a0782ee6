"""Reads of requests: who came, who was answered in time, who waits."""

from dashboard.ports import TierNow, Traffic
from dashboard.sources import promql
from dashboard.sources.connection import need
from dashboard.sources.latency import distributions, quantile
from dashboard.sources.reading import Key, Reading, series
from predictor.core.rows import Outcome

_TIER = ("model", "tier")
REFUSED = (Outcome.QUEUE_FULL, Outcome.SHED)
FAILED = (Outcome.EXPIRED, Outcome.FAILED, Outcome.UNAVAILABLE)
NO_REPLICA = (
    "Prometheus has no predictor in this time range; check that it scrapes one, or choose"
    " another range, model or tier."
)


def tiers(reading: Reading) -> list[TierNow]:
    offered = reading.rates(promql.OFFERED, _TIER)
    need(list(offered), NO_REPLICA)
    ended = reading.rates(promql.REQUESTS, (*_TIER, "outcome"))
    good = reading.rates(promql.GOOD, _TIER)
    latencies = distributions(reading, promql.LATENCY, _TIER)
    depth = _gauge(reading, promql.QUEUE_DEPTH, "sum")
    backlog = _gauge(reading, promql.BACKLOG, "sum")
    load = _gauge(reading, promql.OFFERED_LOAD, "max")

    def per_s(key: Key, *outcomes: Outcome) -> float:
        return sum(ended.get((*key, outcome.value), 0.0) for outcome in outcomes)

    found = [
        TierNow(
            model=key[0],
            tier=key[1],
            p50_s=quantile(latencies.get(key, {}), 0.50),
            p95_s=quantile(latencies.get(key, {}), 0.95),
            p99_s=quantile(latencies.get(key, {}), 0.99),
            offered_per_s=offered_per_s,
            answered_per_s=per_s(key, Outcome.OK),
            good_per_s=good.get(key, 0.0),
            refused_per_s=per_s(key, *REFUSED),
            failed_per_s=per_s(key, *FAILED),
            queue_depth=depth.get(key, 0.0),
            backlog_s=backlog.get(key, 0.0),
            offered_load=load.get(key, 0.0),
        )
        for key, offered_per_s in offered.items()
    ]
    return sorted(found, key=lambda each: (-each.offered_per_s, each.model, each.tier))


def traffic(reading: Reading) -> Traffic:
    grid = reading.grid()
    offered = reading.moving_rates(promql.OFFERED, _TIER, grid)
    need(list(offered), NO_REPLICA)
    outcomes = promql.one_of("outcome", [outcome.value for outcome in REFUSED])
    depth = promql.QUEUE_DEPTH
    if reading.recorded:
        depth = promql.DEPTH_RECORDED
    depth_query = promql.gauge(depth, "sum", _TIER, reading.where, _TIER)
    return Traffic(
        offered=series(offered, grid),
        good=series(reading.moving_rates(promql.GOOD, _TIER, grid), grid),
        refused=series(reading.moving_rates(promql.REQUESTS, _TIER, grid, outcomes), grid),
        queue_depth=series(reading.lines(depth_query, _TIER, grid), grid),
    )


def _gauge(reading: Reading, name: str, aggregate: str) -> dict[Key, float]:
    return reading.now(promql.gauge(name, aggregate, _TIER, reading.where, _TIER), _TIER)
