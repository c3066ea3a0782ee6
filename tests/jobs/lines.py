"""What runs lines in place of an edge and an engine, and workers to go with it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from predictor.core.facts import JobsSeen
from predictor.core.jobs import JobState, JobStatus
from predictor.jobs.connection import Connection
from predictor.jobs.store import RedisJobs
from predictor.jobs.worker import Worker
from tests.jobs.jobs import MODEL

NEVER_S = 3600.0
Fault = Callable[[int, int], Exception | None]  # of the line, at its nth run


class Lines:
    """Answers `{"line": n}` with `{"was": {"line": n}}`, unless `fault` says otherwise."""

    def __init__(self, fault: Fault = lambda line, run: None) -> None:
        self.runs: Counter[int] = Counter()
        self.most_at_once = 0
        self.is_ready = True
        self._fault = fault
        self._at_once = 0
        self._open = asyncio.Event()
        self._open.set()
        self._begun = asyncio.Event()

    def hold(self) -> None:
        """From now on no line ends until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def begun(self) -> None:
        """Wait until a line runs."""
        await self._begun.wait()

    def ready(self, model: str) -> bool:
        return self.is_ready

    async def run(self, model: str, tier: str, line: bytes) -> bytes:
        number = msgspec.json.decode(line)["line"]
        self.runs[number] += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self._begun.set()
        try:
            await self._open.wait()
            await asyncio.sleep(0)
        finally:
            self._at_once -= 1
        if fault := self._fault(number, self.runs[number]):
            raise fault
        return b'{"was":%b}' % line


class Replica:
    """A worker at work, and what it told of the jobs."""

    def __init__(self, connection: Connection, lines: Lines, **options: Any) -> None:
        self.lines = lines
        self.seen: list[JobsSeen] = []
        self._told = asyncio.Event()
        options = {"least_held": 16, "beat_s": NEVER_S, "lease_s": 10.0} | options
        self.worker = Worker(connection, lines, [MODEL], seen=self._tell, **options)
        self.work = asyncio.create_task(self.worker.run())

    def _tell(self, seen: JobsSeen) -> None:
        self.seen.append(seen)
        self._told.set()

    async def sees(self, expected: Callable[[JobsSeen], bool]) -> None:
        """Wait until what it was told last is so."""
        while not (self.seen and expected(self.seen[-1])):
            self._told.clear()
            await self._told.wait()

    async def die(self) -> None:
        """Without a word, as by kill -9."""
        self.work.cancel()
        with suppress(asyncio.CancelledError):
            await self.work


@asynccontextmanager
async def working(
    connection: Connection, lines: Lines | None = None, **options: Any
) -> AsyncIterator[Replica]:
    replica = Replica(connection, lines or Lines(), **options)
    try:
        yield replica
    finally:
        await replica.die()


async def ended(jobs: RedisJobs, job_id: str) -> JobStatus:
    """Ask until the job is done: each time the store is asked, it had time to get on."""
    while (status := await jobs.status(job_id)).state is not JobState.DONE:
        pass
    return status
