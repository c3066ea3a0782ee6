"""Whatever several workers do, and whenever they stop, each line ends once and is counted once.

A state machine that Hypothesis drives against a real Redis. It keeps its own books of each line
and of each lease, and compares them with what the store says after every step. Workers speak of
any lease that they ever had: a late word is the rule here, not the exception.
"""

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from predictor.core.jobs import JobState
from predictor.jobs.connection import Connection
from predictor.jobs.leases import MOST_ATTEMPTS, Ending, Lease, Leases, Settlement
from predictor.jobs.store import RedisJobs
from tests.jobs.conftest import Clock
from tests.jobs.jobs import MODEL, START, numbered, results
from tests.jobs.redis_process import RedisProcess

LEASE_MS = 100
_prefixes = itertools.count()


@dataclass
class Line:
    """As it should be. `state`: fresh, again, leased, done, parked or cut."""

    state: str = "fresh"
    failures: int = 0
    result: Any = None


@dataclass
class Job:
    lines: list[Line]
    cancelled: bool = False

    def count(self, *states: str) -> int:
        return sum(line.state in states for line in self.lines)


@dataclass
class Books:
    jobs: dict[str, Job] = field(default_factory=dict)  # in the order of submission
    in_force: dict[tuple[str, int, int], int] = field(default_factory=dict)  # lease: its end

    def waiting(self) -> list[tuple[str, int]]:
        """In the order in which they are to be claimed."""
        return [
            (job_id, index)
            for job_id, job in self.jobs.items()
            for state in ("again", "fresh")
            for index, line in enumerate(job.lines)
            if line.state == state
        ]

    def without_answer(self, job_id: str, index: int, ending: Ending) -> None:
        job = self.jobs[job_id]
        line = job.lines[index]
        if line.state != "leased":
            return
        line.failures += ending is Ending.FAILED
        if job.cancelled:
            line.state = "cut"
        elif ending is Ending.REFUSED or line.failures == MOST_ATTEMPTS:
            line.state = "parked"
        else:
            line.state = "again"


class LeaseMachine(RuleBasedStateMachine):
    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.books = Books()
        self.given: list[Lease] = []
        self.loop = asyncio.Runner()
        self.connection = Connection(self.url, f"machine{next(_prefixes)}:", self.clock)
        self.jobs = RedisJobs(self.connection)
        self.leases = Leases(self.connection, LEASE_MS / 1000)

    def teardown(self) -> None:
        self.loop.run(self.connection.close())
        self.loop.close()

    @rule(lines=st.integers(1, 6))
    def submit(self, lines: int) -> None:
        job = self.loop.run(self.jobs.submit(START, numbered(lines)))
        self.books.jobs[job.id] = Job([Line() for _ in range(lines)])

    @rule(lines=st.integers(1, 8))
    def claim(self, lines: int) -> None:
        claim = self.loop.run(self.leases.claim(MODEL, lines))
        for (job_id, index, token), end_ms in list(self.books.in_force.items()):
            if end_ms <= self.clock.ms:
                del self.books.in_force[job_id, index, token]
                self.books.without_answer(job_id, index, Ending.FAILED)
        expected = self.books.waiting()[:lines]
        assert [(lease.job_id, lease.index) for lease in claim.leases] == expected
        for lease in claim.leases:
            line = self.books.jobs[lease.job_id].lines[lease.index]
            assert (lease.failures, lease.tier) == (line.failures, START.tier)
            assert lease.line == b'{"line":%d}' % lease.index
            line.state = "leased"
            self.books.in_force[lease.job_id, lease.index, lease.token] = self.clock.ms + LEASE_MS
        self.given += claim.leases
        ends_ms = self.books.in_force.values()
        assert claim.expiry_s == (min(ends_ms) - self.clock.ms) / 1000 if ends_ms else True

    @precondition(lambda self: self.given)
    @rule(data=st.data(), ending=st.sampled_from(Ending), twice=st.booleans())
    def settle(self, data: st.DataObject, ending: Ending, twice: bool) -> None:
        lease = data.draw(st.sampled_from(self.given))
        result = b'{"token":%d}' % lease.token if ending is Ending.ANSWERED else b'"it broke"'
        settlements = [Settlement(lease, ending, result)] * (1 + twice)
        answered = self.loop.run(self.leases.settle(MODEL, settlements))
        in_force = self.books.in_force.pop((lease.job_id, lease.index, lease.token), None)
        line = self.books.jobs[lease.job_id].lines[lease.index]
        if ending is Ending.ANSWERED:
            ends = line.state in ("again", "leased")
            assert answered == ends
            if ends:
                line.state, line.result = "done", lease.token
        else:
            assert answered == 0
            if in_force is not None:
                self.books.without_answer(lease.job_id, lease.index, ending)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.given))
        name = (lease.job_id, lease.index, lease.token)
        renewed = self.loop.run(self.leases.renew(MODEL, [lease]))
        assert renewed == (name in self.books.in_force)
        if renewed:
            self.books.in_force[name] = self.clock.ms + LEASE_MS

    @rule(ms=st.sampled_from([1, LEASE_MS // 2, LEASE_MS]))
    def time_passes(self, ms: int) -> None:
        self.clock.ms += ms

    @precondition(lambda self: self.books.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.books.jobs)))
        self.loop.run(self.jobs.cancel(job_id))
        job = self.books.jobs[job_id]
        if job.count("fresh", "again", "leased"):
            job.cancelled = True
        for line in job.lines:
            if line.state in ("fresh", "again"):
                line.state = "cut"

    @invariant()
    def the_store_agrees_with_the_books(self) -> None:
        for job_id, job in self.books.jobs.items():
            status = self.loop.run(self.jobs.status(job_id))
            assert (status.waiting, status.leased, status.done, status.parked) == (
                job.count("fresh", "again"),
                job.count("leased"),
                job.count("done"),
                job.count("parked"),
            )
            assert status.total == len(job.lines)
            ended = job.count("done", "parked")
            assert status.state == (
                JobState.CANCELLED
                if job.cancelled
                else JobState.DONE
                if ended == status.total
                else JobState.RUNNING
                if ended
                else JobState.QUEUED
            )
            assert self.loop.run(results(self.jobs, job_id)) == [
                {"index": index, "token": line.result}
                if line.state == "done"
                else {"index": index, "error": _any_error(line)}
                for index, line in enumerate(job.lines)
                if line.state in ("done", "parked")
            ]

    @invariant()
    def the_sums_of_the_model_agree(self) -> None:
        seen = self.loop.run(self.leases.beat(MODEL, "a", 10))
        expired = sum(end_ms <= self.clock.ms for end_ms in self.books.in_force.values())
        assert seen.waiting == len(self.books.waiting()) + expired
        assert seen.leased == len(self.books.in_force) - expired
        assert seen.parked == sum(job.count("parked") for job in self.books.jobs.values())


class _AnyError:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and ("it broke" in other or "replica" in other)

    def __hash__(self) -> int:
        return 0


def _any_error(line: Line) -> _AnyError:
    assert line.result is None
    return _AnyError()


def test_each_line_ends_once_whatever_workers_do(redis: RedisProcess) -> None:
    LeaseMachine.url = redis.url
    run_state_machine_as_test(
        LeaseMachine,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
    )
