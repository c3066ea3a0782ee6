"""Real engines behind real Unix sockets, in the test's own process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from predictor.edge.remote import RemoteEngine
from predictor.engine.gateway import Gateway
from predictor.engine.local import LocalEngine
from predictor.engine.port import EngineStatus
from tests.engine.fakes import MODEL, Memory, Sums, running


class Place:
    """A listening socket that outlives the engines behind it, as the supervisor's does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    @asynccontextmanager
    async def engine(self, runner: Sums) -> AsyncIterator["Behind"]:
        async with running(runner) as (engine, memory):
            gateway = Gateway(engine, memory)
            await gateway.open(self.listener.dup())
            yield Behind(engine, gateway, memory)
            gateway.close()
            await gateway.deserted()

    @asynccontextmanager
    async def edge(self) -> AsyncIterator[RemoteEngine]:
        remote = RemoteEngine(0, self.path, [MODEL])
        async with connected(remote):
            yield remote


class Behind:
    """An engine, its gateway, and what it told."""

    def __init__(self, engine: LocalEngine, gateway: Gateway, memory: Memory) -> None:
        self.engine = engine
        self.gateway = gateway
        self.memory = memory

    def die(self) -> None:
        """Its connections end as they do when the kernel closes them for a dead process."""
        assert self.gateway._server is not None
        self.gateway._server.close()
        for link in list(self.gateway._edges):
            link.abort()


@asynccontextmanager
async def connected(*remotes: RemoteEngine) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(remote.stay_connected()) for remote in remotes]
    try:
        yield
    finally:
        for remote, task in zip(remotes, tasks, strict=True):
            remote.drain()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def status_where(remote: RemoteEngine, holds: Callable[[EngineStatus], bool]) -> None:
    """Return when the remote's status is so."""
    changed = asyncio.Event()
    remote.watch(changed.set)
    while not holds(remote.status()):
        changed.clear()
        await changed.wait()


async def ready(remote: RemoteEngine) -> None:
    await status_where(remote, lambda status: MODEL in status.models)
