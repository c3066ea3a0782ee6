"""The search for the highest rate, against probes that are functions."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.capacity import (
    LOWEST_RATE_PER_S,
    CapacitySearch,
    nearly_all_within,
    strictly_within,
)
from loadtest.bench.plan import RunReport
from tests.loadtest.reports import CALM, LATE, NOTHING_ANSWERED, SOME_REFUSED

STRICT = strictly_within(100.0)
rates = st.floats(2, 5000)


class Probes:
    """A server that is calm up to a rate, refuses a few up to another, and is late above."""

    def __init__(self, strict_per_s: float, tolerant_per_s: float, stumbles: int = 0) -> None:
        self.asked: list[float] = []
        self._strict_per_s = strict_per_s
        self._tolerant_per_s = tolerant_per_s
        self._stumbles = stumbles

    def __call__(self, rate_per_s: float, attempt: int) -> RunReport:
        self.asked.append(rate_per_s)
        if attempt < self._stumbles:
            return LATE
        if rate_per_s <= self._strict_per_s:
            return CALM
        return SOME_REFUSED if rate_per_s <= self._tolerant_per_s else LATE


def search(
    probes: Probes,
    *,
    max_probes: int = 500,
    out_of_time: Callable[[], bool] = lambda: False,
) -> CapacitySearch[RunReport]:
    return CapacitySearch(probes, resolution=1.03, max_probes=max_probes, out_of_time=out_of_time)


@given(rates, rates, st.integers(0, 1))
def test_the_answer_brackets_the_true_capacity(true: float, start: float, stumbles: int) -> None:
    probes = Probes(true, true, stumbles)
    found = search(probes).highest(STRICT, start)
    assert found.settled
    assert found.failing_rate_per_s is not None
    assert found.rate_per_s <= true < found.failing_rate_per_s <= 1.03 * found.rate_per_s
    assert found.report == CALM


@given(rates, st.floats(1, 2), rates)
def test_a_second_search_uses_what_the_first_one_ran(
    strict: float, more: float, start: float
) -> None:
    probes = Probes(strict, strict * more)
    both = search(probes)
    first = both.highest(STRICT, start)
    second = both.highest(nearly_all_within, first.rate_per_s)
    assert second.settled
    assert second.failing_rate_per_s is not None
    assert second.rate_per_s <= strict * more < second.failing_rate_per_s
    assert second.rate_per_s >= first.rate_per_s
    assert all(probes.asked.count(rate) <= 2 for rate in probes.asked)


def test_a_server_that_never_passes_has_no_capacity() -> None:
    found = search(Probes(0, 0)).highest(STRICT, 100)
    assert found.rate_per_s == 0
    assert found.report is None
    assert found.settled


@given(st.floats(5, 30_000), st.floats(1, 60))
def test_twelve_probes_find_a_rate_that_passes_far_below_the_start(
    start: float, times: float
) -> None:
    true = max(LOWEST_RATE_PER_S, start / times)
    found = search(Probes(true, true), max_probes=12).highest(STRICT, start)
    assert 0 < found.rate_per_s <= true


@given(st.integers(1, 12), rates, rates)
def test_the_number_of_probes_is_bounded(most: int, true: float, start: float) -> None:
    probes = Probes(true, true)
    found = search(probes, max_probes=most).highest(STRICT, start)
    assert len(probes.asked) <= most + 1  # a failing rate is repeated all the same
    assert found.rate_per_s <= true


def test_the_time_is_bounded() -> None:
    probes = Probes(100, 100)
    hurried = search(probes, out_of_time=lambda: len(probes.asked) >= 3)
    found = hurried.highest(STRICT, 50)
    assert not found.settled
    assert len(probes.asked) == 3
    assert 0 < found.rate_per_s <= 100


def test_what_passes() -> None:
    assert STRICT(CALM)
    assert nearly_all_within(CALM)
    assert not STRICT(SOME_REFUSED)
    assert nearly_all_within(SOME_REFUSED)
    for bad in (LATE, NOTHING_ANSWERED):
        assert not STRICT(bad)
        assert not nearly_all_within(bad)
