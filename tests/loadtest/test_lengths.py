"""Random sequences: within their limits, the same for the same seed."""

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.lengths import lognormal_lengths, poisson_arrivals_s

seeds = st.integers(0, 1000)


@given(seeds, st.integers(1, 200))
def test_lengths_are_clipped_and_a_longer_sequence_begins_alike(seed: int, count: int) -> None:
    lengths = lognormal_lengths(count, seed)
    assert len(lengths) == count
    assert all(8 <= length <= 512 for length in lengths)
    assert lognormal_lengths(2 * count, seed)[:count] == lengths


def test_lengths_have_the_median_and_mean_of_the_issue() -> None:
    lengths = lognormal_lengths(50_000, seed=1)
    assert statistics.median(lengths) == pytest.approx(64, rel=0.03)
    assert statistics.fmean(lengths) == pytest.approx(88, rel=0.03)


@given(seeds, st.floats(1, 500), st.floats(0.5, 5))
def test_arrivals_at_another_rate_are_the_same_bursts_scaled(
    seed: int, rate_per_s: float, factor: float
) -> None:
    slow = poisson_arrivals_s(rate_per_s, 2.0, seed)
    fast = poisson_arrivals_s(rate_per_s * factor, 2.0 / factor, seed)
    assert all(early <= late < 2.0 for early, late in itertools.pairwise([0.0, *slow]))
    for slower, faster in zip(slow, fast, strict=False):
        assert slower == pytest.approx(faster * factor)
    assert abs(len(slow) - len(fast)) <= 1  # one may fall on either side of the end


def test_arrivals_come_at_their_rate() -> None:
    assert len(poisson_arrivals_s(1000, 50, seed=3)) == pytest.approx(50_000, rel=0.02)


@pytest.mark.parametrize("rate_per_s", [0, -1, 1e9])
def test_an_impossible_rate_is_refused(rate_per_s: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        poisson_arrivals_s(rate_per_s, 10, seed=1)
