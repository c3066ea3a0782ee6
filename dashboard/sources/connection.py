"""One Prometheus: queries in, samples out, and whatever goes wrong in a sentence."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from dashboard.ports import NoData, SourceDown, Window
from dashboard.sources.coverage import first_seen_s
from dashboard.sources.promql import ENGINES, OFFERED, Grid
from predictor.core.shown import without_secrets

TIMEOUT_S = 10
SILENT_S = 10.0  # after a query that nobody answered: a page of ten plots waits once
MAX_SERIES = 20_000  # an answer with more would not fit a page, or a browser
USUAL_SCRAPE_S = 15.0
KEPT_S = 60.0  # how long what is known of Prometheus itself is believed

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest value of a series; NaN is a value."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    """A series over time, as far as it has values."""

    labels: Labels
    values: Mapping[float, float]  # by Unix time

    def on(self, times_s: Sequence[float]) -> tuple[float, ...]:
        """NaN where there is no value."""
        return tuple(self.values.get(time_s, math.nan) for time_s in times_s)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """Where a series begins, and what is known of it: nothing before the time looked from."""

    looked_from_s: float
    first_s: float
    learned_s: float


class Connection:
    """Reads one Prometheus. All reads raise SourceDown where it does not answer or refuses."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """`url` as http://host:port, with a path if there is one. `clock` gives Unix time."""
        self.url = without_secrets(url).rstrip("/")  # as it is shown
        self.now_s = clock
        # A page that waits for retries is worse than one that says what is wrong.
        self._client = PrometheusConnect(
            url.rstrip("/"), retry=Retry(total=0), timeout=TIMEOUT_S, method="POST"
        )
        self._known: dict[str, tuple[float, float]] = {}  # value and when it was learned
        self._silent_until_s = 0.0
        self._beginnings: dict[str, _Beginning] = {}

    def instant(self, query: str, at_s: float) -> list[Sample]:
        answer = self._ask(self._client.custom_query, query, params={"time": f"{at_s:.3f}"})
        return [Sample(each["metric"], float(each["value"][1])) for each in answer]

    def over(self, query: str, grid: Grid) -> list[Line]:
        answer = self._ask(
            self._client.custom_query_range,
            query,
            start_time=datetime.fromtimestamp(grid.start_s, UTC),
            end_time=datetime.fromtimestamp(grid.end_s, UTC),
            step=str(grid.step_s),
        )
        return [_line(each) for each in answer]

    def samples(self, selector: str, seconds: float, at_s: float) -> list[Line]:
        """What was scraped, as it was, in the time before `at_s`."""
        query = f"{selector}[{max(1, math.ceil(seconds))}s]"
        answer = self._ask(self._client.custom_query, query, params={"time": f"{at_s:.3f}"})
        return [_line(each) for each in answer]

    def scrape_s(self) -> float:
        """Seconds between two scrapes of a replica, the usual ones where none is known."""
        return self._remembered("scrape_s", self._measure_scrape_s) or USUAL_SCRAPE_S

    def has_rules(self) -> bool:
        """Whether the recording rules are kept here."""

        def look() -> float:
            return float(bool(self.instant(f"group({OFFERED.recorded_as})", self.now_s())))

        return bool(self._remembered("has_rules", look))

    def since_s(self, series: str, window: Window) -> float:
        """When data of `series` begins in the window; its start where that is earlier, or never."""
        known = self._beginnings.get(series)
        now_s = self.now_s()
        if (
            known is None
            or window.start_s < known.looked_from_s
            or now_s - known.learned_s > KEPT_S
        ):
            first_s = first_seen_s(window, lambda grid: self._has_value(series, grid))
            if first_s is None:
                return window.start_s
            known = self._beginnings[series] = _Beginning(window.start_s, first_s, now_s)
        begins_here = window.start_s < known.first_s < window.end_s
        return known.first_s if begins_here else window.start_s

    def _has_value(self, series: str, grid: Grid) -> set[float]:
        return {time_s for line in self.over(f"group({series})", grid) for time_s in line.values}

    def _measure_scrape_s(self) -> float:
        """0 where it is not known yet."""
        lines = self.samples(ENGINES, 300.0, self.now_s())
        gaps = [
            after - before
            for line in lines[:8]
            for before, after in zip(list(line.values)[:-1], list(line.values)[1:], strict=True)
        ]
        return statistics.median(gaps) if gaps else 0.0

    def _remembered(self, what: str, look: Callable[[], float]) -> float:
        """What is 0 may be otherwise in a moment, and is looked for again."""
        value, learned_s = self._known.get(what, (0.0, 0.0))
        now_s = self.now_s()
        if not value or now_s - learned_s > KEPT_S:
            value = look()
            self._known[what] = (value, now_s)
        return value

    def _ask(self, call: Callable[..., Any], query: str, **arguments: Any) -> list[Any]:
        if self.now_s() < self._silent_until_s:
            raise self._away()
        try:
            answer: list[Any] = call(query, **arguments)
        except PrometheusApiClientException as error:
            raise SourceDown(f"Prometheus at {self.url} {_said(error)}") from None
        except requests.Timeout:
            self._silent_until_s = self.now_s() + SILENT_S
            raise self._away() from None
        except (requests.RequestException, ValueError, KeyError, TypeError):
            raise self._away() from None
        if len(answer) > MAX_SERIES:
            raise SourceDown(
                f"Prometheus has {len(answer)} series for this; narrow the models or tiers."
            )
        return answer

    def _away(self) -> SourceDown:
        return SourceDown(
            f"Prometheus at {self.url} does not answer; start it, or correct its address."
        )


def need(samples: Sequence[Any], what: str) -> None:
    """Raises NoData, with the sentence `what`, where there are none."""
    if not samples:
        raise NoData(what)


def _line(each: Mapping[str, Any]) -> Line:
    return Line(each["metric"], {float(time_s): float(value) for time_s, value in each["values"]})


def _said(error: Exception) -> str:
    """What became of the query, and what to do; never the query itself."""
    text = str(error)
    if "HTTP Status Code 5" in text and "too many" not in text:
        return "is starting or overloaded; try again in a moment."
    if "HTTP Status Code 40" in text and "bad_data" not in text:
        return "lets this dashboard not in; correct the user and password in its address."
    for mark in ("too many samples", "timed out", "exceeded maximum resolution"):
        if mark in text:
            return f"refused a query ({mark}); choose a shorter time range or fewer models."
    return "refused a query; its log says why, and its version may be too old."
