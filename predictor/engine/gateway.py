"""The engine's side of the socket: edges connect here, and `LocalEngine` does the work.

What edges send is worked on for `TURN_S` a turn of the event loop, in the order in which it came;
the rest waits for the next turn. Between two turns the device is looked after. Under a flood of
requests it would otherwise stand idle for as long as it takes to refuse them.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from dataclasses import dataclass
from functools import partial

import msgspec

from predictor.core.errors import QueueFull
from predictor.core.facts import EdgeFact, EdgesConnected, Observer
from predictor.core.generation import Generated
from predictor.engine import wire
from predictor.engine.link import Link
from predictor.engine.local import LocalEngine
from predictor.engine.port import EngineStatus
from predictor.engine.ticket import Ticket
from predictor.engine.wire import (
    FROM_EDGE,
    Answered,
    AskMetrics,
    Cancel,
    Exposed,
    FromEdge,
    FromEngine,
    Part,
    Ping,
    Pong,
    Status,
    StopRow,
    Submit,
)

_LOG = logging.getLogger("headway.engine")

MAX_OUTSTANDING = 1 << 17  # requests of one edge; an edge has a lower limit of its own
TURN_S = 1e-3
LOOK_EVERY = 16  # messages, at the clock
MAX_UNREAD = 1 << 16  # messages that wait for a turn: beyond it, sockets are not read
MAX_UNSENT_BYTES = 512 << 20  # answers that one edge does not read

EdgeLink = Link[FromEdge, FromEngine]


@dataclass(slots=True, eq=False)
class _Frame:
    """What an edge sent at once, of which this is yet to be read, last message first."""

    link: EdgeLink
    messages: list[FromEdge]
    received_s: float


class Gateway:
    """Serves edges until it is closed. All methods belong to the engine's event loop."""

    def __init__(self, engine: LocalEngine, observer: Observer, edges: int = 0) -> None:
        """`edges`: how many are expected. Before all are there, none is told to be ready."""
        self._expected = edges
        self._engine = engine
        self._observer = observer
        self._edges: dict[EdgeLink, dict[int, Ticket]] = {}
        self._server: asyncio.AbstractServer | None = None
        self._draining = False
        self._deserted = asyncio.Event()
        self._deserted.set()
        self._unread: deque[_Frame] = deque()
        self._unread_messages = 0
        self._turn_due = False
        self._turn_ends_s = 0.0
        self._paused: set[EdgeLink] = set()
        engine.watch_status(self._tell_all)
        engine.watch_batches(self._flush)

    async def open(self, listener: socket.socket) -> None:
        """Take connections from a listening Unix socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._new_link, sock=listener)

    async def deserted(self) -> None:
        """Return when no edge is connected."""
        await self._deserted.wait()

    def drain(self) -> None:
        """Have the edges refuse new work, and leave when theirs is answered.

        What they sent before they hear of it is served. Whoever connects from now on waits
        for the next engine.
        """
        self._draining = True
        if self._server is not None:
            self._server.close()
        self._tell_all(self._engine.status())

    def close(self) -> None:
        """Take no more connections, send what there is, and end those there are."""
        if self._server is not None:
            self._server.close()
        for link in list(self._edges):
            link.close()

    def _new_link(self) -> EdgeLink:
        return Link(
            FROM_EDGE,
            opened=self._opened,
            received=self._received,
            closed=self._closed,
            max_unsent_bytes=MAX_UNSENT_BYTES,
        )

    def _opened(self, link: EdgeLink) -> None:
        self._edges[link] = {}
        self._deserted.clear()
        self._observer.observe(EdgesConnected(len(self._edges)))
        if self._expected > 1:
            self._tell_all(self._engine.status())
        else:
            link.send(Status(self._engine.status()))

    def _closed(self, link: EdgeLink) -> None:
        for ticket in list(self._edges[link].values()):
            ticket.cancel()
        del self._edges[link]
        for frame in self._unread:
            if frame.link is link:  # nobody waits for answers, but what happened is counted
                for message in frame.messages:
                    if isinstance(message, EdgeFact):
                        self._engine.report(message)
        self._paused.discard(link)
        self._observer.observe(EdgesConnected(len(self._edges)))
        if self._expected > 1:
            self._tell_all(self._engine.status())
        if not self._edges:
            self._deserted.set()

    def _tell_all(self, status: EngineStatus) -> None:
        if status.draining and not self._draining:
            self.drain()
            return
        missing = max(self._expected - len(self._edges), 0)
        if self._draining or missing:
            status = msgspec.structs.replace(status, draining=self._draining, edges_missing=missing)
        for link in self._edges:
            link.send(Status(status))

    def _received(self, link: EdgeLink, messages: list[FromEdge]) -> None:
        messages.reverse()  # the first is taken from the end
        self._unread.append(_Frame(link, messages, time.monotonic()))
        self._unread_messages += len(messages)
        if self._unread_messages > MAX_UNREAD:
            link.pause()
            self._paused.add(link)
        if not self._turn_due:
            self._begin_turn()
            self._work()
        elif time.monotonic() < self._turn_ends_s:
            self._work()

    def _begin_turn(self) -> None:
        self._turn_due = True
        self._turn_ends_s = time.monotonic() + TURN_S
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_due = False
        if self._unread:
            self._begin_turn()
            self._work()
        while self._paused and self._unread_messages <= MAX_UNREAD:
            self._paused.pop().resume()

    def _work(self) -> None:
        """Read some of what came, and more until the turn is over."""
        now_s = time.monotonic()
        while self._unread:
            frame = self._unread[0]
            some = min(LOOK_EVERY, len(frame.messages))
            waiting = self._edges.get(frame.link)
            if waiting is None:  # it is closed
                some = len(frame.messages)
                frame.messages.clear()
            else:
                waited_s = now_s - frame.received_s
                for _ in range(some):
                    self._read(frame.link, waiting, frame.messages.pop(), waited_s)
            self._unread_messages -= some
            if not frame.messages:
                self._unread.popleft()
            now_s = time.monotonic()
            if now_s >= self._turn_ends_s:
                return

    def _read(
        self, link: EdgeLink, waiting: dict[int, Ticket], message: FromEdge, waited_s: float
    ) -> None:
        if isinstance(message, Submit):  # the most frequent first
            if len(waiting) >= MAX_OUTSTANDING:
                refusal = QueueFull("too many requests of this edge wait; try again later")
                link.send(wire.failed(message.id, refusal))
                return
            answer = partial(_answer, link, waiting, message.id)
            ticket = waiting[message.id] = Ticket(answer)
            part = partial(_part, link, message.id) if message.submission.streams else None
            self._engine.take(message.submission, ticket, waited_s, part)
        elif isinstance(message, EdgeFact):
            self._engine.report(message)
        elif isinstance(message, Cancel):
            if message.id in waiting:
                waiting[message.id].cancel()
        elif isinstance(message, StopRow):
            if message.id in waiting:
                self._engine.stop_row(waiting[message.id], message.index)
        elif isinstance(message, Ping):
            link.send(Pong())
        else:
            self._expose(link, message)

    def _flush(self) -> None:
        """The answers of a batch need not wait for the end of a busy turn."""
        for link in self._edges:
            link.flush()

    def _expose(self, link: EdgeLink, asked: AskMetrics) -> None:
        try:
            body, content_type = self._engine.exposition(asked.accept)
        except Exception as error:
            _LOG.exception("the metrics could not be rendered")
            link.send(wire.failed(asked.id, error))
            return
        link.send(Exposed(asked.id, body, content_type))


def _part(link: EdgeLink, request_id: int, generated: Generated) -> bool:
    """The edge says with a `StopRow` when it wants no more."""
    link.send(Part(request_id, generated))
    return True


def _answer(
    link: EdgeLink,
    waiting: dict[int, Ticket],
    request_id: int,
    done: Ticket,
) -> None:
    del waiting[request_id]
    if done.cancelled():
        return
    error = done.exception()
    link.send(
        Answered(request_id, done.result()) if error is None else wire.failed(request_id, error)
    )
