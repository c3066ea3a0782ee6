"""What all reads share: a rate over the window or over time, by labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard.ports import Filter, Pool, Series, Window
from dashboard.sources import promql
from dashboard.sources.connection import Connection, Labels, Line
from dashboard.sources.promql import Counter, Grid

Key = tuple[str, ...]  # label values, in the order of the labels asked for


@dataclass(frozen=True, slots=True)
class Reading:
    """One question: where, over which time, from which Prometheus."""

    connection: Connection
    window: Window
    where: Filter

    @property
    def covered(self) -> Window:
        """The part of the window in which there is data: over more, a mean would be too low."""
        series = promql.DEVICES_RECORDED if self._may_be_recorded else promql.ENGINES
        return Window(self.connection.since_s(series, self.window), self.window.end_s)

    @property
    def recorded(self) -> bool:
        """Not where rules are younger than a short window: what was scraped is finer."""
        return self._may_be_recorded and self.covered.duration_s >= promql.RECORDED_FROM_S

    @property
    def _may_be_recorded(self) -> bool:
        long = self.window.duration_s >= promql.RECORDED_FROM_S
        return long and self.connection.has_rules()

    def grid(self, points: int = promql.PLOT_POINTS) -> Grid:
        every_s = promql.RECORDED_EVERY_S if self.recorded else self.connection.scrape_s()
        return promql.grid(self.window, every_s, points)

    def rate(self, counter: Counter, by: Sequence[str], *more: str) -> str:
        """Over the whole window, as far as there is data."""
        return promql.rate(
            counter, by, self.where, self.covered.duration_s, *more, recorded=self.recorded
        )

    def moving_rate(self, counter: Counter, by: Sequence[str], grid: Grid, *more: str) -> str:
        """Over one step of a plot, or a few scrapes where steps are shorter."""
        range_s = self._range_s(grid)
        return promql.rate(counter, by, self.where, range_s, *more, recorded=self.recorded)

    def _range_s(self, grid: Grid) -> float:
        return max(grid.step_s, promql.SCRAPES_PER_RATE * self.connection.scrape_s())

    def now(self, query: str, by: Sequence[str]) -> dict[Key, float]:
        """At the end of the window; NaN (nothing over nothing) left out."""
        found = self.connection.instant(query, self.window.end_s)
        return {key_of(s.labels, by): s.value for s in found if not math.isnan(s.value)}

    def rates(self, counter: Counter, by: Sequence[str], *more: str) -> dict[Key, float]:
        return self.now(self.rate(counter, by, *more), by)

    def mean_count(self, query: str, by: Sequence[str]) -> dict[Key, float]:
        """Of a count of what is there, the mean over the window; 0 while nothing is there."""
        return self.now(promql.mean_count_over(query, self.covered.duration_s), by)

    def mean(self, query: str, by: Sequence[str]) -> dict[Key, float]:
        """Of a sum, maximum or mean over what is there, the mean over the time that it is there."""
        return self.now(promql.mean_over(query, self.covered.duration_s), by)

    def lines(self, query: str, by: Sequence[str], grid: Grid) -> dict[Key, Line]:
        found = self.connection.over(query, grid)
        keyed = {key_of(line.labels, by): line for line in found}
        return dict(sorted(keyed.items()))

    def moving_rates(
        self, counter: Counter, by: Sequence[str], grid: Grid, *more: str
    ) -> dict[Key, Line]:
        found = self.lines(self.moving_rate(counter, by, grid, *more), by, grid)
        since_s, range_s = self.covered.start_s, self._range_s(grid)
        if since_s <= self.window.start_s:
            return found
        least_s = self.connection.scrape_s()
        return {key: _since(line, since_s, range_s, least_s) for key, line in found.items()}


def _since(line: Line, since_s: float, range_s: float, least_s: float) -> Line:
    """Rates over `range_s`, of which only the part from `since_s` on had data."""

    def part(time_s: float) -> float:
        return min(max(time_s - since_s, least_s), range_s) / range_s

    values = {time_s: value / part(time_s) for time_s, value in line.values.items()}
    return Line(line.labels, values)


def key_of(labels: Labels, by: Sequence[str]) -> Key:
    return tuple(labels.get(label, "") for label in by)


def pool_of(name: str) -> Pool:
    """From a value of the label `POOL`."""
    return Pool(name) if name in set(Pool) else Pool.UNKNOWN


def series(lines: Mapping[Key, Line], grid: Grid) -> tuple[Series, ...]:
    """Named by their label values, joined with a slash."""
    times_s = grid.times_s
    return tuple(Series(_name(key), times_s, line.on(times_s)) for key, line in lines.items())


def ratios(above: Mapping[Key, Line], below: Mapping[Key, Line], grid: Grid) -> tuple[Series, ...]:
    """NaN where the lower one is 0 or missing."""
    times_s = grid.times_s
    found = []
    for key, line in above.items():
        if key in below:
            pairs = zip(line.on(times_s), below[key].on(times_s), strict=True)
            values = tuple(one / other if other else math.nan for one, other in pairs)
            found.append(Series(_name(key), times_s, values))
    return tuple(found)


def _name(key: Key) -> str:
    return "/".join(part or Pool.UNKNOWN for part in key)
