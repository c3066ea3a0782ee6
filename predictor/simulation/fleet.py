"""A fleet in virtual time: replicas with the real policy, a Service before them, what scales them.

Time goes in steps. At each step replicas that have loaded join, those that are done leave,
Prometheus scrapes and the autoscalers decide when it is their time; then what arrives within the
step is spread over the replicas, and each goes on to its end. Nothing else couples replicas, so
within a step each is simulated by itself, request by request.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from predictor.core.rows import Outcome, Row
from predictor.simulation.autoscaler import SYNC_S
from predictor.simulation.keda import Keda, ScaledObject, Trigger
from predictor.simulation.replica import Jobs, Leaving, Reading, Replica
from predictor.simulation.simulator import Arrival, Settlement, Simulator, quantile_of

MINUTE_S = 60.0
Demand = Callable[[float, float], Sequence[Arrival]]  # what arrives from one time to another


class Monitoring(Protocol):
    """What scrapes the fleet, and answers the triggers."""

    def scrape(self, now_s: float, readings: Sequence[Reading]) -> None:
        """All replicas that can be scraped; whoever is missing is gone."""
        ...

    def ask(self, trigger: Trigger, now_s: float) -> float | None:
        """None where the answer is empty."""
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """One workload, and what scales it."""

    name: str
    scaling: ScaledObject
    begins_with: int = 1
    least_held: int = 0  # lines of jobs that a replica claims at least; 0: it works off none


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the cluster."""

    step_s: float = 5.0
    scrape_s: float = 5.0
    start_s: float = 60.0  # from a replica's creation until it serves
    leaving: Leaving = field(default_factory=Leaving)


@dataclass(frozen=True, slots=True)
class Minute:
    """What became of the requests that ended in a minute; p99 is that of answers, NaN without."""

    start_s: float
    answered: int
    in_time: int
    refused: int
    p99_s: float
    serving: int  # replicas, at its end
    wanted: int

    @property
    def offered(self) -> int:
        return self.answered + self.refused


@dataclass(frozen=True, slots=True)
class Change:
    """An autoscaler's decision."""

    time_s: float
    pool: str
    before: int
    after: int


@dataclass(slots=True)
class _Tally:
    latencies_s: list[float] = field(default_factory=list)
    in_time: int = 0
    refused: int = 0


class Fleet:
    def __init__(
        self,
        pools: Sequence[Pool],
        device: Callable[[], Simulator],
        monitoring: Monitoring,
        timing: Timing = Timing(),
        jobs: Jobs | None = None,
        seed: int = 1,
    ) -> None:
        self.timing = timing
        self.jobs = jobs or Jobs()
        self.changes: list[Change] = []
        self.lost = 0  # rows that a kill took, lines of jobs aside
        self.replicas: list[Replica] = []
        self.now_s = 0.0
        self._device = device
        self._random = random.Random(seed)
        self._monitoring = monitoring
        self._tally = _Tally()
        self._pools = list(pools)
        self._wanted = {pool.name: pool.begins_with for pool in pools}
        self._scalers = {pool.name: Keda(pool.scaling, self._ask) for pool in pools}
        self._made = 0
        for pool in pools:
            self._make(pool, pool.begins_with, ready_s=0.0)

    def run(self, demand: Demand, until_s: float) -> Iterator[Minute]:
        """Go on until then, and tell each minute when it is over."""
        step_s = self.timing.step_s
        while self.now_s < until_s:
            self._events()
            self._step(demand(self.now_s, self.now_s + step_s))
            self.now_s += step_s
            if _is_due(self.now_s, MINUTE_S, step_s):
                yield self._minute()

    def reclaim(self, pool: str, count: int, leaving: Leaving) -> None:
        """The cloud takes replicas back; their workload makes new ones at once."""
        there = [each for each in self._of(pool) if each.is_loaded(self.now_s)]
        for replica in self._random.sample(there, count):
            replica.leave(self.now_s, leaving)

    @property
    def serving(self) -> int:
        return sum(replica.is_routed(self.now_s) for replica in self.replicas)

    @property
    def wanted(self) -> int:
        return sum(self._wanted.values())

    def _events(self) -> None:
        now_s, timing = self.now_s, self.timing
        self.jobs.expire(now_s)
        for replica in [each for each in self.replicas if each.is_gone(now_s)]:
            self.lost += replica.killed(now_s, self.jobs)
            self.replicas.remove(replica)
        if _is_due(now_s, timing.scrape_s, timing.step_s):
            loaded = [each for each in self.replicas if each.is_loaded(now_s)]
            self._monitoring.scrape(now_s, [each.reading(now_s, self.jobs) for each in loaded])
        for pool in self._pools:
            scaler = self._scalers[pool.name]
            if _is_due(now_s, pool.scaling.polling_s, timing.step_s):
                self._want(pool, scaler.poll(now_s, self._wanted[pool.name]))
            if _is_due(now_s, SYNC_S, timing.step_s):
                self._want(pool, scaler.sync(now_s, self._wanted[pool.name]))
            self._reconcile(pool)

    def _want(self, pool: Pool, wanted: int) -> None:
        before = self._wanted[pool.name]
        if wanted != before:
            self._wanted[pool.name] = wanted
            self.changes.append(Change(self.now_s, pool.name, before, wanted))

    def _reconcile(self, pool: Pool) -> None:
        """As a Deployment does: what is missing is made; of too many, the newest go first."""
        there, wanted = self._of(pool.name), self._wanted[pool.name]
        self._make(pool, wanted - len(there), self.now_s + self.timing.start_s)
        for replica in sorted(there, key=lambda replica: replica.ready_s)[wanted:]:
            replica.leave(self.now_s, self.timing.leaving)

    def _of(self, pool: str) -> list[Replica]:
        return [each for each in self.replicas if each.pool == pool and not each.is_leaving]

    def _make(self, pool: Pool, count: int, ready_s: float) -> None:
        for _ in range(count):
            self._made += 1
            name = f"{pool.name}-{self._made}"
            self.replicas.append(Replica(pool.name, name, self._device(), ready_s, pool.least_held))

    def _step(self, arrivals: Sequence[Arrival]) -> None:
        until_s = self.now_s + self.timing.step_s
        routed = [each for each in self.replicas if each.is_routed(self.now_s)]
        parts: dict[Replica, list[Arrival]] = {replica: [] for replica in self.replicas}
        if not routed:
            self._tally.refused += len(arrivals)
        for arrival in arrivals if routed else ():
            parts[self._random.choice(routed)].append(arrival)
        for replica, part in parts.items():
            if replica.is_loaded(self.now_s):
                self._count(replica.advance(part, self.now_s, until_s, self.jobs))

    def _count(self, settlements: Iterable[Settlement]) -> None:
        for each in settlements:
            if each.outcome is Outcome.OK:
                self._tally.latencies_s.append(each.latency_s)
                self._tally.in_time += each.in_time
            else:
                self._tally.refused += 1

    def _minute(self) -> Minute:
        tally, self._tally = self._tally, _Tally()
        return Minute(
            start_s=self.now_s - MINUTE_S,
            answered=len(tally.latencies_s),
            in_time=tally.in_time,
            refused=tally.refused,
            p99_s=quantile_of(tally.latencies_s, 0.99),
            serving=self.serving,
            wanted=self.wanted,
        )

    def _ask(self, trigger: Trigger) -> float | None:
        return self._monitoring.ask(trigger, self.now_s)


def _is_due(time_s: float, every_s: float, step_s: float) -> bool:
    """Whether it is the first step at or after a multiple of `every_s`."""
    return time_s >= 0 and time_s % every_s < step_s


def lines(tokens: Iterable[int], model: str, tier: str) -> deque[Row]:
    """Lines of a job, as rows that wait."""
    return deque(Row(model, tier, length, 0.0) for length in tokens)
