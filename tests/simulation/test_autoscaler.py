"""The autoscaler's formulas, held against the examples of Kubernetes' documentation and by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.simulation.autoscaler import (
    SYNC_S,
    Behavior,
    HorizontalAutoscaler,
    Measured,
    Policy,
    Rules,
    Select,
    Unit,
    thousandths,
)

AT_ONCE = Rules(0.0, (Policy(Unit.PODS, 1000, SYNC_S),))
FREE = Behavior(AT_ONCE, AT_ONCE)


def measured(value: float | None, target: float) -> Measured:
    return Measured(None if value is None else thousandths(value), thousandths(target))


def wanted(
    replicas: int, *metrics: Measured, behavior: Behavior = FREE, least: int = 1, most: int = 100
) -> int:
    return HorizontalAutoscaler(least, most, behavior).sync(0.0, replicas, metrics)


def steps(scaler: HorizontalAutoscaler, replicas: int, value: float, syncs: int) -> list[int]:
    """Replicas after each of so many syncs, with a target of 1 each."""
    seen = []
    for sync in range(syncs):
        replicas = scaler.sync(sync * SYNC_S, replicas, [measured(value, 1.0)])
        seen.append(replicas)
    return seen


@pytest.mark.parametrize(
    ("replicas", "total", "target", "expected"),
    [
        (3, 2.1, 0.7, 3),  # exact in thousandths, not in floats
        (2, 2.1, 0.7, 3),
        (4, 400.0, 50.0, 8),  # twice the target: twice the replicas
        (4, 100.0, 50.0, 2),
        (10, 110.0, 10.0, 10),  # within the tolerance
        (10, 111.0, 10.0, 12),
        (10, 90.0, 10.0, 10),
        (10, 89.0, 10.0, 9),
        (5, 0.0, 0.7, 1),
        (5, 1e9, 0.7, 100),
    ],
)
def test_a_sum_over_its_target_is_rounded_up(
    replicas: int, total: float, target: float, expected: int
) -> None:
    assert wanted(replicas, measured(total, target)) == expected


def test_the_metric_that_asks_for_most_counts() -> None:
    assert wanted(2, measured(2.0, 1.0), measured(50.0, 10.0), measured(0.0, 1.0)) == 5


def test_where_one_metric_has_no_value_the_others_only_add() -> None:
    unknown = measured(None, 1.0)
    assert wanted(4, unknown, measured(8.0, 1.0)) == 8
    assert wanted(4, unknown, measured(1.0, 1.0)) == 4
    assert wanted(4, unknown) == 4


def test_tolerances_may_differ() -> None:
    tight = Rules(0.0, AT_ONCE.policies, tolerance=0.0)
    behavior = Behavior(up=tight, down=Rules(0.0, AT_ONCE.policies, tolerance=0.3))
    assert wanted(10, measured(10.1, 1.0), behavior=behavior) == 11
    assert wanted(10, measured(7.5, 1.0), behavior=behavior) == 10


def test_what_is_out_of_bounds_comes_back_at_once() -> None:
    assert wanted(12, measured(12.0, 1.0), most=8) == 8
    assert wanted(1, measured(0.0, 1.0), least=3) == 3


def test_none_stays_none() -> None:
    assert wanted(0, measured(1e6, 1.0)) == 0


def test_by_default_it_doubles_or_adds_four_each_quarter_of_a_minute() -> None:
    scaler = HorizontalAutoscaler(1, 100, Behavior())
    assert steps(scaler, 1, 90.0, 6) == [5, 10, 20, 40, 80, 90]


def test_by_default_it_shrinks_once_five_minutes_have_asked_for_less() -> None:
    scaler = HorizontalAutoscaler(1, 100, Behavior())
    seen = steps(scaler, 10, 2.0, 21)
    assert seen[:20] == [10] * 20
    assert seen[20] == 2


def test_the_documentations_example_of_two_policies() -> None:
    """80 replicas to 10: 10% a minute, rounded up, and 4 where that is more."""
    policies = (Policy(Unit.PODS, 4, 60.0), Policy(Unit.PERCENT, 10, 60.0))
    scaler = HorizontalAutoscaler(10, 100, Behavior(AT_ONCE, Rules(0.0, policies)))
    replicas, seen = 80, []
    for minute in range(20):
        replicas = scaler.sync(minute * 60.0, replicas, [measured(10.0, 1.0)])
        seen.append(replicas)
    assert seen[:3] == [72, 64, 57]
    below = [replicas for replicas in seen if replicas < 40]
    assert below[:3] == [below[0], below[0] - 4, below[0] - 8]
    assert seen[-1] == 10


def test_the_gentlest_policy_may_count_or_none() -> None:
    policies = (Policy(Unit.PODS, 1, 60.0), Policy(Unit.PERCENT, 50, 60.0))
    gentle = Rules(0.0, policies, Select.MIN)
    assert wanted(10, measured(2.0, 1.0), behavior=Behavior(gentle, gentle)) == 9
    assert wanted(10, measured(30.0, 1.0), behavior=Behavior(gentle, gentle)) == 11
    frozen = Rules(0.0, policies, Select.DISABLED)
    assert wanted(10, measured(2.0, 1.0), behavior=Behavior(frozen, frozen)) == 10
    assert wanted(10, measured(30.0, 1.0), behavior=Behavior(frozen, frozen)) == 10


def test_a_policy_counts_what_changed_in_its_period() -> None:
    slowly = Rules(0.0, (Policy(Unit.PODS, 1, 60.0),))
    scaler = HorizontalAutoscaler(1, 100, Behavior(AT_ONCE, slowly))
    assert steps(scaler, 5, 1.0, 9) == [4, 4, 4, 4, 3, 3, 3, 3, 2]


def test_growth_may_have_to_last_too() -> None:
    """The least that was asked for in the window counts."""
    patient = Behavior(Rules(60.0, AT_ONCE.policies), AT_ONCE)
    scaler = HorizontalAutoscaler(1, 100, patient)
    asked = [9.0, 9.0, 1.0, 9.0, 9.0, 5.0, 9.0, 9.0]
    replicas, seen = 1, []
    for sync, value in enumerate(asked):
        replicas = scaler.sync(sync * SYNC_S, replicas, [measured(value, 1.0)])
        seen.append(replicas)
    assert seen == [1, 1, 1, 1, 1, 1, 5, 5]


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(0, 50)), min_size=1, max_size=60),
    begins=st.integers(1, 8),
)
def test_whatever_is_asked_it_stays_in_bounds_and_within_its_policies(
    values: list[float | None], begins: int
) -> None:
    down = Rules(120.0, (Policy(Unit.PODS, 1, 60.0),))
    up = Rules(0.0, (Policy(Unit.PERCENT, 100, 15.0), Policy(Unit.PODS, 4, 15.0)))
    scaler = HorizontalAutoscaler(1, 8, Behavior(up, down))
    replicas, last_down_s = begins, -60.0
    for sync, value in enumerate(values):
        now_s = sync * SYNC_S
        after = scaler.sync(now_s, replicas, [measured(value, 1.0)])
        assert 1 <= after <= 8
        assert after <= max(2 * replicas, replicas + 4)
        if after < replicas:
            assert after == replicas - 1
            assert now_s - last_down_s >= 60.0
            last_down_s = now_s
        replicas = after
