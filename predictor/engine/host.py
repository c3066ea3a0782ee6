"""Runs an engine as a process of its own, behind a Unix socket.

One signal drains: the edges are told to refuse new work, what waits is answered, and the
process ends when its last edge has left or the grace period is over. A second signal ends it.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from predictor.core.facts import Observer
from predictor.engine.gateway import Gateway
from predictor.engine.local import LocalEngine
from predictor.exits import report_failure

_LOG = logging.getLogger("headway.engine")

CLOSE_WITHIN_S = 1.0  # the last answers' way through the socket


def serve(
    engine: LocalEngine,
    observer: Observer,
    listener: socket.socket,
    *,
    background: Callable[[], Coroutine[Any, Any, None]],
    grace_s: float,
    edges: int = 0,
) -> int:
    """Serve the edges that connect to `listener` until a signal, and return the exit code.

    So many `edges` are expected.

    `background` loads the models; if it raises, the process ends with a message and 2 for a
    StartupError, 1 for anything else.
    """
    host = _Host(Gateway(engine, observer, edges), grace_s)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(host.run(listener, background))


class _Host:
    def __init__(self, gateway: Gateway, grace_s: float) -> None:
        self._gateway = gateway
        self._grace_s = grace_s
        self._draining = asyncio.Event()
        self._ending = asyncio.Event()

    async def run(
        self, listener: socket.socket, background: Callable[[], Coroutine[Any, Any, None]]
    ) -> int:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(sig, self._stop)
        await self._gateway.open(listener)
        work = loop.create_task(background())
        drained = loop.create_task(self._drained())
        await asyncio.wait((work, drained), return_when=asyncio.FIRST_COMPLETED)
        exit_code = 0
        if work.done() and not work.cancelled() and (error := work.exception()) is not None:
            exit_code = report_failure(error)
        self._gateway.close()
        await _within(CLOSE_WITHIN_S, self._gateway.deserted())
        for task in (work, drained):
            task.cancel()
        await asyncio.wait((work, drained))
        return exit_code

    def _stop(self) -> None:
        if self._draining.is_set():
            self._ending.set()
            return
        _LOG.info("draining for at most %g s", self._grace_s)
        self._gateway.drain()
        self._draining.set()

    async def _drained(self) -> None:
        """Return when a signal has come and all is answered, or the time for that is over."""
        await self._draining.wait()
        leaving = asyncio.ensure_future(self._gateway.deserted())
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait(
            (leaving, ending), timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED
        )
        leaving.cancel()
        ending.cancel()


async def _within(seconds: float, done: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await done
    except TimeoutError:
        return
