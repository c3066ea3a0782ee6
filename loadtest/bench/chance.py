"""How far chance alone takes a p99: runs of the same length, in virtual time, differ by it."""

import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from dashboard.ports import Forecast, PreviewQuestion
from dashboard.preview import preview

RUNS = 4


def p99_spreads(questions: Sequence[PreviewQuestion]) -> Sequence[Mapping[str, float]]:
    """For each question, by tier: the standard deviation of its p99 over their mean.

    The questions' `duration_s` is that of the runs.
    """
    asked = [
        replace(question, seed=question.seed + number)
        for question in questions
        for number in range(RUNS)
    ]
    with ProcessPoolExecutor() as pool:
        forecasts = list(pool.map(preview, asked))
    return [_spreads(forecasts[first : first + RUNS]) for first in range(0, len(forecasts), RUNS)]


def _spreads(forecasts: Sequence[Forecast]) -> Mapping[str, float]:
    found: dict[str, list[float]] = {}
    for forecast in forecasts:
        for tier in forecast.tiers:
            if tier.p99_s is not None:
                found.setdefault(tier.tier, []).append(tier.p99_s)
    return {
        tier: statistics.stdev(p99s_s) / statistics.fmean(p99s_s)
        for tier, p99s_s in found.items()
        if len(p99s_s) > 1
    }
