"""Jobs in Redis: submit, status, results, cancel.

A job's lines wait in a list, in input order, and cost about 5 bytes each beside their own. Only a
line that was begun has entries of its own; see leases.py. Its result goes into a hash, with about
85 bytes beside it, and its text is dropped. So a million lines of 134 bytes take 139 MB before they
run, and with answers of 147 bytes 229 MB after. Chunks on their way in and pages on their way out
are about a megabyte, whatever the size of the job.

Whether a job fits is reckoned from that while it is sent (room.py).

Lines are staged under keys that expire, and one step at the end queues the job. A submission that
fails, or whose process dies, leaves nothing behind. After the job's end all of its keys expire
together.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from predictor.core.errors import InvalidRequest, QueueFull, Unavailable, UnknownJob
from predictor.core.jobs import MAX_JOB_LINES, JobStart, JobState, JobStatus
from predictor.jobs.connection import Connection
from predictor.jobs.refusals import Refusal, refusal_in
from predictor.jobs.room import Room

KEEP_S = 24 * 3600.0
MAX_WAITING_JOBS = 1000  # of one model
CHUNK_LINES = 1000
CHUNK_BYTES = 1 << 20
STAGED_S = 600.0  # the next chunk, or the end, must come within
PAGE_LINES = 1000
PAGE_BYTES = 1 << 20

_ID = re.compile(r"[0-9a-f]{24}")


class RedisJobs:
    """The `Jobs` port. Several processes may have one each, on the same Redis."""

    def __init__(
        self, connection: Connection, *, keep_s: float = KEEP_S, staged_s: float = STAGED_S
    ) -> None:
        """`keep_s`: how long results are kept after the job's end."""
        self._connection = connection
        self._keep_ms = round(keep_s * 1000)
        self._staged_ms = round(staged_s * 1000)

    async def submit(self, start: JobStart, lines: AsyncIterator[bytes]) -> JobStatus:
        """As `Jobs.submit`. Raises QueueFull where MAX_WAITING_JOBS of the model wait already."""
        job_id = secrets.token_hex(12)
        told = await self._connection.run(
            *("begin", job_id, start.model, start.tier, start.owner),
            *(self._keep_ms, self._staged_ms, MAX_WAITING_JOBS),
        )
        if not told:
            raise QueueFull(
                f"{MAX_WAITING_JOBS} jobs of model {start.model} wait already; try again later",
                retry_after_s=60,
            )
        try:
            return await self._receive(job_id, lines, Room.of(told))
        except BaseException:
            with suppress(Unavailable):  # then it expires
                await asyncio.shield(self._connection.run("discard", job_id))
            raise

    async def _receive(self, job_id: str, lines: AsyncIterator[bytes], room: Room) -> JobStatus:
        total = size = all_bytes = 0
        chunk: list[bytes] = []
        async for line in lines:
            if total + len(chunk) == MAX_JOB_LINES:
                raise InvalidRequest(f"a job has at most {MAX_JOB_LINES} lines; split it")
            chunk.append(line)
            size += len(line)
            all_bytes += len(line)
            if len(chunk) == CHUNK_LINES or size >= CHUNK_BYTES:
                room.check(total + len(chunk), all_bytes)
                await self._stage(job_id, total, chunk)
                total += len(chunk)
                size = 0
                chunk.clear()
        if chunk:
            room.check(total + len(chunk), all_bytes)
            await self._stage(job_id, total, chunk)
            total += len(chunk)
        if not total:
            raise InvalidRequest("the job has no line; send one infer request a line")
        status = await self._connection.run("commit", job_id, total, room.growth(total, all_bytes))
        if status is None:
            raise self._lapsed()
        return _status(job_id, status)

    async def _stage(self, job_id: str, before: int, chunk: Sequence[bytes]) -> None:
        if not await self._connection.run("stage", job_id, before, self._staged_ms, *chunk):
            raise self._lapsed()

    def _lapsed(self) -> Unavailable:
        return Unavailable(
            "what was sent of the job is gone, because Redis was restarted or"
            f" {self._staged_ms / 1000:g} s went by without new lines; send the job again"
        )

    async def status(self, job_id: str, owner: str = "") -> JobStatus:
        return await self._told("status", job_id, owner)

    async def cancel(self, job_id: str, owner: str = "") -> JobStatus:
        return await self._told("cancel", job_id, owner)

    async def _told(self, script: str, job_id: str, owner: str) -> JobStatus:
        fields = await self._connection.run(script, _known(job_id), owner)
        if fields is None:
            raise _unknown(job_id)
        return _status(job_id, fields)

    async def results(self, job_id: str) -> AsyncIterator[bytes]:
        """As `Jobs.results`. What ends while it is read is there, if its turn is yet to come."""
        following: int | None = 0
        while following is not None:
            page = await self._connection.run(
                "results", _known(job_id), following, PAGE_LINES, PAGE_BYTES
            )
            if not page:
                raise _unknown(job_id)
            following, *entries = page
            for index, result in zip(entries[::2], entries[1::2], strict=True):
                yield _with_index(index, result)


def _text(told: bytes | int) -> str:
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def _with_index(index: int, result: bytes) -> bytes:
    """A result is kept as JSON: an object is the answer, a string why the line was parked."""
    if result.startswith(b"{"):
        rest = result[1:]
        return b'{"index":%d%b%b' % (index, b"" if rest.lstrip() == b"}" else b",", rest)
    return b'{"index":%d,"error":%b}' % (index, result)


def _known(job_id: str) -> str:
    """An id comes from outside and becomes part of a key."""
    if not _ID.fullmatch(job_id):
        raise _unknown(job_id)
    return job_id


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"no job {job_id[:40]} is kept: see the id, and for how long results are")


def _status(job_id: str, fields: Sequence[bytes | int | None]) -> JobStatus:
    """From what status_of in scripts/common.lua returns."""
    model, tier, kept_state = (bytes(name).decode() for name in fields[:3] if name)
    total, done, parked, created_ms, ended_ms, kept_until_ms, waiting, leased = (
        None if number is None else int(number) for number in fields[3:11]
    )
    refused = fields[11] if len(fields) > 11 else None  # by status.lua alone
    state = JobState(kept_state)
    if state is JobState.QUEUED and (done or parked):
        state = JobState.RUNNING
    return JobStatus(
        id=job_id,
        model=model,
        tier=tier,
        state=state,
        total=total or 0,
        waiting=waiting or 0,
        leased=leased or 0,
        done=done or 0,
        parked=parked or 0,
        created_s=(created_ms or 0) / 1000,
        ended_s=None if ended_ms is None else ended_ms / 1000,
        kept_until_s=None if kept_until_ms is None else kept_until_ms / 1000,
        problem=None if refused is None else (refusal_in(_text(refused)) or Refusal.AWAY).value,
    )
