"""Jobs kept in memory, behind the port that the real store has."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from predictor.core.errors import HeadwayError, InvalidRequest, UnknownJob
from predictor.core.jobs import JobStart, JobState, JobStatus, LineRunner


@dataclass
class Kept:
    status: JobStatus
    lines: list[bytes]
    results: dict[int, bytes] = field(default_factory=dict)
    owner: str = ""


class FakeJobs:
    """`down` fails every call; `cut_after` breaks off results after so many."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.down: HeadwayError | None = None
        self.cut_after: int | None = None

    async def submit(self, start: JobStart, lines: AsyncIterator[bytes]) -> JobStatus:
        self._check()
        taken = [line async for line in lines]
        if not taken:
            raise InvalidRequest("body: no line; send one request a line")
        status = JobStatus(
            id=f"job-{len(self.kept)}",
            model=start.model,
            tier=start.tier,
            state=JobState.QUEUED,
            total=len(taken),
            waiting=len(taken),
            leased=0,
            done=0,
            parked=0,
            created_s=1_700_000_000.0,
        )
        self.kept[status.id] = Kept(status, taken, owner=start.owner)
        return status

    async def status(self, job_id: str, owner: str = "") -> JobStatus:
        return self._job(job_id, owner).status

    async def results(self, job_id: str) -> AsyncIterator[bytes]:
        job = self._job(job_id)
        for place, index in enumerate(sorted(job.results)):
            if place == self.cut_after:
                self._check()
            yield job.results[index]

    async def cancel(self, job_id: str, owner: str = "") -> JobStatus:
        job = self._job(job_id, owner)
        job.status = msgspec.structs.replace(job.status, state=JobState.CANCELLED, waiting=0)
        return job.status

    async def work(self, job_id: str, runner: LineRunner, *indices: int) -> None:
        """Run these lines, as a worker does."""
        job = self._job(job_id)
        for index in indices:
            status = job.status
            try:
                answer = await runner.run(status.model, status.tier, job.lines[index])
                result = {"index": index, **json.loads(answer)}
                done, parked = status.done + 1, status.parked
            except HeadwayError as error:
                result = {"index": index, "error": error.message}
                done, parked = status.done, status.parked + 1
            job.results[index] = json.dumps(result).encode()
            ended = done + parked == status.total
            job.status = msgspec.structs.replace(
                status,
                state=JobState.DONE if ended else JobState.RUNNING,
                waiting=status.waiting - 1,
                done=done,
                parked=parked,
            )

    def _check(self) -> None:
        if self.down is not None:
            raise self.down

    def _job(self, job_id: str, owner: str = "") -> Kept:
        if self.cut_after is None:
            self._check()
        if job_id not in self.kept or owner not in ("", self.kept[job_id].owner):
            raise UnknownJob(f"job {job_id} is unknown, or its results were kept long enough")
        return self.kept[job_id]
