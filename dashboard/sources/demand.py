"""All that was asked for: under a flood, most of it is refused before anyone looks at it.

An edge refuses for a moment what the engine has just shed the like of, and an engine that is behind
refuses unread. The predictor counts neither as offered, because nobody knows its size. Left out,
overload would look like a small load that comes and goes, because that is what is let through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dashboard.ports import UNREAD_TIER
from dashboard.sources import promql
from dashboard.sources.connection import Line
from dashboard.sources.promql import Grid
from dashboard.sources.reading import Key, Reading
from predictor.core.rows import Outcome

TIER = ("model", "tier")
_MODEL = ("model",)


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests a second, by model and tier. An edge does not tell the tier of what it refuses
    unread, so tiers part that as the engine's refusals were parted."""

    read: Mapping[Key, float]  # as the predictor counts them
    ended: Mapping[Key, float]  # by outcome too
    unread: Mapping[Key, float]  # by model alone
    shares: Mapping[Key, float]  # of what was unread of the model

    def ended_per_s(self, key: Key, *outcomes: Outcome) -> float:
        return sum(self.ended.get((*key, outcome.value), 0.0) for outcome in outcomes)

    def unread_per_s(self, key: Key) -> float:
        return self.unread.get(key[:1], 0.0) * self.shares.get(key, 0.0)

    def unread_of_no_tier_per_s(self, model: str) -> float:
        """Where no engine refused any of the model's tiers, none can be held to have asked."""
        return 0.0 if self._is_parted(model) else self.unread.get((model,), 0.0)

    def _is_parted(self, model: str) -> bool:
        return any(key[0] == model for key in self.shares)

    def offered_per_s(self, key: Key) -> float:
        """What an engine refuses unread has ended, and was not counted when it came."""
        valid = (outcome for outcome in Outcome if outcome is not Outcome.INVALID)
        seen = max(self.read.get(key, 0.0), self.ended_per_s(key, *valid))
        return seen + self.unread_per_s(key)

    def with_unread(
        self, lines: Mapping[Key, Line], reading: Reading, grid: Grid
    ) -> Mapping[Key, Line]:
        """Lines over time, by model and tier, and what was refused unread."""
        if not self.shares:
            return lines
        unread = reading.moving_rates(promql.UNREAD, _MODEL, grid)
        return {
            key: plus(line, unread.get(key[:1]), self.shares.get(key, 0.0))
            for key, line in lines.items()
        }

    def lines_of_no_tier(self, reading: Reading, grid: Grid) -> Mapping[Key, Line]:
        """Over time, by model and `UNREAD_TIER`; without models that have none."""
        if all(self._is_parted(key[0]) for key in self.unread):
            return {}
        found = reading.moving_rates(promql.UNREAD, _MODEL, grid)
        return {
            (*key, UNREAD_TIER): line
            for key, line in found.items()
            if key in self.unread and not self._is_parted(key[0])
        }


def demand(reading: Reading) -> Demand:
    read = reading.rates(promql.OFFERED, TIER)
    # Of all tiers, or those that are asked for would have to bear what was refused of others.
    whole = replace(reading, where=replace(reading.where, tiers=()))
    ended = whole.rates(promql.REQUESTS, (*TIER, "outcome"))
    unread = {key: value for key, value in reading.rates(promql.UNREAD, _MODEL).items() if value}
    shed = {key[:2]: value for key, value in ended.items() if key[2] == Outcome.SHED.value}
    sums: dict[Key, float] = {}
    for key, value in shed.items():
        sums[key[:1]] = sums.get(key[:1], 0.0) + value
    shares = {
        key: value / sums[key[:1]]
        for key, value in shed.items()
        if key[:1] in unread and sums[key[:1]]
    }
    return Demand(read, ended, unread, shares)


def plus(line: Line, other: Line | None, share: float) -> Line:
    """The sum of one and a share of the other, at the instants of the first."""
    if other is None or not share:
        return line
    more = other.values
    values = {at_s: value + share * more.get(at_s, 0.0) for at_s, value in line.values.items()}
    return Line(line.labels, values)
