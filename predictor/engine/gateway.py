"""The engine's side of the socket: edges connect here, and `LocalEngine` does the work."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from predictor.core.errors import HeadwayError, QueueFull
from predictor.core.facts import EdgeRefused, EdgesConnected, EdgeTimed, Observer
from predictor.engine import wire
from predictor.engine.link import Link
from predictor.engine.local import LocalEngine
from predictor.engine.port import EngineStatus, Reply
from predictor.engine.wire import (
    FROM_EDGE,
    Answered,
    AskMetrics,
    Cancel,
    Exposed,
    FromEdge,
    FromEngine,
    Status,
    Submit,
)

_LOG = logging.getLogger("headway.engine")

MAX_OUTSTANDING = 1 << 17  # requests of one edge; an edge has a lower limit of its own
MAX_UNSENT_BYTES = 512 << 20  # answers that one edge does not read

EdgeLink = Link[FromEdge, FromEngine]


class Gateway:
    """Serves edges until it is closed. All methods belong to the engine's event loop."""

    def __init__(self, engine: LocalEngine, observer: Observer) -> None:
        self._engine = engine
        self._observer = observer
        self._edges: dict[EdgeLink, dict[int, _Ticket]] = {}
        self._server: asyncio.AbstractServer | None = None
        self._deserted = asyncio.Event()
        self._deserted.set()
        engine.watch_status(self._tell_all)

    async def open(self, listener: socket.socket) -> None:
        """Take connections from a listening Unix socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._new_link, sock=listener)

    async def deserted(self) -> None:
        """Return when no edge is connected."""
        await self._deserted.wait()

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
        link.send(Status(self._engine.status()))

    def _closed(self, link: EdgeLink) -> None:
        tickets = self._edges.pop(link)
        for ticket in list(tickets.values()):
            ticket.cancel()
        self._observer.observe(EdgesConnected(len(self._edges)))
        if not self._edges:
            self._deserted.set()

    def _tell_all(self, status: EngineStatus) -> None:
        for link in self._edges:
            link.send(Status(status))

    def _received(self, link: EdgeLink, messages: list[FromEdge]) -> None:
        tickets = self._edges[link]
        for message in messages:  # the most frequent first
            if isinstance(message, Submit):
                ticket = _Ticket(message.id, link, tickets)
                if len(tickets) > MAX_OUTSTANDING:
                    ticket.set_exception(QueueFull("too many requests of one edge wait here"))
                else:
                    self._engine.submit_to(message.submission, ticket)
            elif isinstance(message, EdgeTimed):
                self._engine.report(message)
            elif isinstance(message, Cancel):
                if message.id in tickets:
                    tickets[message.id].cancel()
            elif isinstance(message, EdgeRefused):
                self._engine.report(message)
            else:
                self._expose(link, message)

    def _expose(self, link: EdgeLink, asked: AskMetrics) -> None:
        try:
            body, content_type = self._engine.exposition(asked.accept)
        except Exception as error:
            _LOG.exception("the metrics could not be rendered")
            link.send(wire.failed(asked.id, error))
            return
        link.send(Exposed(asked.id, body, content_type))


class _Ticket:
    """The promise of a request that came by a socket: it settles into the link's outbox.

    An asyncio.Future would take two more turns of the event loop for each request.
    """

    __slots__ = ("_callback", "_cancelled", "_error", "_id", "_link", "_others")

    def __init__(self, request_id: int, link: EdgeLink, others: "dict[int, _Ticket]") -> None:
        """Stands among `others`, the edge's open tickets, until it settles."""
        self._id = request_id
        self._link = link
        self._others = others
        self._callback: Callable[[Any], object] | None = None
        self._error: HeadwayError | None = None
        self._cancelled = False
        others[request_id] = self

    def done(self) -> bool:
        return self._others.get(self._id) is not self

    def cancelled(self) -> bool:
        return self._cancelled

    def exception(self) -> HeadwayError | None:
        return self._error

    def set_result(self, reply: Reply, /) -> None:
        self._link.send(Answered(self._id, reply))
        self._end()

    def set_exception(self, error: HeadwayError, /) -> None:
        self._error = error
        self._link.send(wire.failed(self._id, error))
        self._end()

    def cancel(self) -> None:
        self._cancelled = True
        self._end()

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        self._callback = callback

    def _end(self) -> None:
        del self._others[self._id]
        if self._callback is not None:
            self._callback(self)
