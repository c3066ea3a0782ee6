"""Answers in parts over HTTP: server-sent events, one write for what a turn brought."""

import asyncio
from collections.abc import Sequence
from typing import Any

from predictor.core.errors import HeadwayError
from predictor.edge.exchange import ClientGoneError
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change, Texts
from predictor.edge.http_exchange import HttpExchange

EVENTS_TYPE = b"text/event-stream; charset=utf-8"
_HEADERS = [
    (b"content-type", EVENTS_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect what is to be seen at once
]


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class EventStream(HttpExchange):
    """An `Exchange` that may answer in server-sent events. What they hold is for subclasses."""

    __slots__ = ("_started", "_texts")

    def begin(self, request: GenerateRequest, texts: Texts) -> None:
        self._texts = texts
        self._started = False

    def encode_part(self, changes: Sequence[Change]) -> bytes:
        raise NotImplementedError

    def last_events(self) -> bytes:
        """What ends a stream that went well."""
        return b""

    def error_event(self, error: HeadwayError) -> bytes:
        raise NotImplementedError

    async def send_part(self, encoded: bytes) -> None:
        if not encoded:
            return
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        message = {"type": "http.response.body", "body": encoded, "more_body": True}
        try:
            async with asyncio.timeout(self._bodies.idle_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGoneError from None

    async def end(self) -> None:
        await self.send_part(self.last_events())
        await self._send({"type": "http.response.body", "body": b""})

    async def send_error(self, error: HeadwayError) -> None:
        """A status, or, where the stream has begun, an event."""
        if getattr(self, "_started", False):
            await self.send_part(self.error_event(error))
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self.send_refusal(error)

    async def send_refusal(self, error: HeadwayError) -> Any:
        await HttpExchange.send_error(self, error)
