"""Replicas that work off jobs, on a real Redis, with lines that end as the test says."""

import asyncio
from typing import Any

import pytest

from predictor.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    QueueFull,
    RowFailed,
    Shed,
    Unavailable,
)
from predictor.core.jobs import JobState
from predictor.jobs import pace
from predictor.jobs.connection import Connection
from predictor.jobs.leases import MOST_ATTEMPTS, Leases
from predictor.jobs.store import RedisJobs
from tests.jobs.conftest import Clock
from tests.jobs.jobs import MODEL, START, answered, numbered, results
from tests.jobs.lines import Lines, ended, working


@pytest.fixture
def jobs(connection: Connection) -> RedisJobs:
    return RedisJobs(connection)


async def test_workers_share_a_job(connection: Connection, jobs: RedisJobs) -> None:
    async with working(connection) as first, working(connection) as second:
        job = await jobs.submit(START, numbered(3000))  # announced: nothing else wakes them
        assert (await ended(jobs, job.id)).done == 3000
        assert await results(jobs, job.id) == answered(*range(3000))
        runs = first.lines.runs + second.lines.runs
        assert set(runs.values()) == {1}
        assert first.lines.runs
        assert second.lines.runs


async def test_lines_that_wait_already_are_found(connection: Connection, jobs: RedisJobs) -> None:
    job = await jobs.submit(START, numbered(5))
    async with working(connection):
        await ended(jobs, job.id)


async def test_no_more_lines_are_held_than_may_be(connection: Connection, jobs: RedisJobs) -> None:
    job = await jobs.submit(START, numbered(500))
    async with working(connection, most_held=40) as replica:
        await ended(jobs, job.id)
    assert 16 <= replica.lines.most_at_once <= 40


async def test_a_model_that_is_not_ready_gets_no_line(
    connection: Connection, jobs: RedisJobs
) -> None:
    lines = Lines()
    lines.is_ready = False
    job = await jobs.submit(START, numbered(5))
    async with working(connection, lines, beat_s=0.01) as replica:
        await replica.sees(lambda seen: seen.waiting == 5)
        assert not lines.runs
        lines.is_ready = True
        replica.worker.wake()
        await ended(jobs, job.id)


async def test_a_beat_tells_what_changed(connection: Connection, jobs: RedisJobs) -> None:
    lines = Lines()
    lines.hold()
    async with working(connection, lines, beat_s=0.01) as one, working(connection, beat_s=0.01):
        await one.sees(lambda seen: seen.replicas == 2)
        job = await jobs.submit(START, numbered(40))
        await one.sees(lambda seen: seen.leased > 0)
        lines.release()
        await ended(jobs, job.id)
        await one.sees(lambda seen: (seen.waiting, seen.leased) == (0, 0))
        assert all(before != after for before, after in zip(one.seen, one.seen[1:], strict=False))


@pytest.mark.parametrize(
    "error",
    [QueueFull("full", 0.0), Shed("late", 0.0), Unavailable("away", 0.0), DeadlineExceeded("late")],
)
async def test_what_speaks_of_now_is_no_attempt(
    connection: Connection, jobs: RedisJobs, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.001)
    lines = Lines(lambda line, run: error if run <= 2 * MOST_ATTEMPTS else None)
    job = await jobs.submit(START, numbered(3))
    async with working(connection, lines):
        assert (await ended(jobs, job.id)).done == 3
    assert set(lines.runs.values()) == {2 * MOST_ATTEMPTS + 1}


async def test_bad_lines_are_parked_and_the_rest_is_answered(
    connection: Connection, jobs: RedisJobs
) -> None:
    faults: dict[int, Any] = {
        2: lambda run: InvalidRequest("text: must be a string"),
        4: lambda run: RowFailed("the model raised") if run == 1 else None,
        6: lambda run: RowFailed("the model raises"),
        7: lambda run: ZeroDivisionError("a bug"),
    }
    lines = Lines(lambda line, run: faults.get(line, lambda run: None)(run))
    job = await jobs.submit(START, numbered(8))
    async with working(connection, lines):
        status = await ended(jobs, job.id)
    assert (status.done, status.parked) == (5, 3)
    assert [lines.runs[line] for line in (2, 4, 6, 7)] == [1, 2, MOST_ATTEMPTS, MOST_ATTEMPTS]
    errors = {each["index"]: each.get("error") for each in await results(jobs, job.id)}
    assert {index: error for index, error in errors.items() if error} == {
        2: "text: must be a string",
        6: "the model raises",
        7: "ZeroDivisionError: a bug",
    }


async def test_a_drain_waits_for_what_runs(connection: Connection, jobs: RedisJobs) -> None:
    lines = Lines()
    lines.hold()
    job = await jobs.submit(START, numbered(100))
    async with working(connection, lines) as replica:
        await lines.begun()
        drained = asyncio.create_task(replica.worker.drain(60))
        await asyncio.sleep(0)
        lines.release()
        await drained
        await replica.work
    status = await jobs.status(job.id)
    assert (status.done, status.leased) == (len(lines.runs), 0)
    assert 0 < status.done < 100


async def test_a_drain_gives_back_what_does_not_end(
    connection: Connection, jobs: RedisJobs
) -> None:
    stuck = Lines()
    stuck.hold()
    job = await jobs.submit(START, numbered(10))
    async with working(connection, stuck) as replica:
        await stuck.begun()
        await replica.worker.drain(0)
        await replica.work
    status = await jobs.status(job.id)
    assert (status.waiting, status.leased) == (10, 0)
    leases = Leases(connection, 10)
    assert (await leases.beat(MODEL, "another", 10)).replicas == 1
    assert {lease.failures for lease in (await leases.claim(MODEL, 10)).leases} == {0}


async def test_a_replica_that_dies_loses_nothing(
    connection: Connection, jobs: RedisJobs, clock: Clock
) -> None:
    stuck = Lines()
    stuck.hold()
    job = await jobs.submit(START, numbered(100))
    async with working(connection, stuck) as dying:
        await stuck.begun()
        await dying.die()
    async with working(connection) as other:
        while (await jobs.status(job.id)).waiting:
            pass
        assert not other.lines.runs.keys() & stuck.runs.keys()
    clock.ms += 10_000
    # A claim that was on its way when its replica died may arrive now: a beat finds its lease.
    async with working(connection, beat_s=0.01):
        assert (await ended(jobs, job.id)).done == 100
    assert await results(jobs, job.id) == answered(*range(100))


async def test_an_idle_worker_wakes_when_a_lease_runs_out(redis: Any) -> None:
    connection = Connection(redis.url, "expiry:")  # by the clock of Redis itself
    jobs = RedisJobs(connection)
    stuck = Lines()
    stuck.hold()
    job = await jobs.submit(START, numbered(3))
    async with working(connection, stuck, lease_s=0.05) as dying:
        await stuck.begun()
        await dying.die()
        async with working(connection):
            assert (await ended(jobs, job.id)).done == 3
    await connection.close()


async def test_a_late_replica_does_no_harm(
    connection: Connection, jobs: RedisJobs, clock: Clock
) -> None:
    """As one that was stopped past its lease, and goes on."""
    late = Lines()
    late.hold()
    job = await jobs.submit(START, numbered(10))
    async with working(connection, late, least_held=10, most_held=10) as paused:
        await late.begun()  # it holds all that it may, so that it claims nothing more
        clock.ms += 10_000
        async with working(connection, beat_s=0.01):
            assert (await ended(jobs, job.id)).done == 10
        late.release()
        await paused.worker.drain(60)
    status = await jobs.status(job.id)
    assert (status.state, status.done, status.parked) == (JobState.DONE, 10, 0)
    assert await results(jobs, job.id) == answered(*range(10))


async def test_leases_are_renewed_while_lines_run(
    connection: Connection, jobs: RedisJobs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = asyncio.Condition()
    run = connection.run

    async def telling(script: str, *arguments: str | bytes | int) -> Any:
        answer = await run(script, *arguments)
        if script == "renew":
            async with renewed:
                renewed.notify_all()
        return answer

    monkeypatch.setattr(connection, "run", telling)
    lines = Lines()
    lines.hold()
    await jobs.submit(START, numbered(4))
    async with working(connection, lines, lease_s=0.1, beat_s=0.01), asyncio.timeout(60):
        await lines.begun()
        for _ in range(3):
            clock.ms += 60
            async with renewed:
                await renewed.wait()  # it may have begun before the clock went on,
                await renewed.wait()  # this one did not
            assert not (await Leases(connection, 10).claim(MODEL, 4)).leases


async def test_a_cancel_stops_what_has_not_begun(connection: Connection, jobs: RedisJobs) -> None:
    lines = Lines()
    lines.hold()
    job = await jobs.submit(START, numbered(100))
    async with working(connection, lines) as replica:
        await lines.begun()
        cancelled = await jobs.cancel(job.id)
        lines.release()
        await replica.worker.drain(60)
    status = await jobs.status(job.id)
    assert status.done == cancelled.leased == len(lines.runs)
    assert (status.state, status.waiting, status.leased) == (JobState.CANCELLED, 0, 0)
