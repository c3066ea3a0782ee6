"""The ASGI vocabulary, and answers that every route gives."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from predictor.core.errors import BodyTimeout, HeadwayError, InvalidRequest, Unavailable
from predictor.edge.http_codec import JSON_TYPE
from predictor.edge.statuses import error_body, retry_after, status_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]


def answering_when_cut_off(app: AsgiApp) -> AsgiApp:
    """The app, with an answer to requests that the end of the server cancels.

    Without it the server would log a trace for each, and say that it was its own fault.
    """

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            await send_cut_off(send)

    return answering


async def send_cut_off(send: Send) -> None:
    """The answer to a request that the end of the server cancels."""
    with contextlib.suppress(Exception):  # it may have been answered in part
        await send_error(send, Unavailable("the server stopped; try another replica"))


def check_encoding(headers: Headers) -> None:
    """Raises InvalidRequest for a compressed body."""
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise InvalidRequest(
            f"Content-Encoding {encoding.decode('latin-1')[:32]!r} is not taken; send the body "
            "uncompressed"
        )


async def send_not_allowed(send: Send, allowed: str) -> None:
    await send_json(
        send,
        HTTPStatus.METHOD_NOT_ALLOWED,
        error_body(f"method not allowed; use {allowed}"),
        ((b"allow", allowed.encode()),),
    )


async def send_error(send: Send, error: HeadwayError) -> None:
    """Answer with the status, the body and, where it helps, the Retry-After of an error."""
    seconds = retry_after(error)
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if seconds is not None:
        extra = ((b"retry-after", seconds.encode()),)
    if isinstance(error, BodyTimeout):
        extra = (*extra, (b"connection", b"close"))  # what may still come is no request
    await send_json(send, status_of(error).http, error_body(error.message), extra)


async def send_json(
    send: Send, status: HTTPStatus, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    headers = [
        (b"content-type", JSON_TYPE),
        (b"content-length", b"%d" % len(body)),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
