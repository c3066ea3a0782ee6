"""`python -m loadtest capacity`: the highest rate that a server sustains, and what it could be."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from loadtest.bench.capacity import Capacity, CapacitySearch
from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table
from loadtest.bench.scrapes import Scrape
from loadtest.driving import Driver, whole
from loadtest.k6.result import K6Result
from loadtest.learned import learned_from
from loadtest.prediction import Traffic, predicted_capacity
from loadtest.target import GENERATION, LiveParameters, Target
from predictor.core.parameters import Parameters, Policy
from predictor.metrics import names

LOOK_RATE_PER_S = 5.0  # slow enough for any server that is worth a search
INVALID = "INVALID"
# What was measured may be so much more than what is reckoned to be possible: arrivals of a short
# run are a little more or less than their rate says, and so is their mean length.
MOST_OF_BOUND = 1.05
MOST_OF_PREDICTION = 1.25


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How finely and how long to search, for each policy."""

    resolution: float = 1.03
    max_runs: int = 24
    limit_s: float = 600.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Of one policy. `predicted_per_s` is the simulator's, with what was learned by the end."""

    policy: Policy
    measured: Capacity[K6Result]
    bound_per_s: float
    predicted_per_s: float
    mean_tokens: float
    stopped_by: str  # what failed at the lowest failing rate
    model_error: float | None = None  # median, of a batch's predicted time

    @property
    def ratio_to_bound(self) -> float:
        return self.measured.rate_per_s / self.bound_per_s

    @property
    def ratio_to_prediction(self) -> float:
        if self.predicted_per_s:
            return self.measured.rate_per_s / self.predicted_per_s
        return math.inf if self.measured.rate_per_s else 0.0

    @property
    def bound_is_valid(self) -> bool:
        return self.ratio_to_bound <= MOST_OF_BOUND

    @property
    def prediction_is_valid(self) -> bool:
        return self.ratio_to_prediction <= MOST_OF_PREDICTION

    @property
    def generator_gave_up(self) -> bool:
        """What ended the search was k6, and no limit of the server."""
        return self.stopped_by.startswith(INVALID)


def sustains(result: K6Result, slo_ms: float) -> bool:
    """Every request answered rightly, no iteration dropped, and p99 within the SLO."""
    return not shortfall(result, slo_ms)


def shortfall(result: K6Result, slo_ms: float) -> str:
    """Why the run does not count as sustained; empty where it does."""
    seen = whole(result)
    if not result.valid:
        return (
            f"{INVALID}: the generator could not keep up: k6 dropped {result.dropped} iterations,"
            f" and sent {result.lag_p99_ms:.0f} ms late at p99"
        )
    if not seen.requests:
        return "no request was sent"
    if seen.failed:
        return f"{seen.failed} of {seen.requests} requests failed"
    if seen.ok != seen.requests:
        return f"{seen.requests - seen.ok} of {seen.requests} requests were refused"
    if seen.p99_ms > slo_ms:
        return f"p99 {seen.p99_ms:.0f} ms"
    return ""


def mean_tokens(between: Scrape, model: str) -> float:
    """Of a row that was run, between two scrapes; 0 where none was."""
    rows = between.total(f"{names.BATCH_ROWS.name}_sum", model=model)
    return between.total(names.TOKENS.name, model=model) / rows if rows else 0.0


def devices_of(seen: Scrape) -> int:
    """As many as there are engines: each tells its generation."""
    return max(1, len(seen.values(GENERATION)))


class PolicySearch:
    """The search under the parameters in force, and the prediction beside it."""

    def __init__(
        self,
        target: Target,
        driver: Driver,
        parameters: Parameters,
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._target = target
        self._driver = driver
        self._parameters = parameters
        self._pace = pace
        self._say = say
        self._lowest_failure: tuple[float, str] | None = None

    def run(self) -> Found:
        """Raises BenchError where the server is gone or nothing is answered."""
        batching = self._parameters.for_model(self._target.model)
        before = self._target.check()
        # Where the simulator holds next to nothing, what was looked at is the better start.
        start_per_s = max(self._predicted(self._looked_at(before)), LOOK_RATE_PER_S)
        ends_at = time.monotonic() + self._pace.limit_s
        search = CapacitySearch(
            self._probe,
            resolution=self._pace.resolution,
            max_probes=self._pace.max_runs,
            out_of_time=lambda: time.monotonic() > ends_at,
        )
        slo_ms = self._driver.load.slo_ms
        found = search.highest(lambda result: sustains(result, slo_ms), start_per_s)
        after = self._target.scrape()
        model = self._target.model
        length = mean_tokens(after.since(before), model)
        errors = after.values(names.SERVICE_MODEL_ERROR.name, model=model).values()
        bound_per_s = learned_from(after, model).bound_per_s(batching, length)
        return Found(
            policy=batching.policy,
            measured=found,
            bound_per_s=devices_of(after) * bound_per_s,
            predicted_per_s=self._predicted(length, after),
            mean_tokens=length,
            stopped_by=self._lowest_failure[1] if self._lowest_failure else "",
            model_error=max(errors, default=None),
        )

    def _looked_at(self, before: Scrape) -> float:
        """The mean length of what is sent, by sending a little of it."""
        self._say("a look at what is sent")
        seen = whole(self._driver.steady(LOOK_RATE_PER_S))
        length = mean_tokens(self._target.scrape().since(before), self._target.model)
        if not seen.ok or not length:
            raise BenchError(
                f"of {seen.requests} requests at {LOOK_RATE_PER_S:g}/s none was answered rightly "
                f"({seen.refused} refused, {seen.failed} failed); do --task and --tier fit the "
                "server?"
            )
        return length

    def _predicted(self, length: float, seen: Scrape | None = None) -> float:
        """Each device gets an even part of what is sent."""
        seen = seen or self._target.scrape()
        learned = learned_from(seen, self._target.model)
        load = self._driver.load
        one = predicted_capacity(
            self._parameters,
            self._target.model,
            learned,
            Traffic(mean_tokens=length, lengths=load.lengths, even=load.arrivals == "even"),
            tier=load.tier,
            slo_ms=load.slo_ms,
            seconds=load.seconds,
        )
        return devices_of(seen) * one.rate_per_s

    def _probe(self, rate_per_s: float, attempt: int) -> K6Result:
        self._say(f"{rate_per_s:,.1f}/s{' again' if attempt else ''}")
        result = self._driver.steady(rate_per_s, attempt)
        self._target.scrape()  # a server that has died says so here, not as a capacity of 0
        problem = shortfall(result, self._driver.load.slo_ms)
        self._say(f"{rate_per_s:,.1f}/s: {problem or 'held'}")
        if problem and (self._lowest_failure is None or rate_per_s <= self._lowest_failure[0]):
            self._lowest_failure = (rate_per_s, problem)
        return result


def compared(
    target: Target,
    driver: Driver,
    pace: Pace,
    say: Callable[[str], None],
    *,
    live: LiveParameters,
    policies: Sequence[Policy],
) -> Sequence[Found]:
    """Each policy in turn, edited live; with none named, the one in force."""
    if not policies:
        return [PolicySearch(target, driver, live.current, pace, say).run()]
    found = []
    for policy in policies:
        batching = live.original.for_model(target.model)
        parameters = live.edit(target.model, msgspec.structs.replace(batching, policy=policy))
        told = partial(_say_of, policy, say)
        found.append(PolicySearch(target, driver, parameters, pace, told).run())
    return found


def _say_of(policy: Policy, say: Callable[[str], None], text: str) -> None:
    say(f"{policy}: {text}")


def table_of(found: Sequence[Found], slo_ms: float) -> Table:
    """A column for each policy."""
    return Table(
        title="Capacity",
        intro=f"Highest rate with p99 ≤ {slo_ms:g} ms, no error and no dropped iteration. The "
        "bound is a device that always runs its best full batch, by the learned service-time "
        "model, at the mean length sent.",
        columns=("", *(each.policy.value for each in found)),
        rows=list(zip(MEASURED, *map(_column, found), strict=True)),
        notes=[note for each in found for note in _notes(each)],
    )


def _notes(found: Found) -> Iterator[str]:
    policy, measured = found.policy, found.measured
    if not measured.settled:
        yield f"{policy}: the search ended early; a lower bound"
    if found.generator_gave_up:
        yield f"{policy}: what gave up was k6, not the server; a lower bound"
    error = "" if found.model_error is None else f" (median error {found.model_error:.0%})"
    wrong = (
        f"the learned service-time model{error} does not fit what the device did while this was"
        " measured; search again when nothing else uses the machine"
    )
    if not found.bound_is_valid:
        yield (
            f"{policy}: the bound is {INVALID}: {found.ratio_to_bound:.2f} times as much was"
            f" measured, and no device does more than its best full batch: {wrong}"
        )
    if not found.prediction_is_valid:
        yield (
            f"{policy}: the simulator's capacity is {INVALID}: the server held"
            f" {found.ratio_to_prediction:.2f} times as much with the same policy: {wrong}"
        )


MEASURED = (
    *("capacity, requests/s", "fails at", "what fails there"),
    *("p99 at capacity, ms", "generator lag p99 there, ms", "mean length, tokens"),
    *("bound, requests/s", "capacity ÷ bound"),
    *("simulator's capacity, requests/s", "capacity ÷ simulator's"),
)


def _column(found: Found) -> Sequence[str]:
    measured, report = found.measured, found.measured.report
    failing_per_s = measured.failing_rate_per_s
    return (
        INVALID if found.generator_gave_up and not report else f"{measured.rate_per_s:,.1f}",
        "-" if failing_per_s is None else f"{failing_per_s:,.1f}",
        found.stopped_by or "-",
        f"{whole(report).p99_ms:.1f}" if report else "-",
        f"{report.lag_p99_ms:.1f}" if report else "-",
        f"{found.mean_tokens:.1f}",
        *_beside(found.bound_per_s, found.ratio_to_bound, valid=found.bound_is_valid),
        *_beside(found.predicted_per_s, found.ratio_to_prediction, valid=found.prediction_is_valid),
    )


def _beside(rate_per_s: float, ratio: float, *, valid: bool) -> Sequence[str]:
    """What is reckoned, and the measured capacity over it."""
    if not valid:
        return f"{INVALID} ({rate_per_s:,.1f})", f"{INVALID} ({ratio:.2f})"
    return f"{rate_per_s:,.1f}", f"{ratio:.2f}"
