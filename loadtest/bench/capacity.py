"""The highest rate that a server sustains: geometric bracketing, then bisection.

While no rate has passed, each step down is the square of the one before.

A shared machine stutters, so a rate fails only when two runs with different seeds fail.
That makes the answer slightly kind, and equally so to every server. All runs are
remembered: a second search, with another idea of what passes, starts where the first ended.
"""

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from loadtest.bench.plan import RunReport

ATTEMPTS = 2
BRACKET_STEP = 1.2
MOST_STEPS_DOWN = 12  # at once: a ninth
LOWEST_RATE_PER_S = 1.0
TOLERATED_BAD_SHARE = 0.01

Report = TypeVar("Report")  # what a run at one rate found
Probe = Callable[[float, int], Report]  # rate per second, attempt (0, 1) -> report
Accept = Callable[[Report], bool]


class Capacity(msgspec.Struct, Generic[Report], frozen=True, kw_only=True):
    """The outcome of a search. `report` is the run at `rate_per_s`, None where none passed."""

    rate_per_s: float
    report: Report | None
    failing_rate_per_s: float | None  # the lowest above it that failed twice
    settled: bool  # False: the search ran out of time or probes first


class Bracket(NamedTuple):
    passing: float | None
    failing: float | None


def strictly_within(slo_ms: float) -> Accept[RunReport]:
    """Every request answered rightly, and p99 within the SLO."""

    def accept(report: RunReport) -> bool:
        return (
            report.latency is not None
            and report.answered == report.scheduled
            and report.latency.p99_ms <= slo_ms
        )

    return accept


def nearly_all_within(report: RunReport) -> bool:
    """At least 99% answered rightly within the SLO; refused, failed and late are all bad.

    A server that answers late and one that refuses early are held to the same share.
    """
    return (
        report.scheduled > 0
        and report.mismatched == 0
        and report.within_slo >= (1 - TOLERATED_BAD_SHARE) * report.scheduled
    )


class CapacitySearch(Generic[Report]):
    """Searches of one server. `out_of_time` ends them early; it is asked before each probe."""

    def __init__(
        self,
        probe: Probe[Report],
        *,
        resolution: float,
        max_probes: int,
        out_of_time: Callable[[], bool],
    ) -> None:
        if resolution <= 1:
            raise ValueError("resolution is the ratio of two rates and must be above 1")
        self._probe = probe
        self._resolution = resolution
        self._max_probes = max_probes
        self._out_of_time = out_of_time
        self._reports: dict[float, list[Report]] = {}

    def highest(self, accept: Accept[Report], start_rate_per_s: float) -> Capacity[Report]:
        """The highest rate found to pass, and whether it is known within `resolution`."""
        while True:
            bracket = self._bracket(accept)
            settled = self._is_settled(bracket)
            if settled or self._exhausted():
                return self._capacity(accept, bracket, settled)
            self._try(self._next_rate(bracket, start_rate_per_s), accept)

    def _bracket(self, accept: Accept[Report]) -> Bracket:
        passing = [rate for rate, reports in self._reports.items() if any(map(accept, reports))]
        highest = max(passing, default=None)
        failing = [
            rate
            for rate, reports in self._reports.items()
            if len(reports) == ATTEMPTS
            and not any(map(accept, reports))
            and (highest is None or rate > highest)
        ]
        return Bracket(highest, min(failing, default=None))

    def _is_settled(self, bracket: Bracket) -> bool:
        if bracket.failing is None:
            return False
        if bracket.passing is None:
            return bracket.failing <= LOWEST_RATE_PER_S
        return bracket.failing / bracket.passing <= self._resolution

    def _exhausted(self) -> bool:
        probes = sum(len(reports) for reports in self._reports.values())
        return probes >= self._max_probes or self._out_of_time()

    def _next_rate(self, bracket: Bracket, start_rate_per_s: float) -> float:
        passing, failing = bracket
        if passing is None:
            if failing is None:
                return start_rate_per_s
            return max(LOWEST_RATE_PER_S, failing / self._step_down())
        if failing is None:
            return passing * BRACKET_STEP
        return math.sqrt(passing * failing)

    def _step_down(self) -> float:
        """Grows with each rate that failed: a server far below the start is found in time."""
        return math.pow(BRACKET_STEP, min(2 ** (len(self._reports) - 1), MOST_STEPS_DOWN))

    def _try(self, rate_per_s: float, accept: Accept[Report]) -> None:
        reports = self._reports.setdefault(rate_per_s, [])
        while len(reports) < ATTEMPTS and not any(map(accept, reports)):
            reports.append(self._probe(rate_per_s, len(reports)))

    def _capacity(
        self, accept: Accept[Report], bracket: Bracket, settled: bool
    ) -> Capacity[Report]:
        reports: Sequence[Report] = self._reports.get(bracket.passing or 0.0, ())
        return Capacity(
            rate_per_s=bracket.passing or 0.0,
            report=next(filter(accept, reports), None),
            failing_rate_per_s=bracket.failing,
            settled=settled,
        )
