"""The optima that the policy is held against, held against brute force and known formulas."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.simulation.optimum import clairvoyant_goodput, optimal_batching
from predictor.simulation.traffic import poisson_traffic

ALPHA_S = 5e-3
BETA_S = 1e-3


def line_s(rows: int) -> float:
    return ALPHA_S + BETA_S * rows


def most_in_time(
    arrivals_s: tuple[float, ...], slo_s: float, max_rows: int, free_s: float = 0.0
) -> int:
    """Try every next batch: any of the rows, in any order, next to each other or not."""
    most = 0
    for chosen in range(1, 1 << len(arrivals_s)):
        batch = [time for i, time in enumerate(arrivals_s) if chosen >> i & 1]
        ends_s = max(free_s, batch[-1]) + line_s(len(batch))
        if len(batch) <= max_rows and ends_s <= batch[0] + slo_s:
            rest = tuple(time for i, time in enumerate(arrivals_s) if not chosen >> i & 1)
            most = max(most, len(batch) + most_in_time(rest, slo_s, max_rows, ends_s))
    return most


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.sampled_from([4.5, 6.5, 9.5, 14.5, 20.5]),
    st.integers(1, 4),
)
def test_clairvoyant_equals_brute_force(times_ms: list[int], slo_ms: float, max_rows: int) -> None:
    arrivals_s = tuple(time / 1e3 for time in sorted(times_ms))
    best = clairvoyant_goodput(arrivals_s, slo_ms / 1e3, line_s, max_rows)
    assert best == most_in_time(arrivals_s, slo_ms / 1e3, max_rows)


def test_clairvoyant_over_a_wide_band() -> None:
    """1,000 rows in a millisecond: one batch of 44 ends in 49, and all others are dropped."""
    arrivals_s = [1e-6 * i for i in range(1000)]
    assert clairvoyant_goodput(arrivals_s, 0.05, line_s, 64) == 44


def mean_latency_s(rate: float, max_rows: int, max_queue: int) -> float:
    """Plain relative value iteration, every sum written out."""
    value = np.zeros(max_queue + 1)
    step_s = 0.9 * min(1 / rate, line_s(1))
    while True:
        new = np.empty_like(value)
        for n in range(max_queue + 1):
            best = n + rate * step_s * (value[min(n + 1, max_queue)] - value[n])
            for b in range(1, min(n, max_rows) + 1):
                lasts_s = line_s(b)
                mean = rate * lasts_s
                after = sum(
                    math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
                    * value[min(n - b + k, max_queue)]
                    for k in range(25)
                )
                cost = n + rate * lasts_s / 2
                best = min(best, cost + step_s / lasts_s * (after - value[n]))
            new[n] = value[n] + best
        change = new - value
        value = new - new[0]
        if change.max() - change.min() < 1e-3 * change.max():
            return float(change.mean()) / rate


def test_policy_iteration_ends_where_value_iteration_does() -> None:
    best = optimal_batching(150, line_s, max_rows=3, max_queue=12)
    assert best.mean_latency_s == pytest.approx(mean_latency_s(150, 3, 12), rel=2e-3)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_single_rows_are_the_queue_with_constant_service(load: float) -> None:
    """M/D/1: mean latency = l + rate * l^2 / (2 (1 - rate * l))."""
    service_s = 5e-3
    rate = load / service_s
    best = optimal_batching(rate, lambda _: service_s, max_rows=1, max_queue=120)
    known_s = service_s + rate * service_s**2 / (2 * (1 - load))
    assert best.mean_latency_s == pytest.approx(known_s, rel=1e-5)
    assert list(best.starts[:3]) == [0, 1, 1]


def replayed_mean_latency_s(starts: Sequence[int], times_s: Sequence[float]) -> float:
    """Start `starts[n]` rows whenever the device is free and n wait."""
    now_s = total_s = 0.0
    served = arrived = 0
    while served < len(times_s):
        while arrived < len(times_s) and times_s[arrived] <= now_s:
            arrived += 1
        size = starts[min(arrived - served, len(starts) - 1)]
        if size == 0 and arrived < len(times_s):
            now_s = times_s[arrived]
            continue
        size = size or arrived - served  # nobody comes any more
        now_s += line_s(size)
        total_s += sum(now_s - time_s for time_s in times_s[served : served + size])
        served += size
    return total_s / len(times_s)


def test_the_table_achieves_the_latency_that_it_promises() -> None:
    times_s = [each.time_s for each in poisson_traffic(500, 120, seed=9, tokens=1)]
    best = optimal_batching(500, line_s, max_rows=64, max_queue=160)
    replayed_s = replayed_mean_latency_s(best.starts, times_s)
    assert replayed_s == pytest.approx(best.mean_latency_s, rel=0.02)
