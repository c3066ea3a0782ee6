"""One Redis for all tests; each has keys of its own."""

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from predictor.jobs import connection as connection_module
from predictor.jobs.connection import Connection
from tests.jobs.redis_process import RedisProcess

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisProcess]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        server = RedisProcess(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """One that the test may stop."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisProcess(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is tried again soon after an outage."""
    monkeypatch.setattr(connection_module, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(connection_module, "LONGEST_DELAY_S", 0.05)


@pytest.fixture
async def own_connection(own_redis: RedisProcess) -> AsyncIterator[Connection]:
    connection = Connection(own_redis.url)
    yield connection
    await connection.close()


class Clock:
    """Stands for the clock of Redis, which a test moves."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def connection(redis: RedisProcess, clock: Clock) -> AsyncIterator[Connection]:
    connection = Connection(redis.url, f"test{next(_prefixes)}:", clock)
    yield connection
    await connection.close()
