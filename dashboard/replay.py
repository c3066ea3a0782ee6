"""Traffic for a preview: as it was measured, and not one more draw that is a little above or below.

A random minute has a few percent more or fewer requests, or longer ones, than the rate says, and
near capacity a percent of work is five of p99. Rate and lengths were measured, so they are kept:
the gaps are drawn and then stretched to fill the time with the number of requests that the rate
says (of Poisson arrivals, that is exactly how they lie when their number is known), and the lengths
are dealt in their shares, in random order. What is left to chance is what meets what.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

from dashboard.ports import ArrivalStats
from predictor.simulation.simulator import Arrival


def arrivals(
    stats: ArrivalStats, replicas: int, lasts_s: float, rng: random.Random
) -> Iterator[Arrival]:
    """One replica's part. Rows of one request arrive at the same instant."""
    times_s = _times_s(
        round(stats.requests_per_s / replicas * lasts_s), lasts_s, stats.burstiness, rng
    )
    rows = _dealt(_rows_of(max(stats.rows_per_request, 1.0)), len(times_s), rng)
    lengths = iter(_dealt(stats.lengths, sum(rows), rng))
    for time_s, count in zip(times_s, rows, strict=True):
        for number in range(count):
            yield Arrival(time_s, next(lengths), stats.model, stats.tier, alongside=number > 0)


def _times_s(count: int, lasts_s: float, burstiness: float, rng: random.Random) -> Sequence[float]:
    """`count` instants, their gaps gamma-distributed with that squared coefficient of variation."""
    if burstiness <= 0.0:
        gaps = [1.0] * (count + 1)
        gaps[0] = rng.random()
    elif burstiness == 1.0:
        gaps = [rng.expovariate(1.0) for _ in range(count + 1)]
    else:
        gaps = [rng.gammavariate(1.0 / burstiness, burstiness) for _ in range(count + 1)]
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
