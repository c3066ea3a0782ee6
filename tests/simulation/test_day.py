"""A day's traffic, and what is said of how a fleet got through it."""

from itertools import pairwise, repeat

import pytest

from predictor.simulation.day import (
    DAY_S,
    TROUGH_S,
    Arrivals,
    Burst,
    Rhythm,
    bursts,
    reversals,
    verdict,
)
from predictor.simulation.fleet import Change, Minute


def minute(at: int, in_time: int = 100, refused: int = 0, p99_s: float = 0.1) -> Minute:
    return Minute(60.0 * at, in_time, in_time, refused, p99_s, serving=2, wanted=2)


def scaled(*counts: int, every_s: float = 120.0) -> list[Change]:
    return [
        Change(at * every_s, "pool", before, after)
        for at, (before, after) in enumerate(pairwise(counts))
    ]


def test_the_rate_goes_from_trough_to_peak_and_back() -> None:
    rhythm = Rhythm(trough=2.0, peak=10.0)
    assert rhythm.rate(TROUGH_S) == 2.0
    assert rhythm.rate(TROUGH_S + DAY_S / 2) == pytest.approx(10.0)
    assert rhythm.rate(TROUGH_S + DAY_S) == pytest.approx(2.0)


def test_a_burst_rises_stays_and_ebbs_away() -> None:
    burst = Burst(at_s=100.0, height=0.5, rise_s=10.0, hold_s=60.0, fall_s=20.0)
    seen = [burst.factor(time_s) for time_s in (99.0, 105.0, 110.0, 170.0, 180.0, 190.0, 300.0)]
    assert seen == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.25, 0.0, 0.0])
    rhythm = Rhythm(10.0, 10.0, (burst,))
    assert rhythm.rate(120.0) == pytest.approx(15.0)


def test_the_same_seed_is_the_same_day() -> None:
    assert bursts(3) == bursts(3)
    assert bursts(3) != bursts(4)

    def arrivals(seed: int) -> list[float]:
        rhythm = Rhythm(50.0, 50.0)
        return [each.time_s for each in Arrivals(rhythm, repeat(9), seed)(10.0, 20.0)]

    assert arrivals(1) == arrivals(1)
    assert arrivals(1) == sorted(arrivals(1))
    assert all(10.0 <= time_s < 20.0 for time_s in arrivals(1))
    assert len(arrivals(1)) == pytest.approx(500, rel=0.15)


def test_arrivals_follow_the_rate_at_their_time_of_day() -> None:
    rhythm = Rhythm(10.0, 100.0)
    noon = Arrivals(rhythm, repeat(9), 1, begins_s=TROUGH_S + DAY_S / 2)
    night = Arrivals(rhythm, repeat(9), 1, begins_s=TROUGH_S)
    assert len(noon(0.0, 100.0)) > 5 * len(night(0.0, 100.0))


def test_a_refused_request_is_late_in_one_verdict_and_not_in_the_other() -> None:
    seen = verdict([minute(0), minute(1, in_time=98, refused=2), minute(2, p99_s=3.0)], (), 1.0)
    assert seen.answers_in_time == pytest.approx(2 / 3)
    assert seen.all_in_time == pytest.approx(2 / 3)
    assert seen.refused == pytest.approx(2 / 300)
    assert seen.replica_hours == pytest.approx(0.1)


def test_turns_of_scaling_are_counted() -> None:
    assert reversals(scaled(1, 2, 4, 8)) == []
    assert reversals(scaled(1, 4, 3, 2, 5)) == [120.0, 360.0]
    assert verdict([minute(0)], scaled(1, 4, 3, 5), 1.0).flaps
    assert not verdict([minute(0)], scaled(1, 4, 3, 2, 2, every_s=700.0), 1.0).flaps
    assert not verdict([minute(0)], scaled(1, 4, 3, 5, every_s=700.0), 1.0).flaps


def test_pools_turn_each_for_itself() -> None:
    changes = [Change(0.0, "a", 1, 2), Change(1.0, "b", 2, 1), Change(2.0, "a", 2, 3)]
    assert reversals(changes) == []


def test_lengths_are_taken_in_turn() -> None:
    made = Arrivals(Rhythm(100.0, 100.0), iter(range(10_000)), 1)
    first, second = made(0.0, 1.0), made(1.0, 2.0)
    assert [each.tokens for each in (*first, *second)] == list(range(len(first) + len(second)))
