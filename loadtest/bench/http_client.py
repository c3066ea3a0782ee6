"""A lean HTTP/1.1 client: one request in flight per kept-alive connection.

It shares two cores with the server it measures, so it does as little as an honest client
can: bytes built beforehand, a status, a content length, and a cheap look at the body.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from loadtest.bench.answers import service_s_of
from loadtest.bench.errors import BenchError
from loadtest.bench.plan import HTTP_OK, HTTP_TOO_MANY_REQUESTS, Plan
from loadtest.bench.recorder import Call, Recorder
from loadtest.bench.requests import PreparedRequest

MAX_RESPONSE_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 5.0
OPENED_BEFORE_START = 16
# uvicorn closes a connection that was idle for 5 s; one near that age may die under a request.
MAX_IDLE_S = 3.0

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close\r\n", re.IGNORECASE)


class ConnectionOwner(Protocol):
    """Is told when a connection has its answer, and when it is gone."""

    def free(self, connection: "HttpConnection") -> None: ...

    def lost(self, connection: "HttpConnection") -> None: ...


class HttpConnection(asyncio.Protocol):
    """Sends one call at a time and books how it ended."""

    def __init__(self, recorder: Recorder, owner: ConnectionOwner) -> None:
        self._recorder = recorder
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._received = b""
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, call: Call) -> None:
        assert self._transport is not None
        self._call = call
        self._recorder.sent(call)
        self._transport.write(call.request.wire)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            self._keep_partial(received)
            return
        length = _CONTENT_LENGTH.search(received, 0, head_end)
        if length is None or not received.startswith(b"HTTP/1."):
            self.close()
            return
        end = head_end + int(length[1])
        if len(received) < end:
            self._keep_partial(received)
            return
        self._received = b""
        call, self._call = self._call, None
        if call is None or len(received) > end:  # an answer that nobody asked for
            self._call = call
            self.close()
            return
        self._settle(call, received, head_end)
        if _CLOSES.search(received, 0, head_end):
            self.close()
        else:
            self._owner.free(self)

    def _keep_partial(self, received: bytes) -> None:
        self._received = received
        if len(received) > MAX_RESPONSE_BYTES:
            self.close()

    def _settle(self, call: Call, response: bytes, head_end: int) -> None:
        status = int(response[9:12]) if response[9:12].isdigit() else 0
        if status != HTTP_OK:
            self._recorder.rejected(call, status, refused=status == HTTP_TOO_MANY_REQUESTS)
            return
        right = call.request.check.http(response, head_end)
        self._recorder.answered(call, right, service_s_of(response, head_end))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        call, self._call = self._call, None
        if call is not None:
            self._recorder.failed(call)
        self._owner.lost(self)


async def open_connection(plan: Plan, recorder: Recorder, owner: ConnectionOwner) -> HttpConnection:
    """Raises OSError (TimeoutError included) where nothing answers."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, connection = await loop.create_connection(
            lambda: HttpConnection(recorder, owner), plan.host, plan.port
        )
    recorder.connections += 1
    return connection


async def open_first_connections(
    plan: Plan, recorder: Recorder, owner: ConnectionOwner, count: int
) -> Sequence[HttpConnection]:
    """Raises BenchError if the server does not take `count` connections."""
    try:
        return [await open_connection(plan, recorder, owner) for _ in range(count)]
    except OSError as error:
        raise BenchError(
            f"cannot connect to {plan.host}:{plan.port} ({error}); is the server running?"
        ) from None


class HttpPool:
    """Connections of an open-loop run: grows on demand, up to a limit.

    A call that finds no free connection waits for the next one, new or freed; its latency
    counts from its intended time all the same.
    """

    def __init__(self, plan: Plan, recorder: Recorder, limit: int) -> None:
        self._plan = plan
        self._recorder = recorder
        self._limit = limit
        self._idle: deque[HttpConnection] = deque()
        self._open: set[HttpConnection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()

    async def start(self) -> None:
        count = min(OPENED_BEFORE_START, self._limit)
        for connection in await open_first_connections(self._plan, self._recorder, self, count):
            self._open.add(connection)
            self.free(connection)

    def send(self, call: Call) -> None:
        while self._idle:
            # The longest idle goes first, which keeps all of them young.
            connection = self._idle.popleft()
            if self._recorder.now_s - connection.idle_since_s < MAX_IDLE_S:
                connection.send(call)
                return
            connection.close()
        self._recorder.waits_for_connection(call)
        self._waiting.append(call)
        self._open_another()

    def free(self, connection: HttpConnection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            connection.idle_since_s = self._recorder.now_s
            self._idle.append(connection)

    def lost(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._open_another()

    def close(self) -> None:
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for connection in tuple(self._open):
            connection.close()

    def _open_another(self) -> None:
        if len(self._open) + len(self._opening) < self._limit:
            task = asyncio.get_running_loop().create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_one(self) -> None:
        try:
            connection = await open_connection(self._plan, self._recorder, self)
        except OSError:
            if self._waiting:
                self._recorder.failed(self._waiting.popleft())
            return
        self._open.add(connection)
        self.free(connection)


class HttpClients:
    """A closed-loop run: each connection sends again as soon as it is answered."""

    def __init__(self, plan: Plan, recorder: Recorder, requests: Sequence[PreparedRequest]) -> None:
        self._plan = plan
        self._recorder = recorder
        self._requests = requests
        self._next = 0
        self._until_s = plan.warmup_s + plan.seconds
        self._connections: Sequence[HttpConnection] = ()
        self._active = 0
        self._finished = asyncio.Event()

    async def start(self, in_flight: int) -> None:
        self._connections = await open_first_connections(
            self._plan, self._recorder, self, in_flight
        )

    def send_first(self) -> None:
        self._active = len(self._connections)
        for connection in self._connections:
            self.free(connection)

    def free(self, connection: HttpConnection) -> None:
        now_s = self._recorder.now_s
        if now_s < self._until_s:
            request = self._requests[self._next % len(self._requests)]
            self._next += 1
            connection.send(self._recorder.schedule(request, now_s))
        else:
            self._retire()

    def lost(self, connection: HttpConnection) -> None:
        """Its call was booked as failed; the others go on without it."""
        self._retire()

    def _retire(self) -> None:
        self._active -= 1
        if self._active <= 0:
            self._finished.set()

    async def finish(self) -> None:
        """Until every connection has had its last answer, or can have none in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), self._until_s + self._plan.drain_s)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
