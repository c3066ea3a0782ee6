"""The series of many replicas over days, as recording rules and scrapes would have kept them.

What was recorded is there for all of the time, every minute. What was scraped, of every replica,
is there for the last while, and of that what the Overview reads. Values follow a daily curve: for
who reads them only matters how many there are.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from dashboard.ports import Pool
from dashboard.sources import promql
from dashboard.sources.promql import Counter
from predictor.core.rows import DispatchReason, Outcome
from predictor.metrics import names
from predictor.metrics.names import Metric

MODEL = "topics"
POOLS = (Pool.SPOT, Pool.ON_DEMAND)
PER_S = {"interactive": 40.0, "bulk": 10.0}  # requests of one replica
TOKENS = 88.0
ROWS_IN_BATCH = 8.0
DEVICE_S = 0.012  # of a request
SHED, LATE = 0.0005, 0.01  # shares
DAY_S = 86_400.0
SCRAPE_S = 15
# Median and sigma, lognormal, of each histogram.
_SPREADS = {
    promql.LATENCY: (0.045, 0.5),
    promql.QUEUE_WAIT: (0.025, 0.7),
    promql.SERVICE_TIME: (0.018, 0.3),
    promql.EDGE_STAGE: (0.0002, 0.6),
    promql.ROW_TOKENS: (64.0, 0.8),
    promql.BATCH_ROWS: (ROWS_IN_BATCH, 0.5),
    promql.BATCH_TOKENS: (ROWS_IN_BATCH * TOKENS, 0.6),
}
_METRICS = {each.name: each for each in vars(names).values() if isinstance(each, Metric)}
_VALUES: Mapping[str, tuple[str, ...]] = {
    "model": (MODEL,),
    "tier": tuple(PER_S),
    "outcome": (Outcome.OK.value, Outcome.SHED.value),
    "reason": (DispatchReason.FULL.value, DispatchReason.IDLE.value),
    "stage": ("decode", "tokenise", "encode"),
}
_SCRAPED = (
    *(promql.OFFERED, promql.OFFERED_TOKENS, promql.REQUESTS, promql.GOOD, promql.TOKENS),
    *(promql.TIER_DEVICE, promql.PADDING, promql.BUSY, promql.bucket(promql.LATENCY)),
)

Curve = Callable[[float], float]  # a value at a Unix time


@dataclass(frozen=True, slots=True)
class Line:
    """One series; `at` is its value over time."""

    name: str
    labels: Mapping[str, str]
    at: Curve

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}}"


def recorded(replicas: int, ends_s: float) -> Iterator[Line]:
    """What the rules keep: sums over the replicas of a pool."""
    for pool, counter in product(POOLS, promql.recorded_counters()):
        for labels in _labels_of(counter):
            level = _per_s(counter, labels) * _size(pool, replicas)
            yield Line(counter.recorded_as, {"pool": pool, **labels}, _daily(level))
    for pool in POOLS:
        own = {"pool": pool.value}
        count = float(_size(pool, replicas))
        yield Line(promql.DEVICES_RECORDED, own, _always(count))
        yield Line(promql.TARGETS_RECORDED, own, _always(count))
        for tier in PER_S:
            labels = {**own, "model": MODEL, "tier": tier}
            yield Line(promql.DEPTH_RECORDED, labels, _daily(3.0 * count))
    yield Line(promql.GENERATION_RECORDED, {}, lambda time_s: 9.0 - (ends_s - time_s) // DAY_S)


def scraped(replicas: int, starts_s: float) -> Iterator[Line]:
    """What the Overview reads of each replica; counters begin at 0."""
    for number in range(replicas):
        pool = POOLS[number % len(POOLS)]
        whose = {
            "job": "headway",
            "instance": f"10.0.{number // 250}.{number % 250}:8080",
            "pool": pool.value,
            "node": f"node-{number}",
            "instance_type": "g6.xlarge",
        }
        for counter in _SCRAPED:
            for labels in _labels_of(counter):
                rate = _per_s(counter, labels)
                yield Line(counter.name, {**whose, **labels}, _counting(rate, starts_s))
        for name, labels, value in _gauges():
            yield Line(name, {**whose, **labels}, _always(value))


def _size(pool: Pool, replicas: int) -> int:
    return len(range(POOLS.index(pool), replicas, len(POOLS)))


def _labels_of(counter: Counter) -> Iterator[dict[str, str]]:
    bounds: tuple[str, ...] = ()
    if "le" in counter.labels:
        metric = _METRICS[counter.name.removesuffix("_bucket")]
        bounds = (*(repr(bound) for bound in metric.buckets), "+Inf")
    values = [bounds if label == "le" else _VALUES[label] for label in counter.labels]
    for each in product(*values):
        yield dict(zip(counter.labels, each, strict=True))


def _per_s(counter: Counter, labels: Mapping[str, str]) -> float:
    """Of one replica."""
    requests = PER_S[labels["tier"]] if "tier" in labels else sum(PER_S.values())
    for histogram, (median, sigma) in _SPREADS.items():
        of_batches = histogram in (promql.BATCH_ROWS, promql.BATCH_TOKENS)
        count = requests / ROWS_IN_BATCH if of_batches else requests
        if counter == promql.bucket(histogram):
            return count * _share_below(float(labels["le"]), median, sigma)
        if counter == promql.count(histogram):
            return count
        if counter == promql.total(histogram):
            return count * median * math.exp(sigma**2 / 2.0)
    outcomes = {Outcome.OK.value: 1.0 - SHED, Outcome.SHED.value: SHED}
    return {
        promql.REQUESTS: requests * outcomes.get(labels.get("outcome", ""), 1.0),
        promql.UNREAD: 0.0,
        promql.LOST: 0.0,
        promql.GOOD: requests * (1.0 - SHED - LATE),
        promql.OFFERED_TOKENS: requests * TOKENS,
        promql.TOKENS: requests * TOKENS,
        promql.PADDING: requests * TOKENS / 10.0,
        promql.TIER_DEVICE: requests * DEVICE_S,
        promql.BUSY: requests * DEVICE_S,
        promql.BATCHES: requests / ROWS_IN_BATCH / len(_VALUES["reason"]),
    }.get(counter, requests)


def _share_below(bound: float, median: float, sigma: float) -> float:
    if math.isinf(bound):
        return 1.0
    return 0.5 * (1.0 + math.erf(math.log(bound / median) / sigma / math.sqrt(2.0)))


def _gauges() -> Iterator[tuple[str, dict[str, str], float]]:
    for tier in PER_S:
        labels = {"model": MODEL, "tier": tier}
        yield promql.QUEUE_DEPTH, labels, 3.0
        yield promql.BACKLOG, labels, 0.02
        yield promql.OFFERED_LOAD, labels, 0.6
        yield promql.TIER_SLO, {"tier": tier}, 0.2 if tier == "interactive" else math.inf
    yield "up", {}, 1.0
    yield promql.ENGINES, {}, 0.0
    yield promql.GENERATION, {}, 9.0
    yield promql.LAST_REFUSAL, {}, 0.0
    yield promql.NVML_UTILISATION, {"device": "0"}, 0.6


def _daily(level: float) -> Curve:
    return lambda time_s: level * (0.7 + 0.3 * math.sin(time_s / DAY_S * math.tau))


def _always(value: float) -> Curve:
    return lambda _: value


def _counting(per_s: float, starts_s: float) -> Curve:
    return lambda time_s: per_s * (time_s - starts_s)
