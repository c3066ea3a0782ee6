"""Jobs as an edge sees them, in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from predictor.core.errors import InvalidRequest, QueueFull, StartupError, Unavailable, UnknownJob
from predictor.core.jobs import JobStart, JobState, JobStatus
from predictor.jobs import store
from predictor.jobs.connection import Connection
from predictor.jobs.leases import Ending, Leases
from predictor.jobs.store import RedisJobs
from tests.jobs.conftest import Clock
from tests.jobs.jobs import MODEL, START, answer, answered, each, failure, numbered, results
from tests.jobs.redis_process import RedisProcess

UNKNOWN = "0123456789abcdef01234567"


@pytest.fixture
def jobs(connection: Connection) -> RedisJobs:
    return RedisJobs(connection)


@pytest.fixture
def leases(connection: Connection) -> Leases:
    return Leases(connection, lease_s=10)


def keys(redis: RedisProcess, connection: Connection) -> set[str]:
    with redis.client() as client:
        return {key.decode() for key in client.keys(f"{connection.prefix}job:*")}


async def test_a_job_runs_from_submit_to_its_results(
    jobs: RedisJobs, leases: Leases, clock: Clock
) -> None:
    job = await jobs.submit(START, numbered(5))
    assert job == JobStatus(
        id=job.id,
        model=MODEL,
        tier="bulk",
        state=JobState.QUEUED,
        total=5,
        waiting=5,
        leased=0,
        done=0,
        parked=0,
        created_s=1000.0,
    )
    claimed = (await leases.claim(MODEL, 3)).leases
    assert [lease.line for lease in claimed] == [b'{"line":0}', b'{"line":1}', b'{"line":2}']
    assert (await jobs.status(job.id)).leased == 3
    assert await leases.settle(MODEL, [answer(claimed[2]), answer(claimed[0])]) == 2
    assert (await jobs.status(job.id)).state is JobState.RUNNING
    assert await results(jobs, job.id) == answered(0, 2)  # what is ready, in input order
    rest = (await leases.claim(MODEL, 100)).leases
    await leases.settle(MODEL, [failure(claimed[1], Ending.REFUSED), *map(answer, rest)])
    done = await jobs.status(job.id)
    assert (done.state, done.done, done.parked, done.waiting, done.leased) == ("done", 4, 1, 0, 0)
    assert done.ended_s == 1000.0
    assert done.kept_until_s == 1000.0 + store.KEEP_S
    parked = {"index": 1, "error": "it broke"}
    assert await results(jobs, job.id) == [*answered(0), parked, *answered(2, 3, 4)]


async def test_a_broken_line_leaves_nothing_behind(
    jobs: RedisJobs, redis: RedisProcess, connection: Connection, leases: Leases
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for line in numbered(2 * store.CHUNK_LINES + 6):
            yield line
        raise InvalidRequest("line 2007: not JSON")

    with pytest.raises(InvalidRequest, match="line 2007"):
        await jobs.submit(START, broken())
    assert keys(redis, connection) == set()
    assert not (await leases.claim(MODEL, 1)).leases


async def test_a_job_whose_submission_dies_expires_and_never_runs(
    redis: RedisProcess, connection: Connection, leases: Leases
) -> None:
    jobs = RedisJobs(connection, staged_s=1000)
    staged, never = asyncio.Event(), asyncio.Event()

    async def dying() -> AsyncIterator[bytes]:
        async for line in numbered(store.CHUNK_LINES):
            yield line
        staged.set()
        await never.wait()

    submission = asyncio.create_task(jobs.submit(START, dying()))
    await staged.wait()
    (job_id,) = {key.split(":")[2] for key in keys(redis, connection)}
    assert (await jobs.status(job_id)).state is JobState.RECEIVING
    with redis.client() as client:
        for key in keys(redis, connection):
            assert 0 < client.pttl(key) <= 1_000_000
    assert not (await leases.claim(MODEL, 1)).leases
    submission.cancel()
    with suppress(asyncio.CancelledError):
        await submission
    assert keys(redis, connection) == set()


async def test_a_submission_whose_staged_lines_are_gone_is_refused(
    redis: RedisProcess, connection: Connection, jobs: RedisJobs
) -> None:
    async def interrupted() -> AsyncIterator[bytes]:
        async for line in numbered(store.CHUNK_LINES + 1):
            yield line
        with redis.client() as client:
            client.delete(*keys(redis, connection))

    with pytest.raises(Unavailable, match="send the job again"):
        await jobs.submit(START, interrupted())


async def test_a_job_is_never_held_whole_in_memory(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are made as they are asked for: none beyond a chunk before the last is kept."""
    made = kept = most = 0
    run = connection.run

    async def counting(script: str, *arguments: str | bytes | int) -> object:
        nonlocal kept
        answered = await run(script, *arguments)
        kept += len(arguments) - 3 if script == "stage" else 0
        return answered

    async def lazy() -> AsyncIterator[bytes]:
        nonlocal made, most
        for _ in range(20_000):
            made += 1
            most = max(most, made - kept)
            yield b"{}"
        for _ in range(20):
            made += 1
            most = max(most, made - kept)
            yield b" " * (store.CHUNK_BYTES // 4)

    monkeypatch.setattr(connection, "run", counting)
    job = await RedisJobs(connection).submit(START, lazy())
    assert job.total == 20_020
    assert most <= store.CHUNK_LINES


async def test_results_are_read_page_by_page(
    jobs: RedisJobs, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE_LINES", 7)
    monkeypatch.setattr(store, "PAGE_BYTES", 50)
    job = await jobs.submit(START, numbered(40))
    claimed = (await leases.claim(MODEL, 40)).leases
    await leases.settle(MODEL, [answer(lease) for lease in claimed if lease.index % 10 < 5])
    assert await results(jobs, job.id) == answered(*(n for n in range(40) if n % 10 < 5))


async def test_an_answer_of_nothing_gets_its_index(jobs: RedisJobs, leases: Leases) -> None:
    job = await jobs.submit(START, numbered(1))
    (lease,) = (await leases.claim(MODEL, 1)).leases
    await leases.settle(MODEL, [store_answer := answer(lease)])
    assert store_answer.result
    assert store._with_index(3, b"{}") == b'{"index":3}'
    assert await results(jobs, job.id) == answered(0)


async def test_two_cancels_at_once_change_the_same_once(
    jobs: RedisJobs, leases: Leases, clock: Clock
) -> None:
    job = await jobs.submit(START, numbered(10))
    claimed = (await leases.claim(MODEL, 4)).leases
    await leases.settle(MODEL, [answer(claimed[0]), failure(claimed[1])])  # 1 waits again
    first, second = await asyncio.gather(jobs.cancel(job.id), jobs.cancel(job.id))
    assert first == second
    assert (first.state, first.waiting, first.leased, first.done) == ("cancelled", 0, 2, 1)
    clock.ms += 5000
    assert await jobs.cancel(job.id) == first
    assert not (await leases.claim(MODEL, 10)).leases
    # A line that ran when it was cancelled may end with its answer, or without a trace.
    await leases.settle(MODEL, [answer(claimed[2]), failure(claimed[3])])
    last = await jobs.status(job.id)
    assert (last.leased, last.done, last.parked, last.total) == (0, 2, 0, 10)
    assert await results(jobs, job.id) == answered(0, 2)


async def test_a_finished_job_cannot_be_cancelled(jobs: RedisJobs, leases: Leases) -> None:
    job = await jobs.submit(START, numbered(1))
    await leases.settle(MODEL, [answer(lease) for lease in (await leases.claim(MODEL, 1)).leases])
    assert (await jobs.cancel(job.id)).state is JobState.DONE


async def test_everything_of_an_ended_job_expires(
    redis: RedisProcess, connection: Connection
) -> None:
    jobs, leases = RedisJobs(connection, keep_s=5000), Leases(connection, 10)
    job = await jobs.submit(START, numbered(20_001))
    while claimed := (await leases.claim(MODEL, 5000)).leases:
        await leases.settle(MODEL, [answer(lease) for lease in claimed if lease.index])
        await leases.settle(MODEL, [failure(lease) for lease in claimed if not lease.index])
    left = keys(redis, connection)
    assert len(left) == 4  # the job, and three of results
    with redis.client() as client:
        assert all(0 < client.pttl(key) <= 5_000_000 for key in left)
    assert (await jobs.status(job.id)).parked == 1


async def test_a_job_whose_time_is_over_is_unknown(connection: Connection) -> None:
    jobs, leases = RedisJobs(connection, keep_s=0), Leases(connection, 10)
    job = await jobs.submit(START, numbered(2))
    running, late = (await leases.claim(MODEL, 2)).leases
    await leases.settle(MODEL, [answer(running)])
    await jobs.submit(START, numbered(1))
    with pytest.raises(UnknownJob):
        await jobs.cancel(job.id)
    assert await leases.settle(MODEL, [answer(late)]) == 0


@pytest.mark.parametrize("job_id", [UNKNOWN, "", "../x", "a" * 1000, "job:results:0"])
async def test_an_unknown_job_is_told(jobs: RedisJobs, job_id: str) -> None:
    for ask in (jobs.status, jobs.cancel):
        with pytest.raises(UnknownJob):
            await ask(job_id)
    with pytest.raises(UnknownJob):
        await anext(jobs.results(job_id))


async def test_a_job_with_an_owner_is_unknown_to_others(jobs: RedisJobs) -> None:
    job = await jobs.submit(JobStart(model=MODEL, tier="bulk", owner="ada"), numbered(2))
    for ask in (jobs.status, jobs.cancel):
        with pytest.raises(UnknownJob):
            await ask(job.id, "bob")
    assert (await jobs.status(job.id, "ada")).waiting == 2
    assert (await jobs.status(job.id)).waiting == 2  # where no header names an owner
    nobodys = await jobs.submit(START, numbered(1))
    with pytest.raises(UnknownJob):
        await jobs.status(nobodys.id, "bob")
    assert (await jobs.cancel(job.id, "ada")).waiting == 0


async def test_limits_on_a_job(jobs: RedisJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="no line"):
        await jobs.submit(START, each([]))
    monkeypatch.setattr(store, "MAX_JOB_LINES", 3)
    with pytest.raises(InvalidRequest, match="at most 3 lines"):
        await jobs.submit(START, numbered(4))
    assert (await jobs.submit(START, numbered(3))).total == 3


async def test_limit_on_waiting_jobs(jobs: RedisJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_WAITING_JOBS", 2)
    first = await jobs.submit(START, numbered(1))
    await jobs.submit(START, numbered(1))
    with pytest.raises(QueueFull, match="2 jobs of model sums wait"):
        await jobs.submit(START, numbered(1))
    await jobs.cancel(first.id)
    await jobs.submit(START, numbered(1))


def test_a_url_that_is_none_names_its_flag() -> None:
    with pytest.raises(StartupError, match="--redis_url"):
        Connection("http://localhost")
