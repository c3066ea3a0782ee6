"""Notices that a client hung up while its request waits."""

import asyncio
from typing import Any, TypeVar

from predictor.core.errors import Unavailable
from predictor.edge.asgi import Message, Receive
from predictor.edge.exchange import ClientGoneError

T = TypeVar("T")
_WATCH_AFTER_S = 0.02  # most requests are answered before it is worth watching the client


class _Watch:
    """Cancels a future when the client hangs up, once `start` was called."""

    __slots__ = ("_ended", "_future", "_receive", "_task")

    def __init__(self, future: asyncio.Future[Any], receive: Receive) -> None:
        self._future = future
        self._receive = receive
        self._ended = False
        self._task: asyncio.Task[Message] | None = None

    @property
    def gone(self) -> bool:
        return self._task is not None and self._task.done()

    def start(self) -> None:
        if not self._ended:
            # After the whole body, receive() returns only when the client is gone. The
            # callback hands the task to cancel() as its message, which nobody reads.
            self._task = self._future.get_loop().create_task(self._receive())
            self._task.add_done_callback(self._future.cancel)

    def end(self) -> None:
        self._ended = True
        if self._task is not None:
            self._task.cancel()


class Watchers:
    """Starts watches a little late: the task costs as much as decoding the request, and most
    requests are answered before. One timer serves all that began to wait within its time."""

    def __init__(self) -> None:
        self._young: list[_Watch] = []

    def add(self, watch: _Watch, loop: asyncio.AbstractEventLoop) -> None:
        if not self._young:
            loop.call_later(_WATCH_AFTER_S, self._start, self._young)
        self._young.append(watch)

    def _start(self, young: list[_Watch]) -> None:
        self._young = []
        for watch in young:
            watch.start()


async def watched(future: asyncio.Future[T], receive: Receive, watchers: Watchers) -> T:
    """The future's result. Cancels it and raises ClientGoneError if the client hangs up."""
    if future.done():
        return future.result()
    watch = _Watch(future, receive)
    watchers.add(watch, future.get_loop())
    try:
        return await future
    except asyncio.CancelledError:
        if watch.gone:
            raise ClientGoneError from None
        raise Unavailable("the server stopped before the request ended; try again") from None
    finally:
        watch.end()
