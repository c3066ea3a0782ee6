"""The ASGI callable around the SDK's app.

It answers `/v2/models/{m}/infer` and `/metrics` itself, because the SDK spends several
times as long on a request as the work takes, and hands everything else on.
"""

import asyncio
import logging
from http import HTTPStatus
from time import monotonic

from predictor.core.errors import HeadwayError, InvalidRequest, RequestTooLarge
from predictor.core.jobs import Jobs
from predictor.edge import http_codec
from predictor.edge.asgi import (
    AsgiApp,
    ClientGoneError,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    check_encoding,
    send_error,
    send_json,
    send_not_allowed,
)
from predictor.edge.jobs import JobRoutes
from predictor.edge.service import (
    TIER_HEADER,
    TIMEOUT_HEADER,
    Call,
    InferService,
    Pending,
    timeout_from_header,
)
from predictor.edge.statuses import INTERNAL_MESSAGE, error_body
from predictor.edge.watch import Watchers, reply_of

_LOG = logging.getLogger("headway.edge")
_PREFIX = "/v2/models/"
_SUFFIX = "/infer"
_V1_PREFIX = "/v1/models/"
_V1_SUFFIX = ":predict"
_DISCARDED = 4  # bodies up to this many times the limit are read to their end, then refused
_TIER = TIER_HEADER.encode()
_TIMEOUT = TIMEOUT_HEADER.encode()
_JSON_LENGTH = b"inference-header-content-length"


class EdgeApp:
    """ASGI: the hot path here, the rest in `fallback`, no body over `max_body_bytes` in either."""

    def __init__(
        self,
        service: InferService,
        fallback: AsgiApp,
        max_body_bytes: int,
        jobs: Jobs | None = None,
        job_owner_header: str = "",
    ) -> None:
        """`jobs`: where they are kept; None where they are not."""
        self._service = service
        self._fallback = fallback
        self._max_body_bytes = max_body_bytes
        self._watchers = Watchers()
        self._jobs = JobRoutes(service, jobs, job_owner_header)

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
        if self._jobs.takes(path):
            await self._jobs(scope, receive, send)
            return
        await self._hand_on(scope, receive, send)

    async def _infer(self, model: str, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = self._service.arrived()
        if scope["method"] != "POST":
            await send_not_allowed(send, "POST")
            return
        pending: Pending | None = None
        try:
            self._service.check_pace(started_s)
            headers: Headers = dict(scope["headers"])
            body = await self._body(headers, receive)
            codec = self._service.codec(model)
            request = http_codec.decode_request(body, _json_length(headers))
            pending = await self._service.submit(request, _call(model, headers, started_s), codec)
            reply = await reply_of(pending.future, receive, self._watchers)
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
            await send_json(send, HTTPStatus.INTERNAL_SERVER_ERROR, error_body(INTERNAL_MESSAGE))
            return
        await _send_answer(send, answer)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await send_not_allowed(send, "GET, HEAD")
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
        check_encoding(headers)
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
