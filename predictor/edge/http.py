"""The ASGI callable around the SDK's app.

It answers `/v2/models/{m}/infer` and `/metrics` itself, because the SDK spends several
times as long on a request as the work takes, and hands everything else on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from http import HTTPStatus
from time import monotonic
from typing import Any

from predictor.core.errors import HeadwayError, InvalidRequest, RequestTooLarge, Unavailable
from predictor.edge import http_codec
from predictor.edge.service import (
    TIER_HEADER,
    TIMEOUT_HEADER,
    Call,
    InferService,
    Pending,
    timeout_from_header,
)
from predictor.edge.statuses import INTERNAL_MESSAGE, error_body, retry_after, status_of
from predictor.engine.port import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]

_LOG = logging.getLogger("headway.edge")
_PREFIX = "/v2/models/"
_SUFFIX = "/infer"
_V1_PREFIX = "/v1/models/"
_V1_SUFFIX = ":predict"
_DISCARDED = 4  # bodies up to this many times the limit are read to their end, then refused
_WATCH_AFTER_S = 0.02  # most requests are answered before it is worth watching the client
_TIER = TIER_HEADER.encode()
_TIMEOUT = TIMEOUT_HEADER.encode()
_JSON_LENGTH = b"inference-header-content-length"


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class EdgeApp:
    """ASGI: the hot path here, the rest in `fallback`, no body over `max_body_bytes` in either."""

    def __init__(self, service: InferService, fallback: AsgiApp, max_body_bytes: int) -> None:
        self._service = service
        self._fallback = fallback
        self._max_body_bytes = max_body_bytes
        self._watchers = _Watchers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(_PREFIX) and path.endswith(_SUFFIX):
            model = path[len(_PREFIX) : -len(_SUFFIX)]
            if model and "/" not in model:
                await self._infer(model, scope, receive, send)
                return
        if path == "/metrics":
            await self._metrics(scope, send)
            return
        await self._hand_on(scope, receive, send)

    async def _infer(self, model: str, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = self._service.arrived()
        if scope["method"] != "POST":
            await _send_not_allowed(send, "POST")
            return
        pending: Pending | None = None
        try:
            self._service.check_pace(started_s)
            headers: Headers = dict(scope["headers"])
            body = await self._body(headers, receive)
            codec = self._service.codec(model)
            request = http_codec.decode_request(body, _json_length(headers))
            pending = await self._service.submit(request, _call(model, headers, started_s), codec)
            reply = await _reply(pending.future, receive, self._watchers)
            replied_s = monotonic()
            answer = http_codec.encode_answer(
                self._service.answer(pending, reply, request.id), request
            )
            self._service.report(pending, replied_s)
        except ClientGoneError:
            return
        except HeadwayError as error:
            if pending is None:
                self._service.refused(model, "http", error)
            else:
                self._service.failed(pending, error)
            await send_error(send, error)
            return
        except Exception:
            _LOG.exception("a request to model %r failed", model)
            await _send(send, HTTPStatus.INTERNAL_SERVER_ERROR, error_body(INTERNAL_MESSAGE))
            return
        await _send_answer(send, answer)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _send_not_allowed(send, "GET, HEAD")
            return
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        try:
            body, content_type = await self._service.engine.metrics(accept)
        except HeadwayError as error:
            await send_error(send, error)
            return
        headers = [
            (b"content-type", content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body. Raises RequestTooLarge, InvalidRequest, ClientGone."""
        await self._check_announced(headers, receive)
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding != b"identity":
            raise InvalidRequest(
                f"Content-Encoding {encoding.decode('latin-1')[:32]!r} is not taken; send the body "
                "uncompressed"
            )
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body: bytes = message.get("body", b"")
        self._check_size(len(body))
        if not message.get("more_body"):
            return body
        chunks = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            self._check_size(size)
        return b"".join(chunks)

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = _v1_model(scope["path"])
        try:
            await self._check_announced(dict(scope["headers"]), receive)
            if model:  # refused here, so that it is counted
                self._service.codec(model)
        except HeadwayError as error:
            if model:
                self._service.refused(model, "v1", error)
            await send_error(send, error)
            return
        handler = asyncio.current_task()
        assert handler is not None
        watchers: list[asyncio.Task[Message]] = []
        received = 0

        def gone(watcher: asyncio.Task[Message]) -> None:
            if not watcher.cancelled():
                handler.cancel()

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self._check_size(received)
            if model and not message.get("more_body"):
                watchers.append(asyncio.get_running_loop().create_task(receive()))
                watchers[0].add_done_callback(gone)
            return message

        try:
            await self._fallback(scope, limited, send)
        except asyncio.CancelledError:
            if not any(watcher.done() for watcher in watchers):
                raise
        finally:
            for watcher in watchers:
                watcher.cancel()

    async def _check_announced(self, headers: Headers, receive: Receive) -> None:
        announced = headers.get(b"content-length")
        if announced is None or not announced.isdigit():
            return
        size = int(announced[:20])
        # A client that sends all before it reads would see a reset instead of the answer.
        if self._max_body_bytes < size <= _DISCARDED * self._max_body_bytes and (
            b"expect" not in headers
        ):
            while (await receive()).get("more_body"):
                pass
        self._check_size(size)

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise RequestTooLarge(
                f"the body is over {self._max_body_bytes} bytes; send fewer rows in a request"
            )


def _v1_model(path: str) -> str:
    """The model that a V1 predict names; empty for any other path."""
    if path.startswith(_V1_PREFIX) and path.endswith(_V1_SUFFIX):
        return path[len(_V1_PREFIX) : -len(_V1_SUFFIX)]
    return ""


def _json_length(headers: Headers) -> int | None:
    value = headers.get(_JSON_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest("Inference-Header-Content-Length: must be a number of bytes")
    return int(value)


def _call(model: str, headers: Headers, started_s: float) -> Call:
    tier = headers.get(_TIER)
    timeout = headers.get(_TIMEOUT)
    return Call(
        model,
        "http",
        started_s,
        None if tier is None else tier.decode("latin-1"),
        None if timeout is None else timeout_from_header(timeout.decode("latin-1")),
    )


class _Watch:
    """Cancels a future when the client hangs up, once `start` was called."""

    __slots__ = ("_ended", "_future", "_receive", "_task")

    def __init__(self, future: asyncio.Future[Reply], receive: Receive) -> None:
        self._future = future
        self._receive = receive
        self._ended = False
        self._task: asyncio.Task[Message] | None = None

    @property
    def gone(self) -> bool:
        return self._task is not None and self._task.done()

    def start(self) -> None:
        if not self._ended:
            # After the whole body, receive() returns only when the client is gone. The
            # callback hands the task to cancel() as its message, which nobody reads.
            self._task = self._future.get_loop().create_task(self._receive())
            self._task.add_done_callback(self._future.cancel)

    def end(self) -> None:
        self._ended = True
        if self._task is not None:
            self._task.cancel()


class _Watchers:
    """Starts watches a little late: the task costs as much as decoding the request, and most
    requests are answered before. One timer serves all that began to wait within its time."""

    def __init__(self) -> None:
        self._young: list[_Watch] = []

    def add(self, watch: _Watch, loop: asyncio.AbstractEventLoop) -> None:
        if not self._young:
            loop.call_later(_WATCH_AFTER_S, self._start, self._young)
        self._young.append(watch)

    def _start(self, young: list[_Watch]) -> None:
        self._young = []
        for watch in young:
            watch.start()


async def _reply(future: asyncio.Future[Reply], receive: Receive, watchers: _Watchers) -> Reply:
    """The engine's reply. Cancels the future and raises ClientGone if the client hangs up."""
    if future.done():
        return future.result()
    watch = _Watch(future, receive)
    watchers.add(watch, future.get_loop())
    try:
        return await future
    except asyncio.CancelledError:
        if watch.gone:
            raise ClientGoneError from None
        raise Unavailable("the server stopped before the request ended; try again") from None
    finally:
        watch.end()


async def _send_answer(send: Send, answer: http_codec.HttpAnswer) -> None:
    body = answer.body
    if answer.json_length is None:
        headers = [(b"content-type", http_codec.JSON_TYPE)]
    else:
        headers = [
            (b"content-type", http_codec.BINARY_TYPE),
            (_JSON_LENGTH, b"%d" % answer.json_length),
        ]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_not_allowed(send: Send, allowed: str) -> None:
    await _send(
        send,
        HTTPStatus.METHOD_NOT_ALLOWED,
        error_body(f"method not allowed; use {allowed}"),
        ((b"allow", allowed.encode()),),
    )


async def send_error(send: Send, error: HeadwayError) -> None:
    """Answer with the status, the body and, where it helps, the Retry-After of an error."""
    seconds = retry_after(error)
    extra = () if seconds is None else ((b"retry-after", seconds.encode()),)
    await _send(send, status_of(error).http, error_body(error.message), extra)


async def _send(
    send: Send, status: HTTPStatus, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    headers = [
        (b"content-type", http_codec.JSON_TYPE),
        (b"content-length", b"%d" % len(body)),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
