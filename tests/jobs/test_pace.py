"""How many lines are held, with time as numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.jobs.pace import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pace


def test_at_first_two_batches_are_held() -> None:
    pace = Pace(least=16, most=1000)
    assert pace.to_claim(0.0, held=0) == 16
    assert pace.to_claim(0.0, held=6) == 10
    assert pace.to_claim(0.0, held=16) == 0


def test_as_many_are_held_as_ended_in_the_last_second() -> None:
    pace = Pace(least=16, most=1000)
    for tenth in range(10):
        pace.ended(tenth / 10, 30)
    assert pace.to_claim(0.95, held=100) == 200
    assert pace.to_claim(1.45, held=0) == 150  # half of it is longer ago
    assert pace.to_claim(3.0, held=0) == 16


def test_not_one_round_trip_for_each_line() -> None:
    pace = Pace(least=16, most=1000)
    assert pace.to_claim(0.0, held=13) == 0
    assert pace.to_claim(0.0, held=12) == 4


def test_never_more_than_the_most() -> None:
    pace = Pace(least=16, most=100)
    pace.ended(0.0, 5000)
    assert pace.to_claim(0.5, held=0) == 100
    assert Pace(least=16, most=4).to_claim(0.0, held=0) == 4


def test_a_refusal_pauses_longer_each_time_until_a_line_is_answered() -> None:
    pace = Pace(least=16, most=100)
    now_s, pauses = 0.0, []
    for _ in range(9):
        pace.refused(now_s)
        pace.refused(now_s)  # of the same burst
        assert pace.to_claim(now_s, held=0) == 0
        pauses.append(pace.resumes_s - now_s)
        now_s = pace.resumes_s
        assert pace.to_claim(now_s, held=0) == 16
    assert pauses[:3] == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)
    pace.ended(now_s, 0)
    pace.refused(now_s)
    assert pace.resumes_s == now_s + LONGEST_PAUSE_S
    pace.ended(pace.resumes_s, 1)
    pace.refused(now_s := pace.resumes_s)
    assert pace.resumes_s == now_s + FIRST_PAUSE_S


def test_the_engine_says_when_another_try_is_worth_it() -> None:
    pace = Pace(least=16, most=100)
    pace.refused(0.0, retry_after_s=3.0)
    assert pace.resumes_s == 3.0
    pace.refused(3.0, retry_after_s=3600.0)
    assert pace.resumes_s == 3.0 + LONGEST_PAUSE_S


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(0, 500), st.integers(0, 200), st.booleans()),
        max_size=50,
    )
)
def test_bounds_hold_whatever_happens(
    steps: list[tuple[float, int, int, bool]],
) -> None:
    pace, now_s = Pace(least=8, most=100), 0.0
    for wait_s, ended, held, refused in steps:
        now_s += wait_s
        pace.ended(now_s, ended)
        if refused:
            pace.refused(now_s)
        room = pace.to_claim(now_s, held)
        assert 0 <= room <= max(100 - held, 0)
        assert pace.resumes_s <= now_s + LONGEST_PAUSE_S
        if held == 0 and now_s >= pace.resumes_s:
            assert room >= 8
