"""Quantiles that Prometheus would read from our buckets."""

import math
import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.metrics import names
from predictor.metrics.tallies import Histogram

HISTOGRAMS = [
    metric for metric in vars(names).values() if isinstance(metric, names.Metric) and metric.buckets
]
WITHIN_TENTH = [names.LATENCY, names.QUEUE_WAIT, names.SERVICE_TIME, names.EDGE_STAGE]


def histogram_quantile(q: float, histogram: Histogram, bounds: tuple[float, ...]) -> float:
    """As promql defines it: linear within the bucket that holds the rank."""
    totals = list(accumulate(histogram.counts))
    rank = q * totals[-1]
    index = next(i for i, total in enumerate(totals) if total >= rank)
    if index == len(bounds):
        return bounds[-1]
    start = bounds[index - 1] if index else 0.0
    below = totals[index - 1] if index else 0
    return start + (bounds[index] - start) * (rank - below) / histogram.counts[index]


@pytest.mark.parametrize("metric", WITHIN_TENTH, ids=lambda metric: metric.name)
@settings(deadline=None)
@given(
    median_s=st.floats(0.5e-3, 1.0),
    sigma=st.floats(0.0, 1.5),
    count=st.integers(1, 2000),
    seed=st.integers(0, 2**32),
)
def test_p99_is_within_a_tenth_for_lognormal_times(
    metric: names.Metric, median_s: float, sigma: float, count: int, seed: int
) -> None:
    draw = random.Random(seed)
    low, high = metric.buckets[0], metric.buckets[-1]
    values = sorted(
        min(max(draw.lognormvariate(math.log(median_s), sigma), low), high) for _ in range(count)
    )
    histogram = Histogram(metric.buckets)
    for value in values:
        histogram.observe(value)
    exact = values[math.ceil(0.99 * count) - 1]
    assert abs(histogram_quantile(0.99, histogram, metric.buckets) / exact - 1) <= 0.1


@pytest.mark.parametrize("metric", WITHIN_TENTH, ids=lambda metric: metric.name)
def test_no_bucket_is_wider_than_a_tenth(metric: names.Metric) -> None:
    assert all(high / low <= 1.1 for low, high in pairwise(metric.buckets))


@pytest.mark.parametrize("metric", HISTOGRAMS, ids=lambda metric: metric.name)
def test_bounds_rise(metric: names.Metric) -> None:
    assert all(low < high for low, high in pairwise(metric.buckets))


def test_latency_buckets_reach_from_a_quarter_millisecond_to_two_minutes() -> None:
    assert names.LATENCY.buckets[0] == 0.25e-3
    assert names.LATENCY.buckets[-1] == 120.0
    assert len(names.LATENCY.buckets) < 150


@given(st.lists(st.floats(), max_size=50))
def test_every_value_is_counted_once_in_its_bucket(values: list[float]) -> None:
    bounds = (1.0, 2.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    high = [value for value in values if value > 2.0]
    middle = [value for value in values if 1.0 < value <= 2.0]
    assert histogram.counts == [len(values) - len(middle) - len(high), len(middle), len(high)]
    assert histogram.sum >= 0.0
