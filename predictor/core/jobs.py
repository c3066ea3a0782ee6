"""Jobs: work that is to be done some time, and not lost. What an edge asks of whoever keeps it.

A job is a list of lines, each a v2 infer request for the job's model. It becomes `queued` whole
or not at all. Replicas take leases on lines and run them in the tier that the job names. A line
ends once: with an answer, or parked with the error that it kept failing with.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

MAX_LINE_BYTES = 1 << 20
MAX_JOB_LINES = 10_000_000


class JobState(StrEnum):
    RECEIVING = "receiving"  # lines are still coming in; nothing runs yet
    QUEUED = "queued"  # no line has ended yet
    RUNNING = "running"
    DONE = "done"  # every line has ended
    CANCELLED = "cancelled"  # what had not begun never will


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job stands. `total` is the sum of the next four, and of what a cancel cut off."""

    id: str
    model: str
    tier: str
    state: JobState
    total: int
    waiting: int
    leased: int
    done: int
    parked: int
    created_s: float  # Unix time, as the store's clock tells it
    ended_s: float | None = None
    kept_until_s: float | None = None  # results are there until then; known once it has ended
    problem: str | None = None  # why no line begins at the moment, and what to do

    @property
    def progress(self) -> float:
        """Share of the lines that have ended."""
        return (self.done + self.parked) / self.total if self.total else 0.0


class JobStart(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job before its first line."""

    model: str
    tier: str
    owner: str = ""  # who alone may ask for it; empty: anyone who knows its id


class LineRunner(Protocol):
    """What runs a job's lines: the edge, which decodes and tokenises, and the engine behind it."""

    def ready(self, model: str) -> bool:
        """Whether lines of this model would be taken now."""
        ...

    async def run(self, model: str, tier: str, line: bytes) -> bytes:
        """The answer to one v2 infer request, both as JSON.

        Raises as `Engine.submit`: InvalidRequest and RowFailed speak of the line itself, Overloaded
        and its kin (QueueFull, Unavailable) of now.
        """
        ...


class Jobs(Protocol):
    """Where jobs are kept.

    All methods raise Unavailable while the store cannot be reached, and UnknownJob for an id that
    is not known, was forgotten, or is of a job that `owner` does not own (empty: not asked).
    """

    async def submit(self, start: JobStart, lines: AsyncIterator[bytes]) -> JobStatus:
        """Keep the job, a bounded part of it in memory at a time.

        What `lines` raises is raised again, and nothing of the job is queued. Raises
        InvalidRequest where there is no line, or more than MAX_JOB_LINES, RequestTooLarge where the
        store could never hold it, and StoreFull where others are in its way.
        """
        ...

    async def status(self, job_id: str, owner: str = "") -> JobStatus: ...

    def results(self, job_id: str) -> AsyncIterator[bytes]:
        """What has ended so far, in input order, a JSON object a line, without line ends.

        A line that was answered: the v2 answer, with `index` (from 0) added. One that was parked:
        {"index": 6, "error": "..."}. Where the job is unfinished, later lines may be there while
        earlier ones are not yet.
        """
        ...

    async def cancel(self, job_id: str, owner: str = "") -> JobStatus:
        """Have no further line begin. Cancelling again changes nothing, and is no error."""
        ...
