"""The engine's side of the socket: edges connect here, and `LocalEngine` does the work."""

import asyncio
import logging
import socket
from functools import partial

import msgspec

from predictor.core.errors import QueueFull
from predictor.core.facts import EdgeRefused, EdgesConnected, EdgeTimed, JobsSeen, Observer
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
        self._edges: dict[EdgeLink, dict[int, Ticket]] = {}
        self._server: asyncio.AbstractServer | None = None
        self._draining = False
        self._deserted = asyncio.Event()
        self._deserted.set()
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
        link.send(Status(self._engine.status()))

    def _closed(self, link: EdgeLink) -> None:
        for ticket in list(self._edges[link].values()):
            ticket.cancel()
        del self._edges[link]
        self._observer.observe(EdgesConnected(len(self._edges)))
        if not self._edges:
            self._deserted.set()

    def _tell_all(self, status: EngineStatus) -> None:
        if status.draining and not self._draining:
            self.drain()
            return
        if self._draining:
            status = msgspec.structs.replace(status, draining=True)
        for link in self._edges:
            link.send(Status(status))

    def _received(self, link: EdgeLink, messages: list[FromEdge]) -> None:
        waiting = self._edges[link]
        for message in messages:  # the most frequent first
            if isinstance(message, Submit):
                if len(waiting) >= MAX_OUTSTANDING:
                    refusal = QueueFull("too many requests of this edge wait; try again later")
                    link.send(wire.failed(message.id, refusal))
                    continue
                answer = partial(_answer, link, waiting, message.id)
                ticket = waiting[message.id] = Ticket(answer)
                self._engine.take(message.submission, ticket)
            elif isinstance(message, EdgeTimed):
                self._engine.report(message)
            elif isinstance(message, Cancel):
                if message.id in waiting:
                    waiting[message.id].cancel()
            elif isinstance(message, EdgeRefused | JobsSeen):
                self._engine.report(message)
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
