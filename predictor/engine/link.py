"""One end of the socket between an edge and an engine: lists of messages in and out.

What is said in one turn of the event loop leaves as one frame at its end.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from predictor.engine import wire
from predictor.engine.wire import FrameReader, FromEdge, FromEngine, WireError

_LOG = logging.getLogger("headway.engine")

In = TypeVar("In")
Out = TypeVar("Out", bound=FromEdge | FromEngine)


class Link(asyncio.Protocol, Generic[In, Out]):
    """The owner is told by three callbacks, on the event loop."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[list[In]],
        *,
        opened: "Callable[[Link[In, Out]], None]",
        received: "Callable[[Link[In, Out], list[In]], None]",
        closed: "Callable[[Link[In, Out]], None]",
        max_unsent_bytes: int,
    ) -> None:
        """More than `max_unsent_bytes` that the other side does not read ends the link."""
        self._reader = FrameReader(decoder)
        self._opened = opened
        self._received = received
        self._closed = closed
        self._max_unsent_bytes = max_unsent_bytes
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outbox: list[Out] = []

    def send(self, message: Out) -> None:
        """Have this sent at the end of the turn. Nothing happens on a closed link."""
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.append(message)

    def flush(self) -> None:
        """Send now what was kept for the end of the turn."""
        messages, self._outbox = self._outbox, []
        if not messages or self._transport is None or self._transport.is_closing():
            return
        try:
            frame = wire.encode(messages)
        except Exception:  # whoever waits for one of them must not wait for ever
            _LOG.exception("a connection between edge and engine is given up")
            self.abort()
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > self._max_unsent_bytes:
            _LOG.error("the other side of a connection between edge and engine does not read")
            self.abort()

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet, before this turn."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def pause(self) -> None:
        """Read no more, so that the other side is slowed down, until `resume`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what there is, then close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except WireError as error:
            _LOG.error("a connection between edge and engine is given up: %s", error)
            self.abort()
            return
        if messages:
            self._received(self, messages)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closed(self)
