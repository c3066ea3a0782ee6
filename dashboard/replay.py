"""Traffic for a preview: as it was measured, and not one more draw that is a little above or below.

A random minute has a few percent more or fewer requests, or longer ones, than the rate says, and
near capacity a percent of work is five of p99. Rate and lengths were measured, so they are kept:
the gaps are drawn and then stretched to fill the time with the number of requests that the rate
says (of Poisson arrivals, that is exactly how they lie when their number is known), and the lengths
are dealt in their shares, in random order. What is left to chance is what meets what.

A queue of bulk work that is never empty is another matter: its rate is what the device had left,
and would be another with other parameters. Its clients wait, so each answer brings the next
request.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

from dashboard.ports import ArrivalStats
from predictor.simulation.simulator import Arrival, Settlement
from predictor.simulation.traffic import unit_gaps

DEALT_TOGETHER = 1024


def arrivals(
    stats: ArrivalStats, replicas: int, lasts_s: float, rng: random.Random
) -> Iterator[Arrival]:
    """One replica's part. Rows of one request arrive together, and are all of its mean length."""
    times_s = _times_s(
        round(stats.requests_per_s / replicas * lasts_s), lasts_s, stats.burstiness, rng
    )
    rows = _dealt(_rows_of(max(stats.rows_per_request, 1.0)), len(times_s), rng)
    lengths = _dealt(stats.lengths, len(times_s), rng)
    for time_s, count, length in zip(times_s, rows, lengths, strict=True):
        yield from _request(stats, time_s, count, length)


def _request(stats: ArrivalStats, time_s: float, rows: int, length: int) -> Iterator[Arrival]:
    for number in range(rows):
        yield Arrival(time_s, length, stats.model, stats.tier, alongside=number > 0)


def _times_s(count: int, lasts_s: float, burstiness: float, rng: random.Random) -> Sequence[float]:
    """`count` instants, their gaps gamma-distributed with that squared coefficient of variation."""
    gaps = list(islice(unit_gaps(rng, burstiness), count + 1))
    if burstiness <= 0.0:
        gaps[0] = rng.random()
    scale = lasts_s / sum(gaps)
    return [time * scale for time in accumulate(gaps[:-1])]


def _rows_of(mean: float) -> Sequence[tuple[int, float]]:
    whole, part = divmod(mean, 1.0)
    return ((int(whole), 1.0 - part), (int(whole) + 1, part))


def _dealt(shares: Sequence[tuple[int, float]], count: int, rng: random.Random) -> list[int]:
    """`count` values in these shares, to one, shuffled."""
    bounds = list(accumulate(share for _, share in shares))
    start = rng.random()
    dealt: list[int] = []
    place = 0
    for index in range(count):
        while place < len(bounds) - 1 and (index + start) / count * bounds[-1] > bounds[place]:
            place += 1
        dealt.append(shares[place][0])
    rng.shuffle(dealt)
    return dealt


class Clients:
    """Of one tier: as many as have a request at a replica at a time."""

    def __init__(self, stats: ArrivalStats, replicas: int, rng: random.Random) -> None:
        self._stats = stats
        self._rng = rng
        self._rows = max(stats.rows_per_request, 1.0)
        self._clients = max(1, round(stats.in_flight / replicas))
        self._answered_rows = 0.0
        self._asked = 0
        self._requests: Iterator[tuple[int, int]] = iter(())  # rows, length

    def first(self) -> list[Arrival]:
        """What all of them ask for in the beginning."""
        return [each for _ in range(self._clients) for each in self._next(0.0)]

    def follow(self, settled: Settlement) -> Iterable[Arrival]:
        """The next request, where a whole one has been answered."""
        self._answered_rows += 1.0
        if self._answered_rows < self._rows:
            return ()
        self._answered_rows -= self._rows
        return self._next(settled.settled_s)

    def _next(self, time_s: float) -> Iterable[Arrival]:
        self._asked += 1
        if self._asked % DEALT_TOGETHER == 1:
            rows = _dealt(_rows_of(self._rows), DEALT_TOGETHER, self._rng)
            lengths = _dealt(self._stats.lengths, DEALT_TOGETHER, self._rng)
            self._requests = zip(rows, lengths, strict=True)
        return _request(self._stats, time_s, *next(self._requests))
