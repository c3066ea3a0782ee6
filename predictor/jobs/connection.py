"""The way to Redis: every call has a time limit, and every failure is one error with one cause.

One Redis, also one with replicas behind a fixed address; not a cluster, because a script touches
the keys of a model and of several jobs. It must not evict keys (`maxmemory-policy noeviction`).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from predictor.core.errors import StartupError, StoreFull, Unavailable
from predictor.core.shown import without_secrets
from predictor.jobs.refusals import Refusal, refusal_of

_LOG = logging.getLogger("headway.jobs")

CONNECT_WITHIN_S = 2.0
ANSWER_WITHIN_S = 5.0
MOST_CONNECTIONS = 32
QUIET_S = 15.0  # a subscription that was told nothing for so long is tried with a ping
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0

FULL_RETRY_S = 60.0
LASTING = (Refusal.FULL, Refusal.NO_DISK, Refusal.READ_ONLY)  # what only reads is answered
KEEPING = ("begin", "stage", "commit", "claim")  # scripts that need room

_SCRIPTS = {
    file.name.removesuffix(".lua"): file.read_text()
    for file in (resources.files(__package__) / "scripts").iterdir()
    if file.name.endswith(".lua")
}


class Connection:
    """A pool of connections to one Redis, and the scripts that run there.

    All methods raise Unavailable while Redis cannot be used, StoreFull while it is full. The log
    says so once an outage, and once when it is over. What is refused for want of room, or because
    Redis only reads, is over when something was kept again: reading goes on meanwhile.
    """

    def __init__(
        self, url: str, prefix: str = "headway:", now_ms: Callable[[], int] | None = None
    ) -> None:
        """`prefix` is that of all keys; `now_ms` stands for the clock of Redis in tests.

        Raises StartupError where `url` is none of redis://, rediss:// or unix://.
        """
        self.prefix = prefix
        self._now_ms = now_ms
        self._down: Refusal | None = None
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MOST_CONNECTIONS,
                timeout=ANSWER_WITHIN_S,  # for a connection of the pool
                socket_timeout=ANSWER_WITHIN_S,
                socket_connect_timeout=CONNECT_WITHIN_S,
                # A connection that Redis closed while it was idle is opened again. Whatever is
                # sent twice has the effect of once; lines claimed twice come back by their lease.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:  # whose text quotes parts of it, a password among them
            raise StartupError(
                f"--redis_url: {without_secrets(url)} is not a URL such as"
                " redis://:password@127.0.0.1:6379/0; percent-encode what is no letter or digit in"
                " a password"
            ) from None
        self._redis = Redis.from_pool(pool)
        where = pool.connection_kwargs  # of which a password must not be shown
        self.address = where.get("path") or (
            f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        )
        self._scripts = {
            name: self._redis.register_script(f"{_SCRIPTS['common']}\n{text}")
            for name, text in _SCRIPTS.items()
            if name != "common"
        }

    async def run(self, script: str, *arguments: str | bytes | int) -> Any:
        """What the script `scripts/<script>.lua` returns."""
        now_ms = "" if self._now_ms is None else self._now_ms()
        try:
            answer = await _cancellable(
                self._scripts[script](args=(self.prefix, now_ms, *arguments))
            )
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None
        if self._down not in LASTING or script in KEEPING:
            self._up()
        return answer

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """What is published on the channel while inside, from the first moment."""
        subscription = self._redis.pubsub()
        try:
            await _cancellable(subscription.subscribe(self.prefix + channel))
            if await _cancellable(subscription.get_message(timeout=ANSWER_WITHIN_S)) is None:
                raise TimeoutError("no answer to a subscription")
            if self._down not in LASTING:
                self._up()
            yield self._messages(subscription)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._redis.aclose()

    async def _messages(self, subscription: Any) -> AsyncIterator[bytes]:
        asked = False
        while True:
            message = await _cancellable(subscription.get_message(timeout=QUIET_S))
            if message is None and asked:
                raise TimeoutError("no answer to a ping")
            asked = message is None
            if asked:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await _cancellable(subscription.ping())
            elif message["type"] == "message":
                yield message["data"]

    def _unavailable(self, error: Exception) -> Unavailable:
        refusal = refusal_of(error)
        outage = Refusal.AWAY if refusal is Refusal.LOADING else refusal  # which comes after it
        if self._down is not outage:
            reason = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))
            _LOG.warning(
                "jobs are kept in Redis at %s (--redis_url), which fails: %s; trying until it is"
                " back, all else goes on",
                self.address,
                reason,
            )
            self._down = outage
        if refusal is Refusal.FULL:
            return StoreFull(refusal.value, retry_after_s=FULL_RETRY_S)
        return Unavailable(refusal.value)

    def _up(self) -> None:
        if self._down is not None:
            self._down = None
            _LOG.warning("Redis at %s is back", self.address)


async def _cancellable(call: Awaitable[Any]) -> Any:
    """Await a call of the client, which may swallow a cancel that comes with the answer."""
    task = asyncio.current_task()
    assert task is not None
    cancels = task.cancelling()
    try:
        return await call
    finally:
        if task.cancelling() > cancels:
            raise asyncio.CancelledError


class Retries:
    """How long to wait before Redis is tried again: longer each time, up to a bound."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def succeeded(self) -> None:
        self._delay_s = FIRST_DELAY_S

    async def wait(self) -> None:
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_DELAY_S)
        await asyncio.sleep(delay_s)
