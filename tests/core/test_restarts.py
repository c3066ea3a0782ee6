"""When a process is started again, in a time of the tests' own."""

from predictor.core.restarts import LONGEST_DELAY_S, MOST_DEATHS, QUICK_S, WINDOW_S, Restarts


def test_the_first_death_costs_no_time() -> None:
    assert Restarts().delay_s(started_s=0.0, died_s=0.1) == 0.0


def test_quick_deaths_in_a_row_wait_longer_and_longer() -> None:
    restarts = Restarts()
    delays_s = [restarts.delay_s(died_s - 1.0, died_s) for died_s in (1.0, 15.0, 30.0, 45.0, 60.0)]
    assert delays_s == [0.0, 0.25, 0.5, 1.0, 2.0]


def test_the_delay_is_bounded_and_a_long_life_ends_it() -> None:
    restarts = Restarts()
    now_s, delay_s = 0.0, None
    for _ in range(20):
        now_s += WINDOW_S / MOST_DEATHS
        delay_s = restarts.delay_s(now_s - 1.0, now_s)
    assert delay_s == LONGEST_DELAY_S
    now_s += 1000.0
    assert restarts.delay_s(now_s - QUICK_S, now_s) == 0.0


def test_too_many_in_a_minute_are_the_end() -> None:
    restarts = Restarts()
    delays_s = [restarts.delay_s(float(died_s), died_s + 0.5) for died_s in range(MOST_DEATHS + 1)]
    assert None not in delays_s[:-1]
    assert delays_s[-1] is None


def test_deaths_over_a_minute_ago_are_forgotten() -> None:
    restarts = Restarts()
    for died_s in range(MOST_DEATHS):
        assert restarts.delay_s(died_s - 100.0, float(died_s)) == 0.0
    assert restarts.delay_s(0.0, WINDOW_S) == 0.0
