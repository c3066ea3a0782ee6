"""A v2 request and its answer over HTTP, as an exchange of the lifecycle."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from predictor.core.errors import HeadwayError, InvalidRequest
from predictor.edge import http_codec
from predictor.edge.asgi import Headers, Receive, Scope, Send, send_cut_off, send_error
from predictor.edge.bodies import Bodies
from predictor.edge.exchange import (
    TIER_HEADER,
    TIMEOUT_HEADER,
    Call,
    ClientGoneError,
    call_from_headers,
)
from predictor.edge.lifecycle import Lifecycle
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest
from predictor.edge.watch import Watchers, watched

_TIER = TIER_HEADER.encode()
_TIMEOUT = TIMEOUT_HEADER.encode()

_JSON_LENGTH = b"inference-header-content-length"
_NOTHING_ASKED = Call()

T = TypeVar("T")
AnswerHeaders = list[tuple[bytes, bytes]]


class HttpExchange:
    """An `Exchange` over ASGI. It notices a client that hangs up while it waits."""

    __slots__ = ("_bodies", "_receive", "_send", "_watchers", "headers", "model", "version")

    protocol = "http"
    paced = True

    def __init__(
        self,
        model: str,
        version: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        bodies: Bodies,
        watchers: Watchers,
    ) -> None:
        self.model = model
        self.version = version
        self.headers: Headers = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._bodies = bodies
        self._watchers = watchers

    def receive(self) -> Awaitable[bytes]:
        return self._bodies.whole(self.headers, self._receive)

    def size(self, body: bytes) -> int:
        return len(body)

    def decode(self, body: bytes, codec: TaskCodec) -> InferRequest:
        return http_codec.decode_request(body, _json_length(self.headers), self.model, self.version)

    def call(self) -> Call:
        tier = self.headers.get(_TIER)
        timeout = self.headers.get(_TIMEOUT)
        if tier is None and timeout is None:
            return _NOTHING_ASKED
        return call_from_headers(
            None if tier is None else tier.decode("latin-1"),
            None if timeout is None else timeout.decode("latin-1"),
        )

    def wait(self, future: asyncio.Future[T]) -> Awaitable[T]:
        return watched(future, self._receive, self._watchers)

    def encode(self, answer: InferAnswer, request: InferRequest) -> Any:
        return http_codec.encode_answer(answer, request)

    def send(self, encoded: Any) -> Awaitable[None]:
        if encoded.json_length is None:
            headers = [(b"content-type", http_codec.JSON_TYPE)]
        else:
            headers = [
                (b"content-type", http_codec.BINARY_TYPE),
                (_JSON_LENGTH, b"%d" % encoded.json_length),
            ]
        return self.send_whole(encoded.body, headers)

    async def run(self, lifecycle: Lifecycle) -> None:
        """Go through the lifecycle, and answer with what it refuses, or when it is cut off."""
        try:
            try:
                await lifecycle.run(self)
            except ClientGoneError:
                return
            except HeadwayError as error:
                await self.send_error(error)
        except asyncio.CancelledError:
            await send_cut_off(self._send)

    async def send_error(self, error: HeadwayError) -> None:
        """An answer that says what went wrong."""
        await send_error(self._send, error)

    async def send_whole(self, body: bytes, headers: AnswerHeaders) -> None:
        """An answer of status 200. `headers` say what the body is."""
        headers.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _json_length(headers: Headers) -> int | None:
    value = headers.get(_JSON_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest("Inference-Header-Content-Length: must be a number of bytes")
    return int(value)
