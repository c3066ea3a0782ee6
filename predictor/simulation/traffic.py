"""Seeded traffic: the same seed gives the same arrivals, so that any run can be replayed."""

import math
import random
from collections.abc import Iterator

from predictor.simulation.simulator import Arrival


def poisson_times(rate: float, duration_s: float, rng: random.Random) -> Iterator[float]:
    """Arrival times of a Poisson process, `rate` a second."""
    return gamma_times(rate, duration_s, rng, burstiness=1.0)


def gamma_times(
    rate: float, duration_s: float, rng: random.Random, burstiness: float
) -> Iterator[float]:
    """Arrival times with gamma-distributed gaps.

    `burstiness` is the squared coefficient of variation of the gaps: 0 is evenly spaced,
    1 is Poisson, more comes in clumps.
    """
    time_s = 0.0
    for gap in unit_gaps(rng, burstiness):
        time_s += gap / rate
        if time_s >= duration_s:
            return
        yield time_s


def unit_gaps(rng: random.Random, burstiness: float) -> Iterator[float]:
    """Gaps of mean 1, without end."""
    while True:
        if burstiness <= 0.0:
            yield 1.0
        elif burstiness == 1.0:
            yield rng.expovariate(1.0)
        else:
            yield rng.gammavariate(1.0 / burstiness, burstiness)


def lognormal_lengths(
    rng: random.Random, median: float = 64.0, sigma: float = 0.8, low: int = 8, high: int = 512
) -> Iterator[int]:
    """Lengths in tokens, clipped to [low, high]. The defaults are the benchmark's mix."""
    while True:
        length = rng.lognormvariate(math.log(median), sigma)
        yield min(max(round(length), low), high)


def poisson_traffic(
    rate: float,
    duration_s: float,
    seed: int,
    tokens: int | None = None,
    tier: str = "interactive",
    model: str = "model",
) -> list[Arrival]:
    """Poisson arrivals of rows of `tokens` tokens, or of the benchmark's mix of lengths."""
    rng = random.Random(seed)
    lengths = lognormal_lengths(random.Random(seed + 1))
    return [
        Arrival(time_s, tokens if tokens is not None else next(lengths), model, tier)
        for time_s in poisson_times(rate, duration_s, rng)
    ]
