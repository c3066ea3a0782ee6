"""A day of traffic, and whether a fleet got through it.

The rate follows the sun, from a trough in the night to a peak in the afternoon. On top come bursts,
which no clock foretells: each rises within a minute or so, stays for some minutes and ebbs away.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from predictor.simulation.fleet import Change, Minute
from predictor.simulation.simulator import Arrival
from predictor.simulation.traffic import poisson_times

DAY_S = 86_400.0
TROUGH_S = 4 * 3600.0
FLAP_S = 600.0
SHARPNESS = 1.5  # above 1: the night is longer than the busy hours


@dataclass(frozen=True, slots=True)
class Burst:
    at_s: float
    height: float  # 0.5: half as much again
    rise_s: float
    hold_s: float
    fall_s: float

    def factor(self, time_s: float) -> float:
        since_s = time_s - self.at_s
        if since_s < 0:
            return 0.0
        if since_s < self.rise_s:
            return self.height * since_s / self.rise_s
        falling_s = since_s - self.rise_s - self.hold_s
        return self.height * min(max(1.0 - falling_s / self.fall_s, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Requests a second over the day, in the rates of its trough and its peak."""

    trough: float
    peak: float
    bursts: Sequence[Burst] = ()

    def rate(self, time_s: float) -> float:
        turn = (1.0 - math.cos(2.0 * math.pi * (time_s - TROUGH_S) / DAY_S)) / 2.0
        sun = self.trough + (self.peak - self.trough) * math.pow(turn, SHARPNESS)
        return sun * (1.0 + max((each.factor(time_s) for each in self.bursts), default=0.0))


def bursts(
    seed: int,
    count: int = 20,
    heights: tuple[float, float] = (0.2, 0.8),
    rises_s: tuple[float, float] = (10.0, 120.0),
) -> list[Burst]:
    """At random times of the day; uniform in height and in length."""
    rng = random.Random(seed)
    return sorted(
        (
            Burst(
                at_s=rng.uniform(0.0, DAY_S),
                height=rng.uniform(*heights),
                rise_s=rng.uniform(*rises_s),
                hold_s=rng.uniform(180.0, 900.0),
                fall_s=rng.uniform(60.0, 300.0),
            )
            for _ in range(count)
        ),
        key=lambda burst: burst.at_s,
    )


class Arrivals:
    """Poisson arrivals at a rhythm's rate, from `begins_s` in the day on. Seeded."""

    def __init__(
        self,
        rhythm: Rhythm,
        lengths: Iterator[int],
        seed: int,
        begins_s: float = 0.0,
        model: str = "model",
    ) -> None:
        self._rhythm = rhythm
        self._lengths = lengths
        self._random = random.Random(seed)
        self._begins_s = begins_s
        self._model = model

    def __call__(self, from_s: float, to_s: float) -> list[Arrival]:
        """With one rate for all of the step, that of its middle."""
        rate = self._rhythm.rate(self._begins_s + (from_s + to_s) / 2.0)
        return [
            Arrival(from_s + time_s, next(self._lengths), self._model)
            for time_s in poisson_times(rate, to_s - from_s, self._random)
        ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all minutes with requests: shares of those in which ..."""

    answers_in_time: float  # p99 of the answers was within the SLO
    all_in_time: float  # 99% of all requests were answered within it, refused ones counted as late
    refused: float  # of all requests
    least_serving: int
    most_wanted: int
    most_reversals: int  # of scaling, in any ten minutes
    reversals: int
    replica_hours: float

    @property
    def flaps(self) -> bool:
        return self.most_reversals > 1


def verdict(minutes: Sequence[Minute], changes: Sequence[Change], slo_s: float) -> Verdict:
    busy = [each for each in minutes if each.offered]
    turns = reversals(changes)
    return Verdict(
        answers_in_time=sum(each.p99_s <= slo_s for each in busy) / len(busy),
        all_in_time=sum(each.in_time >= 0.99 * each.offered for each in busy) / len(busy),
        refused=sum(each.refused for each in busy) / sum(each.offered for each in busy),
        least_serving=min(each.serving for each in minutes),
        most_wanted=max(each.wanted for each in minutes),
        most_reversals=max((_within(turns, time_s) for time_s in turns), default=0),
        reversals=len(turns),
        replica_hours=sum(each.wanted for each in minutes) / 60.0,
    )


def reversals(changes: Sequence[Change]) -> list[float]:
    """When a pool's scaling turned from up to down or back."""
    turns = []
    last: dict[str, bool] = {}
    for change in changes:
        grows = change.after > change.before
        if last.get(change.pool, grows) is not grows:
            turns.append(change.time_s)
        last[change.pool] = grows
    return turns


def _within(turns: Sequence[float], since_s: float) -> int:
    return sum(since_s <= time_s < since_s + FLAP_S for time_s in turns)
