"""Reads of requests: who came, who was answered in time, who was not, who waits."""

import math
from collections.abc import Callable, Iterable, Mapping

from dashboard.ports import UNREAD_TIER, Slo, TierNow, Traffic
from dashboard.sources import promql
from dashboard.sources.connection import Line, need
from dashboard.sources.demand import TIER as _TIER
from dashboard.sources.demand import Demand, demand
from dashboard.sources.latency import distributions, quantile, token_times
from dashboard.sources.promql import Grid
from dashboard.sources.reading import Key, Reading, series
from predictor.core.rows import Outcome

REFUSED = (Outcome.QUEUE_FULL, Outcome.SHED)
FAILED = (Outcome.EXPIRED, Outcome.FAILED, Outcome.UNAVAILABLE)
NO_REPLICA = (
    "Prometheus has no predictor in this time range; check that it scrapes one, or choose"
    " another range, model or tier."
)
_VALID = tuple(outcome for outcome in Outcome if outcome is not Outcome.INVALID)
_ENDED = (*_TIER, "outcome")
_LOST = ("model", "outcome")


def tiers(reading: Reading) -> list[TierNow]:
    asked = demand(reading)
    need(list(asked.read), NO_REPLICA)
    good = reading.rates(promql.GOOD, _TIER)
    latencies = distributions(reading, promql.LATENCY, _TIER)
    tokens = token_times(reading, _TIER)
    depth = _mean(reading, promql.QUEUE_DEPTH, "sum")
    backlog = _mean(reading, promql.BACKLOG, "sum")
    load = _mean(reading, promql.OFFERED_LOAD, "max")
    promised = slos(reading)

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
            slo=promised.get(key[1]),
            failures=_failures((each.value, asked.ended_per_s(key, each)) for each in FAILED),
            unread_per_s=asked.unread_per_s(key),
            given_up_per_s=asked.ended_per_s(key, Outcome.CANCELLED),
        )
        for key in asked.read
    ]
    found += _of_no_tier(reading, asked)
    return sorted(found, key=lambda each: (-each.offered_per_s, each.model, each.tier))


def _of_no_tier(reading: Reading, asked: Demand) -> Iterable[TierNow]:
    """What edges ended before its tier was known, and no tier can be said to have asked for."""
    if reading.where.tiers:
        return
    lost = reading.rates(promql.LOST, _LOST)
    for model in sorted({*(key[0] for key in lost), *(key[0] for key in asked.unread)}):
        failures = _failures((key[1], value) for key, value in lost.items() if key[0] == model)
        refused = asked.unread_of_no_tier_per_s(model)
        failed = sum(failures.values())
        if refused + failed > 0.0:
            yield TierNow(
                model=model,
                tier=UNREAD_TIER,
                p50_s=None,
                p95_s=None,
                p99_s=None,
                offered_per_s=refused + failed,
                answered_per_s=0.0,
                good_per_s=0.0,
                refused_per_s=refused,
                failed_per_s=failed,
                queue_depth=0.0,
                backlog_s=0.0,
                offered_load=0.0,
                slo=Slo(math.inf),  # nobody was promised anything
                failures=failures,
                unread_per_s=refused,
            )


def _failures(rates: Iterable[tuple[str, float]]) -> Mapping[str, float]:
    return {outcome: per_s for outcome, per_s in rates if per_s > 0.0}


def slos(reading: Reading) -> Mapping[str, Slo]:
    """By tier, what replicas say is in force; where they differ, the strictest."""
    found = _in_force(reading, promql.TIER_SLO)
    between = _in_force(reading, promql.TIER_ITL_SLO)
    return {key[0]: Slo(slo_s, between.get(key, math.inf)) for key, slo_s in found.items()}


def _in_force(reading: Reading, name: str) -> Mapping[Key, float]:
    """Of now, else what the last replica said in the time range."""
    by = ("tier",)
    now = promql.gauge(name, "min", by, reading.where)
    last = f"last_over_time({name}[{promql.duration(reading.window.duration_s)}])"
    found = reading.now(now, by)
    return found or reading.now(f"min by (tier) ({last})", by)


def traffic(reading: Reading) -> Traffic:
    grid = reading.grid()
    read = reading.moving_rates(promql.OFFERED, _TIER, grid)
    need(list(read), NO_REPLICA)
    asked = demand(reading)
    ended = reading.moving_rates(promql.REQUESTS, _ENDED, grid)
    good = reading.moving_rates(promql.GOOD, _TIER, grid)
    lost = _lost(reading, grid)

    def of(*outcomes: Outcome) -> dict[Key, Line]:
        names = {outcome.value for outcome in outcomes}
        found: dict[Key, list[Line]] = {key: [] for key in read}
        for key, line in ended.items():
            if key[-1] in names:
                found.setdefault(key[:-1], []).append(line)
        return {key: _combined(lines, sum) for key, lines in found.items()}

    valid = of(*_VALID)
    seen = {key: _combined([line, valid[key]], max) for key, line in read.items()}
    refused = asked.with_unread(of(*REFUSED), reading, grid)
    unread = {} if reading.where.tiers else asked.lines_of_no_tier(reading, grid)
    of_no_tier = {
        key: _combined([each[key] for each in (lost, unread) if key in each], sum)
        for key in {*lost, *unread}
    }
    depth = promql.DEPTH_RECORDED if reading.recorded else promql.QUEUE_DEPTH
    depth_query = promql.gauge(depth, "sum", _TIER, reading.where, _TIER)
    return Traffic(
        offered=series({**asked.with_unread(seen, reading, grid), **of_no_tier}, grid),
        good=series(good, grid),
        late=series(_late(of(Outcome.OK), good), grid),
        refused=series({**refused, **unread}, grid),
        failed=series(of(*FAILED) | lost, grid),
        given_up=series(of(Outcome.CANCELLED), grid),
        queue_depth=series(reading.lines(depth_query, _TIER, grid), grid),
    )


def _lost(reading: Reading, grid: Grid) -> dict[Key, Line]:
    """Failures over time of no tier, by model; without models that have none."""
    if reading.where.tiers:
        return {}
    found = reading.moving_rates(promql.LOST, ("model",), grid)
    return {
        (*key, UNREAD_TIER): line
        for key, line in found.items()
        if any(value > 0.0 for value in line.values.values())
    }


def _late(answered: Mapping[Key, Line], good: Mapping[Key, Line]) -> dict[Key, Line]:
    return {
        key: Line(
            line.labels,
            {
                time_s: max(0.0, value - (good[key].values.get(time_s, 0.0) if key in good else 0))
                for time_s, value in line.values.items()
            },
        )
        for key, line in answered.items()
    }


def _combined(lines: Iterable[Line], how: Callable[[Iterable[float]], float]) -> Line:
    """At each instant that any of them has."""
    lines = list(lines)
    times_s = sorted({time_s for line in lines for time_s in line.values})
    return Line(
        {},
        {
            time_s: how([line.values[time_s] for line in lines if time_s in line.values])
            for time_s in times_s
        },
    )


def _mean(reading: Reading, name: str, aggregate: str) -> dict[Key, float]:
    """Over the window: at each instant the sum, or the maximum, of the replicas there were."""
    return reading.mean(promql.gauge(name, aggregate, _TIER, reading.where, _TIER), _TIER)
