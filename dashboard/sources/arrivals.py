"""How requests came: rate, burstiness and lengths, for a preview to replay.

Burstiness is the squared coefficient of variation of the gaps between requests, which nobody
measures one by one. For gaps that are independent, it is what the variance of counts over
their mean tends to (the index of dispersion), and counts are what a scrape gives. The variance
is taken from differences of successive counts, so that a rate that drifts over the window does
not pass for bursts. Of n counts, it is uncertain by sqrt(3 / n) of itself. Requests of many
clients are Poisson, so what may be chance passes for that: a p99 that is foretold from a few
counts would else be off by a quarter now and then.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from dashboard.ports import ArrivalStats
from dashboard.sources import promql
from dashboard.sources.connection import Line, need
from dashboard.sources.demand import TIER as _TIER
from dashboard.sources.demand import Demand, demand, plus
from dashboard.sources.latency import distributions, mean
from dashboard.sources.promql import ENGINE, Counter
from dashboard.sources.reading import Key, Reading, key_of
from dashboard.sources.traffic import NO_REPLICA

COUNTED_S = 900.0  # of raw scrapes, at most
LEAST_COUNTS = 8  # fewer say nothing of their variance
MOST_BURSTY = 50.0
POISSON = 1.0
ALWAYS = 0.95  # of the time
CHANCE_SIGMAS = 2.5  # chance alone goes further once or twice in a hundred times
_MODEL = ("model",)

Lengths = tuple[tuple[int, float], ...]


def arrivals(reading: Reading) -> Sequence[ArrivalStats]:
    asked = demand(reading)
    need(list(asked.read), NO_REPLICA)
    rows = reading.rates(promql.OFFERED_ROWS, _TIER)
    tokens = reading.rates(promql.OFFERED_TOKENS, _TIER)
    lengths = distributions(reading, promql.ROW_TOKENS, _TIER)
    burstiness = _burstiness(reading, asked)
    latency_s = mean(reading, promql.LATENCY, _TIER)
    overheads_s = _overheads_s(reading, latency_s)
    always_wait = _always_waiting(reading)
    return [
        ArrivalStats(
            model=key[0],
            tier=key[1],
            requests_per_s=asked.offered_per_s(key),
            rows_per_request=max(rows.get(key, per_s) / per_s, 1.0),
            burstiness=burstiness.get(key, POISSON),
            lengths=lengths_of(
                lengths.get(key, {}),
                tokens.get(key, 0.0) / rows[key] if rows.get(key) else 1.0,
            ),
            overhead_s=overheads_s.get(key, 0.0),
            in_flight=per_s * latency_s.get(key, 0.0) if key in always_wait else 0.0,
        )
        for key, per_s in sorted(asked.read.items())
        if per_s > 0.0
    ]


def lengths_of(cumulative: Mapping[float, float], mean_tokens: float) -> Lengths:
    """A length for each bucket, in proportion such that their mean is the measured one."""
    bounds = sorted(cumulative)
    counts: list[tuple[float, float]] = []
    for lower, upper in pairwise([0.0, *bounds]):
        count = cumulative[upper] - cumulative.get(lower, 0.0)
        if count > 1e-9:
            finite = upper if math.isfinite(upper) else lower
            counts.append((math.sqrt(max(lower, 1.0) * max(finite, 1.0)), count))
    total = sum(count for _, count in counts)
    if not total:
        return ((max(1, round(mean_tokens)), 1.0),)
    scale = mean_tokens * total / sum(length * count for length, count in counts)
    shares: dict[int, float] = {}
    for length, count in counts:
        tokens = max(1, round(length * scale))
        shares[tokens] = shares.get(tokens, 0.0) + count / total
    return tuple(sorted(shares.items()))


def _burstiness(reading: Reading, asked: Demand) -> dict[Key, float]:
    """As one replica sees it: the mean of replicas, by how much came to each."""
    unread = (
        {_whose(line): line for line in _scraped(reading, promql.UNREAD)} if asked.shares else {}
    )
    sums: dict[Key, tuple[float, float, int]] = {}
    for read in _scraped(reading, promql.OFFERED):
        share = asked.shares.get(key_of(read.labels, _TIER), 0.0)
        line = plus(read, unread.get(_whose(read)), share)
        found = dispersion(line)
        if found is not None:
            key = key_of(line.labels, _TIER)
            weight, total, counts = sums.get(key, (0.0, 0.0, 0))
            came = max(line.values.values()) - min(line.values.values())
            sums[key] = (weight + came, total + came * found, counts + len(line.values))
    return {
        key: min(unless_chance(total / weight, counts), MOST_BURSTY)
        for key, (weight, total, counts) in sums.items()
        if weight
    }


def _scraped(reading: Reading, counter: Counter) -> Iterator[Line]:
    """What the latest scrapes of the window brought."""
    seconds = min(reading.window.duration_s, COUNTED_S)
    for selector in promql.selectors(
        counter.name, reading.where, counter.labels, *counter.matchers
    ):
        yield from reading.connection.samples(selector, seconds, reading.window.end_s)


def _whose(line: Line) -> Key:
    """Of which engine, and of which of its models."""
    return key_of(line.labels, (*ENGINE, "model"))


def unless_chance(found: float, counts: int) -> float:
    """`found` of so many counts, or Poisson's where those may have had it by chance."""
    by_chance = math.exp(CHANCE_SIGMAS * math.sqrt(3.0 / counts))  # as a ratio: it is skewed
    return POISSON if POISSON / by_chance <= found <= POISSON * by_chance else found


def dispersion(counter: Line) -> float | None:
    """Variance over mean of what a counter counted between scrapes; None where too little."""
    samples = sorted(counter.values.items())
    steps = [
        (after_s - before_s, after - before)
        for (before_s, before), (after_s, after) in pairwise(samples)
        if after >= before  # else the replica started again
    ]
    if len(steps) < LEAST_COUNTS:
        return None
    # Scrapes are a little early or late: counts are brought to the same length.
    usual_s = sum(took_s for took_s, _ in steps) / len(steps)
    counts = [count * usual_s / took_s for took_s, count in steps]
    average = sum(counts) / len(counts)
    if not average:
        return None
    squares = [(after - before) ** 2 for before, after in pairwise(counts)]
    return sum(squares) / len(squares) / 2.0 / average


def _always_waiting(reading: Reading) -> set[Key]:
    """Queues that are hardly ever empty on any replica."""
    grid = promql.grid(reading.covered, reading.connection.scrape_s())
    least = promql.gauge(promql.QUEUE_DEPTH, "min", _TIER, reading.where, _TIER)
    often = max(ALWAYS * len(grid.times_s), LEAST_COUNTS)
    found = reading.lines(f"{least} > 0", _TIER, grid)
    return {key for key, line in found.items() if len(line.values) >= often}


def _overheads_s(reading: Reading, latency_s: Mapping[Key, float]) -> dict[Key, float]:
    """Latency that is neither queue nor service, with the edge's part of the queue's time.

    The time in the queue counts from the edge, so decoding and tokenising are in it.
    """
    queue_s = mean(reading, promql.QUEUE_WAIT, _TIER)
    service_s = mean(reading, promql.SERVICE_TIME, _TIER)
    stages_s = mean(reading, promql.EDGE_STAGE, (*_MODEL, "stage"))
    return {
        key: max(
            0.0,
            whole_s
            - queue_s.get(key, 0.0)
            - service_s.get(key, 0.0)
            + stages_s.get((key[0], "decode"), 0.0)
            + stages_s.get((key[0], "tokenise"), 0.0),
        )
        for key, whole_s in latency_s.items()
    }
