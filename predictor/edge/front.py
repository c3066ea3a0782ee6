"""What every HTTP request passes before its route: so that each route has one form only.

HEAD is answered as GET is, without the body. A slash at the end of a path is left out: the
SDK's app would redirect, to http:// also where TLS ends in front of this server. A slash within a
name (`%2F`) names nothing. A compressed body is decompressed.
"""

from collections.abc import Awaitable
from http import HTTPStatus

from predictor.edge.asgi import AsgiApp, Receive, Scope, Send, send_json
from predictor.edge.content_encoding import ENCODINGS, decompressed
from predictor.edge.statuses import error_body

_PROBES = {"/", "/metrics", "/v2/health/live", "/v2/health/ready"}
_UNCOMPRESSED = "identity"
_ENCODINGS = {"gzip", "x-gzip", "deflate"}


class Front:
    """ASGI: hands plain requests on to `app`."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        path: str = scope["path"]
        if path[-1:] == "/" != path:
            scope = {**scope, "path": path[:-1]}
        raw_path: bytes = scope["raw_path"]
        if b"%" in raw_path and b"%2f" in raw_path.lower():
            return _unknown_path(send)
        if scope["method"] == "HEAD":
            # The server leaves out the body, by the scope that it holds itself.
            scope = {**scope, "method": "GET"}
        encoding = dict(scope["headers"]).get(b"content-encoding")
        if encoding is not None:
            return self._decompress(encoding, scope, receive, send)
        return self._app(scope, receive, send)

    async def _decompress(
        self, encoding: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        name = encoding.decode("latin-1").strip().lower()
        headers = [entry for entry in scope["headers"] if entry[0] != b"content-encoding"]
        if len(scope["headers"]) - len(headers) > 1:
            name = "several"
        if name not in _ENCODINGS | {_UNCOMPRESSED}:
            await send_json(
                send,
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                error_body(
                    f"Content-Encoding {name[:32]!r} is not read; use one of {ENCODINGS}, or none"
                ),
                ((b"accept-encoding", ENCODINGS.encode()),),
            )
            return
        if name == _UNCOMPRESSED:
            await self._app({**scope, "headers": headers}, receive, send)
            return
        headers = [entry for entry in headers if entry[0] != b"content-length"]  # the compressed
        await self._app({**scope, "headers": headers}, decompressed(receive, name), send)


def is_probe(method: str, path: str) -> bool:
    """Whether a request asks for no more than whether this server lives, and its metrics."""
    if method not in {"GET", "HEAD"}:
        return False
    return path in _PROBES or (path.startswith("/v2/models/") and path.endswith("/ready"))


async def _unknown_path(send: Send) -> None:
    await send_json(
        send,
        HTTPStatus.NOT_FOUND,
        error_body("no such job, model or path: no name has a slash (%2F) in it"),
    )
