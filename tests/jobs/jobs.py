"""Short ways to make jobs and to run their lines."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from predictor.core.jobs import JobStart
from predictor.jobs.leases import Ending, Lease, Settlement
from predictor.jobs.store import RedisJobs

MODEL = "sums"
START = JobStart(model=MODEL, tier="bulk")


async def each(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


def numbered(count: int) -> AsyncIterator[bytes]:
    return each(b'{"line":%d}' % number for number in range(count))


def answer(lease: Lease) -> Settlement:
    return Settlement(lease, Ending.ANSWERED, b'{"was":%b}' % lease.line)


def failure(lease: Lease, ending: Ending = Ending.FAILED) -> Settlement:
    return Settlement(lease, ending, b'"it broke"')


def back(lease: Lease) -> Settlement:
    return Settlement(lease, Ending.RETURNED)


async def results(jobs: RedisJobs, job_id: str) -> list[Any]:
    return [msgspec.json.decode(line) async for line in jobs.results(job_id)]


def answered(*indices: int) -> list[Any]:
    return [{"index": index, "was": {"line": index}} for index in indices]
