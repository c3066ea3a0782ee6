"""Work that would hold the event loop too long: on threads, few at a time, stopped when unwanted.

A thread cannot be cancelled from outside. The work asks instead, between slices that take some
milliseconds each: `check_wanted` raises once whoever awaited the work was cancelled.
"""

import asyncio
import os
from collections.abc import Callable
from contextvars import ContextVar
from threading import Event
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = max(2, os.cpu_count() or 1)  # more would only hold more memory at the same time

_unwanted: ContextVar[Event | None] = ContextVar("unwanted", default=None)


class UnwantedError(Exception):
    """Nobody waits for the result any more. It reaches nobody, for the same reason."""


def check_wanted() -> None:
    """Raises UnwantedError where whoever waited for this work is gone."""
    unwanted = _unwanted.get()
    if unwanted is not None and unwanted.is_set():
        raise UnwantedError


class HeavyWork:
    """Runs functions on threads, at most `at_once` of them; the others wait for their turn."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._turns = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises. Cancelled, it ends at its next `check_wanted`.

        The turn is given on when the thread has ended, not when its caller is cancelled: else
        clients that hang up could have any number of threads at work.
        """
        await self._turns.acquire()
        unwanted = Event()
        token = _unwanted.set(unwanted)
        try:
            running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
        finally:
            _unwanted.reset(token)
        running.add_done_callback(self._ended)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            unwanted.set()
            raise

    def _ended(self, running: asyncio.Future[T]) -> None:
        self._turns.release()
        if not running.cancelled():
            running.exception()  # seen, also where nobody awaits it any more
