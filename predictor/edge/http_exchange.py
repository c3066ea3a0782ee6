"""A v2 request and its answer over HTTP, as an exchange of the lifecycle."""

import asyncio
from typing import Any, TypeVar

from predictor.core.errors import InvalidRequest
from predictor.edge import http_codec
from predictor.edge.asgi import Headers, Receive, Scope, Send
from predictor.edge.bodies import Bodies
from predictor.edge.exchange import TIER_HEADER, TIMEOUT_HEADER, Call, call_from_headers
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest
from predictor.edge.watch import Watchers, watched

_TIER = TIER_HEADER.encode()
_TIMEOUT = TIMEOUT_HEADER.encode()
_JSON_LENGTH = b"inference-header-content-length"

T = TypeVar("T")
AnswerHeaders = list[tuple[bytes, bytes]]


class HttpExchange:
    """An `Exchange` over ASGI. It notices a client that hangs up while it waits."""

    __slots__ = (
        "_bodies",
        "_receive",
        "_send",
        "_watchers",
        "body",
        "headers",
        "model",
        "paced",
        "protocol",
        "version",
    )

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
        self.protocol = "http"
        self.paced = True
        self.model = model
        self.version = version
        self.headers: Headers = dict(scope["headers"])
        self.body = b""
        self._receive = receive
        self._send = send
        self._bodies = bodies
        self._watchers = watchers

    async def receive(self) -> None:
        self.body = await self._bodies.whole(self.headers, self._receive)

    def decode(self, codec: TaskCodec) -> InferRequest:
        body, self.body = self.body, b""
        return http_codec.decode_request(body, _json_length(self.headers), self.model, self.version)

    def call(self) -> Call:
        tier = self.headers.get(_TIER)
        timeout = self.headers.get(_TIMEOUT)
        return call_from_headers(
            None if tier is None else tier.decode("latin-1"),
            None if timeout is None else timeout.decode("latin-1"),
        )

    async def wait(self, future: asyncio.Future[T]) -> T:
        return await watched(future, self._receive, self._watchers)

    def encode(self, answer: InferAnswer, request: InferRequest) -> Any:
        return http_codec.encode_answer(answer, request)

    async def send(self, encoded: Any) -> None:
        if encoded.json_length is None:
            await self.send_body(encoded.body, [(b"content-type", http_codec.JSON_TYPE)])
        else:
            headers = [
                (b"content-type", http_codec.BINARY_TYPE),
                (_JSON_LENGTH, b"%d" % encoded.json_length),
            ]
            await self.send_body(encoded.body, headers)

    async def send_body(self, body: bytes, headers: AnswerHeaders) -> None:
        """An answer of status 200, whole."""
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
