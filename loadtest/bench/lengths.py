"""Random sequences of a benchmark: lengths and arrival times, the same for the same seed.

Arrivals at another rate are the same unit gaps, scaled, so that two servers, or two rates
of one search, meet the same bursts.
"""

import math
import random
from collections.abc import Iterator, Sequence

MEDIAN_TOKENS = 64
SIGMA = 0.8
SHORTEST_TOKENS = 8
LONGEST_TOKENS = 512
MAX_REQUESTS = 1_000_000


def lognormal_lengths(
    count: int,
    seed: int,
    *,
    median: float = MEDIAN_TOKENS,
    sigma: float = SIGMA,
    shortest: int = SHORTEST_TOKENS,
    longest: int = LONGEST_TOKENS,
) -> Sequence[int]:
    """`count` lengths, lognormal with that median and sigma, clipped to [shortest, longest]."""
    source = random.Random(f"lengths {seed}")
    mu = math.log(median)
    return [
        min(longest, max(shortest, round(source.lognormvariate(mu, sigma)))) for _ in range(count)
    ]


def poisson_arrivals_s(rate_per_s: float, until_s: float, seed: int) -> Sequence[float]:
    """Arrival times of a Poisson process in [0, until_s), ascending.

    Raises:
        ValueError: the rate is not above 0, or would give more than MAX_REQUESTS arrivals.
    """
    if not 0 < rate_per_s * until_s <= MAX_REQUESTS / 2:
        raise ValueError(
            f"rate {rate_per_s}/s for {until_s} s is outside (0, {MAX_REQUESTS // 2}] requests"
        )
    arrivals: list[float] = []
    for arrival_s in _poisson(rate_per_s, seed):
        if arrival_s >= until_s:
            return arrivals
        arrivals.append(arrival_s)
    raise AssertionError("a Poisson process does not end")


def _poisson(rate_per_s: float, seed: int) -> Iterator[float]:
    source = random.Random(f"arrivals {seed}")
    unit_time = 0.0
    while True:
        unit_time += source.expovariate(1.0)
        yield unit_time / rate_per_s
