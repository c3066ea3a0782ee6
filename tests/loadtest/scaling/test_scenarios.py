"""Cuts of a simulated day, and a reclaim of spot nodes, with the scaling that the manifests apply.

The whole day is `python -m loadtest.scaling day`; its figures are in manifests/scaling.md. Replicas
are slower here than there.
"""

from functools import cache

import pytest

from loadtest.scaling.scenarios import (
    PEAK,
    QUEUE_TRIGGER,
    TROUGH,
    Lived,
    Reclaimed,
    day,
    one_pool,
    only,
    reclaim,
    two_pools,
)
from loadtest.scaling.world import applied, leaving, world
from predictor.simulation.day import Burst, Rhythm
from predictor.simulation.replica import Leaving

SLOWER, RECLAIM_SLOWER = 40.0, 20.0
SEED = 7
HOUR_S = 3600.0
MORNING_H, NIGHT_H = 8.2, 3.5  # demand doubles, with a burst; the trough
NOON_H = 12.0  # a large burst


@cache
def lived(begins_h: float, hours: float, *, queue_alone: bool = False) -> Lived:
    scaling = applied()
    there = world(SLOWER)
    return day(
        there,
        one_pool(only(scaling, QUEUE_TRIGGER) if queue_alone else scaling, begins_with=2),
        there.rhythm(TROUGH, PEAK, SEED),
        begins_s=begins_h * HOUR_S,
        lasts_s=hours * HOUR_S,
        seed=SEED,
    )


def test_a_morning_is_scaled_in_time_and_without_flapping() -> None:
    seen = lived(MORNING_H, 0.75)
    assert seen.verdict.answers_in_time == 1.0
    assert seen.verdict.all_in_time >= 0.99
    assert seen.verdict.least_serving >= 1
    assert not seen.verdict.flaps
    assert seen.minutes[-1].serving > seen.minutes[0].serving


def test_the_night_never_ends_at_none() -> None:
    seen = lived(NIGHT_H, 0.75)
    assert seen.verdict.all_in_time >= 0.99
    assert seen.verdict.least_serving == 1
    assert seen.verdict.replica_hours < 1.5


def test_queue_depth_alone_sees_too_late_and_turns_to_and_fro() -> None:
    """Refusing early keeps queues short: empty below capacity, and never long beyond it."""
    alone, both = (lived(NOON_H, 1.5, queue_alone=each) for each in (True, False))
    assert alone.verdict.answers_in_time == 1.0, "what is answered is in time, whoever scales"
    assert alone.verdict.all_in_time < 0.95 < both.verdict.all_in_time
    assert alone.verdict.reversals > 2 * both.verdict.reversals + 2


def test_spot_wakes_for_a_burst_and_goes_back_to_none() -> None:
    there = world(SLOWER, bulk=True)
    burst = Burst(at_s=120.0, height=4.0, rise_s=60.0, hold_s=300.0, fall_s=60.0)
    rhythm = Rhythm(0.3 * there.capacity, 0.3 * there.capacity, (burst,))
    seen = day(there, two_pools(), rhythm, lasts_s=2400.0)
    assert {change.pool for change in seen.changes} == {"topics-spot"}
    wanted = [change.after for change in seen.changes]
    assert max(wanted) >= 2
    assert wanted[-1] == 0
    assert wanted.count(0) == 1
    assert seen.verdict.least_serving == 1


@cache
def reclaimed(how: Leaving) -> Reclaimed:
    """All clouds' notices are longer than a replica takes to leave, so it is one run for them."""
    there = world(RECLAIM_SLOWER, bulk=True)
    return reclaim(there, how, line_count=4000, steady_s=60.0, after_s=120.0, seed=SEED)


@pytest.mark.parametrize("notice_s", [120.0, 30.0, 15.0])
def test_a_reclaim_loses_nothing_that_was_let_in(notice_s: float) -> None:
    seen = reclaimed(leaving(notice_s))
    assert seen.lost == 0
    assert seen.settled == seen.arrived
    assert seen.done == seen.lines
    assert seen.done_twice == 0
    assert max(each.p99_s for each in seen.after) <= seen.slo_s
    assert [each.refused for each in seen.after[2:]] == [0] * len(seen.after[2:])
    assert max(each.serving for each in seen.after) >= seen.taken + seen.stayed


def test_without_notice_rows_in_hand_are_lost_and_lines_come_back() -> None:
    seen = reclaimed(leaving(0.0))
    assert seen.lost > 0
    assert seen.settled == seen.arrived - seen.lost
    assert seen.returned > 0
    assert seen.done == seen.lines
    assert seen.done_twice == 0
