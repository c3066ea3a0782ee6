"""A Redis that keeps nothing more: jobs say so and go on by themselves, submissions are refused."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis import exceptions as redis_errors

from predictor.core.errors import RequestTooLarge, StoreFull, Unavailable
from predictor.core.jobs import JobState
from predictor.jobs.connection import Connection
from predictor.jobs.leases import Leases
from predictor.jobs.refusals import Refusal, refusal_of
from predictor.jobs.room import Room
from predictor.jobs.store import RedisJobs
from tests.jobs.jobs import MODEL, START, answer, answered, each, numbered, results
from tests.jobs.lines import Lines, ended, working
from tests.jobs.redis_process import RedisProcess

LINES = 300


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def connection(own_connection: Connection) -> Connection:
    return own_connection


def command(client: "Redis", *words: str) -> None:
    client.execute_command(*words)  # type: ignore[no-untyped-call]


def fill(client: "Redis") -> None:
    client.config_set("maxmemory", "100kb")


def empty(client: "Redis") -> None:
    client.config_set("maxmemory", "0")


def break_disk(client: "Redis") -> None:
    """A folder is where the file should be: writing snapshots fails, and writes with it."""
    folder = Path(str(client.config_get("dir")["dir"]))
    (folder / "dump.rdb").mkdir(exist_ok=True)
    (folder / "dump.rdb" / "in the way").touch()
    client.config_set("save", "3600 1")
    client.bgsave()
    while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
        pass  # each look is a round trip


def mend_disk(client: "Redis") -> None:
    client.config_set("save", "")


def follow_another(client: "Redis") -> None:
    command(client, "REPLICAOF", "127.0.0.1", "1")


def follow_nobody(client: "Redis") -> None:
    command(client, "REPLICAOF", "NO", "ONE")


TROUBLES = [
    pytest.param(fill, empty, Refusal.FULL, id="full"),
    pytest.param(break_disk, mend_disk, Refusal.NO_DISK, id="disk"),
    pytest.param(follow_another, follow_nobody, Refusal.READ_ONLY, id="replica"),
]


@pytest.mark.parametrize(("breaks", "mends", "refusal"), TROUBLES)
async def test_a_job_that_stalls_says_so_and_goes_on_by_itself(
    own_redis: RedisProcess,
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
    *,
    breaks: Any,
    mends: Any,
    refusal: Refusal,
) -> None:
    jobs = RedisJobs(connection)
    held = Lines()
    held.hold()
    caplog.set_level(logging.INFO, "headway.jobs")
    async with working(connection, held, beat_s=0.01) as replica:
        job = await jobs.submit(START, numbered(LINES))
        assert job.problem is None
        await held.begun()
        with own_redis.client() as client:
            breaks(client)
            held.release()
            for _ in range(20):
                stalled = await jobs.status(job.id)
                assert stalled.problem == refusal.value
                assert stalled.state in (JobState.QUEUED, JobState.RUNNING)
                assert stalled.waiting > 0
                with pytest.raises(Unavailable) as refused:
                    await jobs.submit(START, numbered(5))
                assert refused.value.message == refusal.value
                assert isinstance(refused.value, StoreFull) is (refusal is Refusal.FULL)
            assert own_redis.socket.name not in refused.value.message
            assert len(client.keys("headway:job:*:fresh")) == 1  # nothing is half kept
            if refusal is Refusal.FULL:
                await replica.sees(lambda seen: seen.stalled)
            mends(client)
        done = await ended(jobs, job.id)
        assert (done.done, done.parked, done.problem) == (LINES, 0, None)
        await replica.sees(lambda seen: not seen.stalled and seen.waiting == 0)
    assert await results(jobs, job.id) == answered(*range(LINES))
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "which fails" in text]) == 1
    assert len([text for text in said if text.endswith("is back")]) == 1


async def test_full_lines_that_run_end_leases_hold_and_a_job_can_be_cancelled(
    own_redis: RedisProcess, connection: Connection
) -> None:
    jobs, leases = RedisJobs(connection), Leases(connection, 30.0)
    job = await jobs.submit(START, numbered(10))
    claim = await leases.claim(MODEL, 4)
    with own_redis.client() as client:
        fill(client)
    assert await leases.renew(MODEL, claim.leases) == 4
    assert await leases.settle(MODEL, [answer(lease) for lease in claim.leases]) == 4
    seen = await leases.beat(MODEL, "a", 10.0)
    assert (seen.waiting, seen.replicas, seen.stalled) == (6, 1, True)
    with pytest.raises(StoreFull):
        await leases.claim(MODEL, 4)
    assert (await jobs.status(job.id)).waiting == 6  # none was taken out and lost
    assert (await jobs.cancel(job.id)).state is JobState.CANCELLED
    assert await results(jobs, job.id) == answered(0, 1, 2, 3)


async def test_a_job_that_can_never_fit_is_refused_while_it_is_sent(
    own_redis: RedisProcess, connection: Connection
) -> None:
    jobs = RedisJobs(connection)
    with own_redis.client() as client:
        client.config_set("maxmemory", "20mb")
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b'{"line":1}' + b" " * 500

        with pytest.raises(
            RequestTooLarge, match=r"need about 1[89]\.\d MB .* has 18\.9 MB for one"
        ):
            await jobs.submit(START, endless())
        assert taken < 40_000
        assert not client.keys("headway:job:*")
        assert client.info("memory")["used_memory"] < 20 << 20


async def test_a_job_that_others_are_in_the_way_of_is_refused_for_now(
    own_redis: RedisProcess, connection: Connection
) -> None:
    jobs, leases = RedisJobs(connection), Leases(connection, 30.0)
    with own_redis.client() as client:
        client.config_set("maxmemory", "20mb")
    big = b'{"line":1}' + b" " * 1000
    first = await jobs.submit(START, each([big] * 10_000))
    with pytest.raises(StoreFull, match=r"free; try again") as refused:
        await jobs.submit(START, each([big] * 10_000))
    assert refused.value.retry_after_s == 60.0
    await jobs.cancel(first.id)
    while True:  # Redis frees it beside its work
        try:
            assert (await jobs.submit(START, each([big] * 10_000))).total == 10_000
            break
        except StoreFull:
            continue
    assert (await leases.claim(MODEL, 1)).leases


async def test_answers_are_reckoned_as_long_as_they_were_so_far(
    own_redis: RedisProcess, connection: Connection
) -> None:
    jobs, leases = RedisJobs(connection), Leases(connection, 30.0)
    await jobs.submit(START, numbered(100))
    claim = await leases.claim(MODEL, 100)
    long = b'{"was":"' + b"x" * 5000 + b'"}'
    settled = [type(answer(lease))(lease, answer(lease).ending, long) for lease in claim.leases]
    assert await leases.settle(MODEL, settled) == 100
    with own_redis.client() as client:
        client.config_set("maxmemory", "20mb")
    with pytest.raises(RequestTooLarge):  # 50 kB of lines
        await jobs.submit(START, numbered(5000))


async def test_without_the_right_to_ask_for_memory_jobs_are_kept_as_long_as_there_is_room(
    own_redis: RedisProcess, connection: Connection
) -> None:
    with own_redis.client() as client:
        client.config_set("maxmemory", "20mb")
        command(client, "ACL", "SETUSER", "default", "-info")
    job = await RedisJobs(connection).submit(START, numbered(10))
    assert job.total == 10


@pytest.mark.parametrize("taken_away", ["password", "right"])
async def test_not_let_in_any_more(
    own_redis: RedisProcess,
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
    taken_away: str,
) -> None:
    jobs = RedisJobs(connection)
    job = await jobs.submit(START, numbered(1))
    with own_redis.client() as client:
        if taken_away == "password":
            client.config_set("requirepass", "another")
            command(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        else:
            command(client, "ACL", "SETUSER", "default", "-hmget", "-hget", "-hset")
        for ask in (jobs.status(job.id), jobs.submit(START, numbered(1))):
            with pytest.raises(Unavailable) as refused:
                await ask
            assert refused.value.message == Refusal.NOT_LET_IN.value
        if taken_away == "password":
            client.config_set("requirepass", "")
        else:
            command(client, "ACL", "SETUSER", "default", "+@all")
    assert (await jobs.status(job.id)).waiting == 1
    assert [text for text in caplog.messages if own_redis.socket.name in text]


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (redis_errors.OutOfMemoryError("command not allowed"), Refusal.FULL),
        (redis_errors.ResponseError("Error running script: @user_script:1: OOM x"), Refusal.FULL),
        (redis_errors.BusyLoadingError("Redis is loading"), Refusal.LOADING),
        (redis_errors.ReadOnlyError("You can't write"), Refusal.READ_ONLY),
        (redis_errors.ResponseError("MISCONF Redis is configured to"), Refusal.NO_DISK),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas"), Refusal.READ_ONLY),
        (redis_errors.AuthenticationError("invalid username-password"), Refusal.NOT_LET_IN),
        (redis_errors.ResponseError("WRONGPASS invalid"), Refusal.NOT_LET_IN),
        (redis_errors.ConnectionError("Error 111 connecting to secret:6379"), Refusal.AWAY),
        (OSError("no route to 10.0.0.1"), Refusal.AWAY),
    ],
)
def test_every_refusal_has_its_words(error: Exception, refusal: Refusal) -> None:
    assert refusal_of(error) is refusal


class TestRoom:
    def test_without_a_limit_all_fits(self) -> None:
        Room.of([0, 1 << 40, 0, 0, 0]).check(10**9, 10**12)

    def test_what_others_will_take_is_taken(self) -> None:
        Room.of([10_000, 0, 0, 0, 0]).check(10, 1000)
        with pytest.raises(StoreFull):
            Room.of([10_000, 1000, 7000, 0, 0]).check(10, 1000)

    def test_what_waits_may_be_more_than_the_answers(self) -> None:
        room = Room.of([0, 0, 0, 10, 10])  # answers of a byte
        assert room.growth(10, 100_000) == 0
        assert room.growth(10, 100) > 0
