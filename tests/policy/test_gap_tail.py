"""How long a step may be is learned from how much longer than predicted long ones took."""

import random

from predictor.policy.gap_tail import INITIAL, INITIAL_FOR, LARGEST, LEAST, WINDOW, GapTail

ITL_S = 0.02


def learned(tail: GapTail, slow_share: float, times: float, steps: int = WINDOW) -> GapTail:
    """Steps as long as may be, of which a share takes so many times as long."""
    rng = random.Random(1)
    for _ in range(steps):
        predicted_s = (1.0 - tail.share) * ITL_S
        slow = rng.random() < slow_share
        tail.add(predicted_s, predicted_s * (times if slow else 1.0), ITL_S)
    return tail


def test_steps_that_take_as_long_as_predicted_may_nearly_fill_the_time() -> None:
    assert learned(GapTail(), 0.0, 1.0).share == LEAST


def test_caution_is_kept_until_the_tail_is_known() -> None:
    assert learned(GapTail(), 0.0, 1.0, INITIAL_FOR - 1).share == INITIAL


def test_the_slowest_of_a_hundred_would_still_be_in_time() -> None:
    tail = learned(GapTail(), 0.01, 1.5)
    assert (1.0 - tail.share) * 1.5 <= 1.0 + 1e-9


def test_one_step_that_stalled_is_not_the_tail() -> None:
    tail = learned(GapTail(), 0.0, 1.0)
    tail.add(ITL_S, 10.0 * ITL_S, ITL_S)
    assert learned(tail, 0.0, 1.0, 100).share == LEAST


def test_short_steps_that_take_many_times_as_long_say_nothing() -> None:
    tail = learned(GapTail(), 0.0, 1.0)
    for _ in range(WINDOW):
        tail.add(0.1 * ITL_S, 0.5 * ITL_S, ITL_S)
    assert tail.share == LEAST


def test_a_bad_time_that_is_over_is_forgotten() -> None:
    tail = learned(GapTail(), 0.5, 4.0)
    assert tail.share == LARGEST
    assert learned(tail, 0.0, 1.0).share == LEAST
