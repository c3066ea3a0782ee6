"""Bodies of requests as they come: bounded in size, and given up when they stop coming.

How long a body takes is the client's business, so nothing else has a clock until it is whole.
But a connection must not be held for ever by a client that has died, or that sends a byte now
and then: the next part comes within `idle_s`, and the whole within `WHOLE_IDLES` times that.
The body of a job is a stream of any length; there the first alone holds.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

from predictor.core.errors import BodyTimeout, RequestTooLarge
from predictor.edge.asgi import Headers, Message, Receive, check_encoding
from predictor.edge.exchange import ClientGoneError

IDLE_S = 60.0
WHOLE_IDLES = 10
_DISCARDED = 4  # bodies up to this many times the limit are read to their end, then refused


class Bodies:
    """Reads bodies. One timer serves all that are coming: most are here when they are asked for."""

    def __init__(self, max_bytes: int, idle_s: float = IDLE_S) -> None:
        """`max_bytes` of a body that is read whole; `idle_s`: longest wait for its next part."""
        self._max_bytes = max_bytes
        self.idle_s = idle_s
        self._due_s: dict[asyncio.Task[Any], float] = {}  # of those that wait for a part
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._look_s = math.inf  # when it looks

    async def whole(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body.

        Raises RequestTooLarge, BodyTimeout, ClientGoneError, and InvalidRequest for an encoding.
        """
        if self._announced(headers) > self._max_bytes:
            await self.check_announced(headers, receive)
        if b"content-encoding" in headers:
            check_encoding(headers)
        # Most bodies are here, and whole, before they are asked for: there is nothing to guard.
        coming = receive()
        try:
            waits_for = coming.send(None)
        except StopIteration as here:
            message: Message = here.value
            if message["type"] == "http.disconnect":
                raise ClientGoneError from None
        else:
            message = await self.next(lambda: _resumed(coming, waits_for))
        body: bytes = message.get("body", b"")
        if len(body) > self._max_bytes:
            self.check_size(len(body))
        if not message.get("more_body"):
            return body
        due_s = asyncio.get_running_loop().time() + WHOLE_IDLES * self.idle_s
        chunks = [body]
        size = len(body)
        while message.get("more_body"):
            message = await self.next(receive, due_s)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            self.check_size(size)
        return b"".join(chunks)

    async def parts(self, receive: Receive) -> AsyncIterator[bytes]:
        """A body of any size as it comes. Raises BodyTimeout, ClientGoneError."""
        more = True
        while more:
            message = await self.next(receive)
            more = message.get("more_body", False)
            yield message.get("body", b"")

    async def next(self, receive: Receive, due_s: float = math.inf) -> Message:
        """The next message of a body, by `due_s` on the loop's clock.

        Raises BodyTimeout, ClientGoneError.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        own_s = loop.time() + self.idle_s
        own_s = min(own_s, due_s)
        self._due_s[task] = own_s
        if own_s < self._look_s:
            self._look_at(own_s)
        try:
            message = await receive()
        except asyncio.CancelledError:
            if task not in self._overdue or task.uncancel():
                raise
            raise self._timeout(due_s) from None
        finally:
            del self._due_s[task]
            if self._overdue:
                self._overdue.discard(task)
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    async def check_announced(self, headers: Headers, receive: Receive) -> None:
        """Raises RequestTooLarge where the headers say so."""
        size = self._announced(headers)
        # A client that sends all before it reads would see a reset instead of the answer.
        if self._max_bytes < size <= _DISCARDED * self._max_bytes and b"expect" not in headers:
            due_s = asyncio.get_running_loop().time() + WHOLE_IDLES * self.idle_s
            while (await self.next(receive, due_s)).get("more_body"):
                pass
        self.check_size(size)

    @staticmethod
    def _announced(headers: Headers) -> int:
        announced = headers.get(b"content-length")
        return int(announced[:20]) if announced is not None and announced.isdigit() else 0

    def check_size(self, size: int) -> None:
        """Raises RequestTooLarge."""
        if size > self._max_bytes:
            raise RequestTooLarge(
                f"the body is over {self._max_bytes} bytes; send fewer rows in a request"
            )

    def _look(self) -> None:
        """Give up what is overdue, and look again when the next may be."""
        now_s = asyncio.get_running_loop().time()
        next_s = self._look_s = math.inf
        for task, due_s in self._due_s.items():
            if task in self._overdue:
                continue
            if due_s <= now_s:
                self._overdue.add(task)
                task.cancel()
            else:
                next_s = min(next_s, due_s)
        if next_s < math.inf:
            self._look_at(next_s)

    def _look_at(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_s = due_s
        self._timer = asyncio.get_running_loop().call_at(due_s, self._look)

    def _timeout(self, due_s: float) -> BodyTimeout:
        if asyncio.get_running_loop().time() >= due_s:
            return BodyTimeout(
                f"body: it took over {WHOLE_IDLES * self.idle_s:g} s; send it faster, or in parts"
            )
        return BodyTimeout(
            f"body: nothing came for {self.idle_s:g} s; send the whole request again"
        )


class _Begun:
    """Awaits a coroutine that was begun already, and waits for a future."""

    def __init__(self, coming: Coroutine[Any, Any, Message], waits_for: Any) -> None:
        self._coming = coming
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            yield self._waits_for
        except BaseException as error:
            try:
                waits_for = self._coming.throw(error)
            except StopIteration as ended:
                message: Message = ended.value
                return message
            return (yield from _Begun(self._coming, waits_for).__await__())
        return (yield from self._coming.__await__())


async def _resumed(coming: Coroutine[Any, Any, Message], waits_for: Any) -> Message:
    return await _Begun(coming, waits_for)
