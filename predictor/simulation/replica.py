"""One replica of a simulated fleet: the real scheduler on its device, from start to end.

It is created, loads, serves, and one day is told to leave: the Service routes nothing to it any
more, it claims no more lines of jobs, finishes what it holds, and is gone, or is killed with
what it had not finished.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from predictor.core.rows import Outcome, Row
from predictor.simulation.simulator import Arrival, Run, Settlement, Simulator

LEASE_S = 30.0
PACE_S = 1.0  # a replica holds what it ended in so long
PULL_S = 0.1  # and looks so often for more


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a replica goes: seconds from the moment that it is told."""

    unrouted_s: float = 5.0  # until no proxy sends it anything; its preStop sleep covers that
    drains_s: float = 5.0  # the preStop sleep: SIGTERM comes then
    finishes_s: float = 24.0  # from SIGTERM on, lines of jobs may take so long, then go back
    killed_s: float = math.inf  # the notice


@dataclass(slots=True)
class Jobs:
    """Lines of jobs, wherever they are: as the store knows them."""

    waiting: deque[Row] = field(default_factory=deque)
    done: list[Row] = field(default_factory=list)
    lost_leases: list[tuple[float, Row]] = field(default_factory=list)  # with their end
    returned: int = 0

    def claim(self, most: int) -> list[Row]:
        return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    def give_back(self, rows: Sequence[Row]) -> None:
        self.waiting.extendleft(reversed(rows))
        self.returned += len(rows)

    def expire(self, now_s: float) -> None:
        due = [row for end_s, row in self.lost_leases if end_s <= now_s]
        self.lost_leases = [each for each in self.lost_leases if each[0] > now_s]
        self.give_back(due)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one replica exports, as far as scaling goes by it; by tier."""

    pool: str
    replica: str
    depth: Mapping[str, int]
    offered_load: Mapping[str, float]
    offered_work_s: Mapping[str, float]  # counted since it began
    overloaded: bool
    lines_waiting: int


class Replica:
    def __init__(
        self, pool: str, name: str, device: Simulator, ready_s: float, least_held: int = 0
    ) -> None:
        """`least_held`: lines of jobs that it claims at least; 0: none ever."""
        self.pool = pool
        self.name = name
        self.ready_s = ready_s
        self.told_s = math.inf  # when it was told to leave
        self._leaving = Leaving()
        self._device = device
        self._least_held = least_held
        self._held: dict[int, Row] = {}  # lines, by the identity of their row
        self._pace: deque[float] = deque()  # when lines ended, of late
        self._work_s: dict[str, float] = {}

    @property
    def is_leaving(self) -> bool:
        return self.told_s < math.inf

    def is_loaded(self, now_s: float) -> bool:
        return now_s >= self.ready_s

    def is_routed(self, now_s: float) -> bool:
        return self.is_loaded(now_s) and now_s < self.told_s + self._leaving.unrouted_s

    def leave(self, now_s: float, leaving: Leaving) -> None:
        self.told_s, self._leaving = now_s, leaving

    def is_gone(self, now_s: float) -> bool:
        """Left with nothing in hand, or killed."""
        if not self.is_leaving:
            return False
        if not self.is_loaded(self.told_s) or now_s >= self.told_s + self._leaving.killed_s:
            return True
        return now_s >= self._draining_s and self._device.is_idle

    @property
    def _draining_s(self) -> float:
        return self.told_s + max(self._leaving.drains_s, self._leaving.unrouted_s)

    def advance(
        self, arrivals: Sequence[Arrival], from_s: float, until_s: float, jobs: Jobs
    ) -> list[Settlement]:
        """Serve what arrives until then, and lines of jobs beside it; how requests ended."""
        if not self._least_held:
            return self._serve(arrivals, until_s)
        settled: list[Settlement] = []
        arrival, steps = 0, max(round((until_s - from_s) / PULL_S), 1)
        for step in range(steps):
            now_s, end_s = (from_s + (until_s - from_s) * at / steps for at in (step, step + 1))
            self._work_jobs(now_s, jobs)
            begun = arrival
            while arrival < len(arrivals) and arrivals[arrival].time_s < end_s:
                arrival += 1
            ended = self._serve(arrivals[begun:arrival], end_s)
            settled += [each for each in ended if not self._ended_line(each, jobs)]
        return settled

    def _serve(self, arrivals: Sequence[Arrival], until_s: float) -> list[Settlement]:
        run = self._device.simulate(arrivals, until_s)
        self._device.run = Run()
        for tier, work_s in run.offered_work_s.items():
            self._work_s[tier] = self._work_s.get(tier, 0.0) + work_s
        return run.settlements

    def _work_jobs(self, now_s: float, jobs: Jobs) -> None:
        """Claim what there is room for; on the way out, give back what does not end in time."""
        if now_s >= self._draining_s:
            if now_s >= self._draining_s + self._leaving.finishes_s:
                self._return(now_s, jobs)
            return
        while self._pace and self._pace[0] <= now_s - PACE_S:
            self._pace.popleft()
        room = max(len(self._pace), self._least_held) - len(self._held)
        lines = jobs.claim(room) if room > 0 else []
        self._held.update((id(row), row) for row in lines)
        self._device.offer(lines, now_s)

    def _return(self, now_s: float, jobs: Jobs) -> None:
        back = [row for row in self._held.values() if self._device.cancel(row, now_s)]
        for row in back:
            del self._held[id(row)]
        jobs.give_back(back)

    def _ended_line(self, settlement: Settlement, jobs: Jobs) -> bool:
        """Whether it was a line of a job; one that was answered is done for ever."""
        row = self._held.pop(id(settlement.row), None)
        if row is None:
            return settlement.outcome is Outcome.CANCELLED
        jobs.done.append(row)
        self._pace.append(settlement.settled_s)
        return True

    def killed(self, now_s: float, jobs: Jobs) -> int:
        """What it still held: lines wait for their leases to run out. Other rows are lost."""
        jobs.lost_leases += [(now_s + LEASE_S, row) for row in self._held.values()]
        snapshot = self._device.scheduler.snapshot(now_s)
        waiting = sum(queue.depth for queue in snapshot.queues)
        running = sum(batch.size for batch in self._device.scheduler.in_flight)
        lost = waiting + running - len(self._held)
        self._held.clear()
        return lost

    def reading(self, now_s: float, jobs: Jobs) -> Reading:
        """What a scrape of it brings."""
        snapshot = self._device.scheduler.snapshot(now_s)
        return Reading(
            pool=self.pool,
            replica=self.name,
            depth={queue.tier: queue.depth for queue in snapshot.queues},
            offered_load={queue.tier: queue.offered_load for queue in snapshot.queues},
            offered_work_s=dict(self._work_s),
            overloaded=snapshot.overloaded,
            lines_waiting=len(jobs.waiting),
        )
