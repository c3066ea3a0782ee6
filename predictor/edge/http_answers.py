"""How an answer leaves, where uvicorn's way is not right."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from predictor.edge.asgi import AsgiApp, Message, Receive, Scope, Send
from predictor.edge.heads import Refusal
from predictor.edge.statuses import error_body

STATUS_BEGINS = b"HTTP/1.1 "  # whatever the status


class Http10Cycle(RequestResponseCycle):
    """To HTTP/1.0, which knows no chunks: without a length the answer ends with the connection."""

    _unframed = False

    async def send(self, message: Any) -> None:
        if not self.response_started and message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", ())]
            self._unframed = b"content-length" not in names and self.scope["method"] != "HEAD"
            if self._unframed:
                self.chunked_encoding = True  # keeps uvicorn from naming an encoding
            await super().send(message)
        elif self._unframed and not self.response_complete:
            await self._send_unframed(message)
        else:
            await super().send(message)

    async def _send_unframed(self, message: Message) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.response_complete = True
            self.message_event.set()
            self.transport.close()
            self.on_response()


class Begun:
    """A transport to which `STATUS_BEGINS` was written already."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._owed = len(STATUS_BEGINS)

    def write(self, data: bytes) -> None:
        self._transport.write(data[self._owed :])
        self._owed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Lingering:
    """A transport whose `close` lets the client read the answer before it sees a reset."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def refusing(refusal: Refusal) -> AsgiApp:
    """An app that answers so."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        body = error_body(refusal.message)
        headers = [*refusal.headers(), (b"content-length", b"%d" % len(body))]
        status = refusal.status or HTTPStatus.BAD_REQUEST
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
