"""Traffic for a preview: what was measured is kept, and only what meets what is chance."""

import random
from itertools import accumulate, groupby, pairwise
from statistics import fmean, pvariance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.ports import ArrivalStats, PreviewQuestion, ServiceModelFit
from dashboard.preview import preview
from dashboard.replay import arrivals
from predictor.core.parameters import DEFAULT_PARAMETERS
from predictor.simulation.simulator import Arrival

MIX = ((20, 0.5), (50, 0.3), (400, 0.2))
SERVICE = ServiceModelFit("m", "packed", {"fixed": 5e-3, "tokens": 1e-5}, 0.0, 500)


def stats(
    rate: float, *, rows: float = 1.0, burstiness: float = 1.0, in_flight: float = 0.0
) -> ArrivalStats:
    return ArrivalStats("m", "bulk", rate, rows, burstiness, MIX, in_flight=in_flight)


def requests_of(found: list[Arrival]) -> list[list[Arrival]]:
    numbers = accumulate(not arrival.alongside for arrival in found)
    return [
        [arrival for _, arrival in group]
        for _, group in groupby(zip(numbers, found, strict=True), key=lambda pair: pair[0])
    ]


@settings(max_examples=30)
@given(
    st.integers(0, 1 << 30),
    st.floats(1.0, 200.0),
    st.sampled_from([0.0, 0.4, 1.0, 5.0]),
    st.sampled_from([1.0, 1.5, 4.0]),
)
def test_rate_rows_and_lengths_are_those_measured(
    seed: int, rate: float, burstiness: float, rows: float
) -> None:
    of = stats(rate, rows=rows, burstiness=burstiness)
    requests = requests_of(list(arrivals(of, 2, 20.0, random.Random(seed))))
    count = len(requests)
    assert count == round(rate / 2 * 20.0)
    assert all(0.0 <= before[0].time_s <= after[0].time_s for before, after in pairwise(requests))
    assert not requests or requests[-1][0].time_s <= 20.0
    assert abs(sum(map(len, requests)) - rows * count) <= 1.0
    for tokens, share in MIX:
        assert abs(sum(each[0].tokens == tokens for each in requests) - share * count) <= 1.0
    for each in requests:
        assert len({row.tokens for row in each}) == 1
        assert [row.alongside for row in each] == [False] + [True] * (len(each) - 1)


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 4.0])
def test_gaps_are_as_bursty_as_asked(burstiness: float) -> None:
    found = list(arrivals(stats(100.0, burstiness=burstiness), 1, 200.0, random.Random(3)))
    gaps_s = [after.time_s - before.time_s for before, after in pairwise(found)]
    seen = pvariance(gaps_s) / fmean(gaps_s) ** 2
    assert seen == pytest.approx(burstiness, rel=0.1, abs=0.01)


def test_a_rate_too_low_for_the_time_brings_nothing() -> None:
    assert list(arrivals(stats(0.001), 1, 20.0, random.Random(1))) == []


@pytest.mark.parametrize("rows", [1.0, 4.0, 2.5])
def test_clients_that_wait_keep_as_many_requests_under_way(rows: float) -> None:
    """By Little's law, whatever rate was measured: another one would be with other parameters."""
    waiting = stats(10.0, rows=rows, in_flight=40.0)
    seen = preview(PreviewQuestion(DEFAULT_PARAMETERS, (waiting,), (SERVICE,), duration_s=20.0))
    (tier,) = seen.tiers
    assert seen.busy == pytest.approx(1.0, abs=0.01)
    assert tier.answered_per_s > 15 * waiting.requests_per_s / rows
    assert tier.p50_s is not None
    assert tier.answered_per_s * tier.p50_s == pytest.approx(40.0, rel=0.25)


def test_a_queue_that_gets_an_slo_is_replayed_as_it_came() -> None:
    interactive = ArrivalStats("m", "interactive", 10.0, 1.0, 1.0, MIX, in_flight=40.0)
    seen = preview(PreviewQuestion(DEFAULT_PARAMETERS, (interactive,), (SERVICE,), duration_s=20.0))
    assert seen.tiers[0].answered_per_s == pytest.approx(10.0, rel=0.05)
