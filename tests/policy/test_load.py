"""Rates that forget, and an overload flag that does not flap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.policy.load import (
    ENTER_OVERLOAD,
    LEAVE_OVERLOAD,
    DecayingRate,
    Hysteresis,
    OfferedLoad,
)


@pytest.mark.parametrize("start_s", [0.0, 1e6])
@pytest.mark.parametrize("rate", [5, 100, 5000])
def test_a_steady_rate_is_found(rate: int, start_s: float) -> None:
    decaying = DecayingRate(memory_s=1.0)
    for event in range(3 * rate):
        decaying.add(1.0, start_s + event / rate)
    assert decaying.per_s(start_s + 3.0) == pytest.approx(rate, rel=0.15)


def test_silence_is_noticed() -> None:
    decaying = DecayingRate(memory_s=1.0)
    for event in range(300):
        decaying.add(1.0, event / 100)
    assert decaying.per_s(13.0) < 0.01
    assert decaying.per_s(1e9) == pytest.approx(0.0, abs=1e-9)


def test_one_burst_at_the_start_is_no_infinite_rate() -> None:
    decaying = DecayingRate(memory_s=1.0)
    decaying.add(10.0, 5.0)
    assert 0 < decaying.per_s(5.0) <= 10.0 / 0.02


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), max_size=50))
def test_a_rate_is_never_negative_nor_over_what_came(events: list[tuple[float, float]]) -> None:
    decaying = DecayingRate(memory_s=1.0)
    now_s = total = 0.0
    for gap_s, amount in events:
        now_s += gap_s
        total += amount
        decaying.add(amount, now_s)
        assert 0 <= decaying.per_s(now_s) <= total / 0.02 + 1e-9


def test_overload_has_hysteresis() -> None:
    overload = Hysteresis()
    between = 0.5 * (ENTER_OVERLOAD + LEAVE_OVERLOAD)
    assert not overload.update(between)
    assert overload.update(1.2)
    assert overload.update(between)
    assert not overload.update(0.5)
    assert not overload.update(between)


def test_what_was_refused_unread_counts_as_its_like() -> None:
    seen, unseen = OfferedLoad(), OfferedLoad()
    for step in range(4000):
        now_s = step * 1e-3
        seen.offer(5e-4, now_s)
        if step % 2:
            unseen.offer(5e-4, now_s)
        else:
            unseen.offer_unseen(now_s)
    assert abs(unseen.load(4.0) - seen.load(4.0)) < 0.02 * seen.load(4.0)
