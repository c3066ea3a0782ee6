"""Reads of latency: quantiles over time, how it spreads, and the stages it is made of."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from dashboard.ports import (
    Heatmap,
    Series,
    Split,
    Stage,
    StageBreakdown,
    StageTime,
    Token,
    TokenTimes,
)
from dashboard.sources import promql
from dashboard.sources.connection import Line, need
from dashboard.sources.promql import Grid
from dashboard.sources.reading import Key, Reading, series

MOST_BINS = 40
_NO_TOKENS = TokenTimes(None, None, None, None)
NO_ANSWER = "No request was answered in this time range; send some, or choose another range."
_BY = {Split.TIER: "tier", Split.POOL: promql.POOL}
_OF_TOKENS = {Token.FIRST: promql.TO_FIRST, Token.NEXT: promql.BETWEEN}
_OF_REQUESTS = {Stage.QUEUE: promql.QUEUE_WAIT, Stage.SERVICE: promql.SERVICE_TIME}


def quantiles(reading: Reading, q: float, by: Split) -> Sequence[Series]:
    found = _quantiles(reading, promql.LATENCY, q, by)
    need(found, NO_ANSWER)
    return found


def token_quantiles(reading: Reading, q: float, token: Token, by: Split) -> Sequence[Series]:
    """Without those of tiers that generated nothing."""
    found = _quantiles(reading, _OF_TOKENS[token], q, by)
    return [each for each in found if not all(map(math.isnan, each.values))]


def _quantiles(reading: Reading, histogram: str, q: float, by: Split) -> Sequence[Series]:
    grid = reading.grid()
    label = _BY[by]
    buckets = reading.moving_rate(promql.bucket(histogram), (label, "le"), grid)
    return series(reading.lines(promql.quantile(q, buckets), (label,), grid), grid)


def token_times(reading: Reading, by: Sequence[str]) -> Mapping[Key, TokenTimes]:
    """Without keys for which nothing was generated."""
    first = distributions(reading, promql.TO_FIRST, by)
    between = distributions(reading, promql.BETWEEN, by)
    found = {
        key: TokenTimes(
            quantile(cumulative, 0.50),
            quantile(cumulative, 0.99),
            quantile(between.get(key, {}), 0.50),
            quantile(between.get(key, {}), 0.99),
        )
        for key, cumulative in first.items()
    }
    return {key: each for key, each in found.items() if each != _NO_TOKENS}


def heatmap(reading: Reading, histogram: str, unit: str) -> Heatmap:
    """Raises NoData where the histogram has counted nothing."""
    grid = reading.grid(promql.HEATMAP_POINTS)
    found = reading.moving_rates(promql.bucket(histogram), ("le",), grid)
    by_bound = sorted((float(le), line) for (le,), line in found.items())
    counts = _by_bin([line for _, line in by_bound], grid)
    used = [place for place, row in enumerate(counts) if any(row)]
    need(used, NO_ANSWER)
    first, last = used[0], used[-1] + 1
    merge = math.ceil((last - first) / MOST_BINS)
    edges = _edges([bound for bound, _ in by_bound])[first : last + 1]
    thinned = [
        tuple(map(sum, zip(*counts[place : min(place + merge, last)], strict=True)))
        for place in range(first, last, merge)
    ]
    kept = [*edges[:-1:merge], edges[-1]]
    return Heatmap(unit, grid.times_s, tuple(kept), tuple(thinned))


def _by_bin(cumulative: Sequence[Line], grid: Grid) -> list[list[float]]:
    """From counts at or below each bound to counts between bounds; 0 where unknown."""
    columns = [
        [0.0 if math.isnan(value) else value for value in line.on(grid.times_s)]
        for line in cumulative
    ]
    below = [[0.0] * len(grid.times_s), *columns]
    # Sums of rates are rounded: what is counted nowhere must be 0 and nothing near it.
    return [
        [upper - lower if upper - lower > 1e-9 else 0.0 for lower, upper in zip(*rows, strict=True)]
        for rows in pairwise(below)
    ]


def _edges(bounds: Sequence[float]) -> list[float]:
    """One more than bounds. The outermost are as far off as their neighbours, for a log axis."""
    finite = [bound for bound in bounds if math.isfinite(bound)]
    ratio = finite[1] / finite[0] if len(finite) > 1 else 2.0
    last = finite[-1] / finite[-2] if len(finite) > 1 else 2.0
    return [finite[0] / ratio, *finite, finite[-1] * last]


def stages(reading: Reading, by: Split) -> Sequence[StageBreakdown]:
    label = _BY[by]
    timed = {stage: _times(reading, name, (label,)) for stage, name in _OF_REQUESTS.items()}
    groups = sorted({key for times in timed.values() for key in times})
    need(groups, NO_ANSWER)
    edge_by = (promql.POOL, "stage") if by is Split.POOL else ("stage",)
    edge = _times(reading, promql.EDGE_STAGE, edge_by)

    def of(group: Key, stage: Stage) -> StageTime:
        if stage in timed:
            found = timed[stage].get(group)
        else:
            found = edge.get((*group, stage.value) if by is Split.POOL else (stage.value,))
        mean, p50, p99 = found or (None, None, None)
        return StageTime(stage, mean, p50, p99)

    return [
        StageBreakdown(group[0] or "unknown", tuple(of(group, stage) for stage in Stage))
        for group in groups
    ]


_Times = tuple[float | None, float | None, float | None]  # mean, p50, p99


def _times(reading: Reading, histogram: str, by: Sequence[str]) -> Mapping[Key, _Times]:
    means_s = mean(reading, histogram, by)
    found = distributions(reading, histogram, by)
    return {
        key: (mean_s, quantile(found.get(key, {}), 0.50), quantile(found.get(key, {}), 0.99))
        for key, mean_s in means_s.items()
    }


def distributions(
    reading: Reading, histogram: str, by: Sequence[str]
) -> dict[Key, dict[float, float]]:
    """Values a second at or below each bound, over the window: one query, whatever is made of it.

    Summing the buckets of many replicas is what a quantile costs, so it is done once.
    """
    found: dict[Key, dict[float, float]] = {}
    for key, value in reading.rates(promql.bucket(histogram), (*by, "le")).items():
        found.setdefault(key[:-1], {})[float(key[-1])] = value
    return found


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """As histogram_quantile has it: between the ends of its bucket by a straight line."""
    rank = q * max(cumulative.values(), default=0.0)
    if not rank:
        return None
    lower, below = 0.0, 0.0
    for bound in sorted(cumulative):
        at_most = cumulative[bound]
        if at_most >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (at_most - below)
        lower, below = bound, max(below, at_most)
    return lower


def mean(reading: Reading, histogram: str, by: Sequence[str]) -> dict[Key, float]:
    """Of the values counted in the window; keys without any are left out."""
    sums = reading.rates(promql.total(histogram), by)
    counts = reading.rates(promql.count(histogram), by)
    return {key: sums[key] / times for key, times in counts.items() if times and key in sums}
