"""Redis that is down at start, restarts, is killed, or hangs: nothing is lost, all recovers."""

import logging
import os
import signal
from typing import Any

import pytest

from predictor.core.errors import StartupError, StoreFull, Unavailable
from predictor.jobs import connection as connection_module
from predictor.jobs.connection import Connection
from predictor.jobs.store import RedisJobs
from tests.jobs.jobs import START, answered, numbered, results
from tests.jobs.lines import Lines, ended, working
from tests.jobs.redis_process import RedisProcess

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def connection(own_connection: Connection) -> Connection:
    return own_connection


async def test_down_at_start(
    own_redis: RedisProcess, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.stop()
    jobs = RedisJobs(connection)
    caplog.set_level(logging.INFO, "headway.jobs")
    async with working(connection, beat_s=0.01) as replica:
        await replica.sees(lambda seen: seen.replicas == 1)
        for _ in range(5):
            with pytest.raises(Unavailable, match="does not answer"):
                await jobs.submit(START, numbered(3))
            with pytest.raises(Unavailable, match="does not answer"):
                await jobs.status("0" * 24)
        own_redis.start()
        job = await jobs.submit(START, numbered(3))
        assert (await ended(jobs, job.id)).done == 3
    down, back = [record.getMessage() for record in caplog.records]
    assert "--redis_url" in down
    assert own_redis.socket.name in down
    assert "which fails" in down
    assert "is back" in back
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("orderly", [True, False], ids=["restart", "kill -9"])
async def test_redis_goes_and_comes_back_in_the_middle_of_a_job(
    own_redis: RedisProcess, connection: Connection, *, orderly: bool
) -> None:
    jobs = RedisJobs(connection)
    held = Lines()
    held.hold()
    job = await jobs.submit(START, numbered(2000))
    # A claim whose answer was lost with Redis comes back when its lease runs out.
    often: dict[str, Any] = {"lease_s": 1.0, "beat_s": 0.01}
    async with working(connection, held, **often) as one, working(connection, **often):
        await held.begun()
        while (await jobs.status(job.id)).done < 500:
            pass
        (own_redis.stop if orderly else own_redis.kill)()
        held.release()  # these lines end while there is nobody to tell
        with pytest.raises(Unavailable):
            await jobs.status(job.id)
        await one.sees(lambda seen: seen.replicas == 1)
        own_redis.start()
        assert (await ended(jobs, job.id)).done == 2000
        assert await results(jobs, job.id) == answered(*range(2000))


async def test_a_redis_that_hangs_is_away(
    own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "ANSWER_WITHIN_S", 0.1)
    connection = Connection(own_redis.url)
    jobs = RedisJobs(connection)
    job = await jobs.submit(START, numbered(1))
    os.kill(own_redis.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable, match="does not answer"):
        await jobs.status(job.id)
    os.kill(own_redis.pid, signal.SIGCONT)
    assert (await jobs.status(job.id)).waiting == 1
    await connection.close()


async def test_a_redis_that_is_full_says_so(
    own_redis: RedisProcess, connection: Connection
) -> None:
    jobs = RedisJobs(connection)
    job = await jobs.submit(START, numbered(1))
    with own_redis.client() as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreFull, match=r"is full|are free"):
        await jobs.submit(START, numbered(50_000))
    with own_redis.client() as client:
        client.config_set("maxmemory", "0")
    async with working(connection):
        await ended(jobs, job.id)


@pytest.mark.parametrize(
    "url", ["redis://:s3c/ret@host:6379", "redis://:s3c#ret@host:x", "http://u:s3cret@host"]
)
def test_a_url_that_is_none_shows_no_password(url: str) -> None:
    with pytest.raises(StartupError, match=r"--redis_url: \w+://\*\*\*@host") as raised:
        Connection(url)
    assert "s3c" not in raised.value.message
