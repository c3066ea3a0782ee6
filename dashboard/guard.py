"""ASGI: what stands before the dashboard, so that no other page uses it or puts it in a frame."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dashboard.hosts import KnownHosts, parse_host, same_origin

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FORBIDDEN = 403
POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
MOST_SHOWN = 100  # letters of a header, in an answer and in the log
PROTECTION = (
    # In another page's frame, a reader would press our buttons without seeing them.
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)

_log = logging.getLogger(__name__)


class Guard:
    """Answers 403 where the Host is not known, or the Origin is not a page of that Host.

    `health_path` is answered under any name: probes ask by a pod's address, and it tells nothing.
    """

    def __init__(self, app: App, *, hosts: KnownHosts, health_path: str) -> None:
        self._app = app
        self._hosts = hosts
        self._health_path = health_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            _log.warning("refused: %s", problem)
            await _refuse(scope, send, problem)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _protected(send))

    def _problem(self, scope: Scope) -> str | None:
        """Why there is no answer, and what to do."""
        is_websocket = scope["type"] == "websocket"
        if not is_websocket and scope["path"] == self._health_path:
            return None
        names, origins = _all(scope, b"host"), _all(scope, b"origin")
        host = parse_host(names[0]) if len(names) == 1 else None
        address, port = scope.get("server") or ("", 0)
        if host is None or (host, address, port or 0) not in self._hosts:
            return (
                f"this dashboard is not known as {_shown(names)}; open it by its own address,"
                " or have HEADWAY_HOSTS name this one too"
            )
        if not origins:
            return (
                "a websocket must name the page that opens it, by Origin" if is_websocket else None
            )
        if len(origins) != 1 or same_origin(origins[0], host) is None:
            return f"a page of {_shown(origins)} may not use the dashboard at {_shown(names)}"
        return None


async def _refuse(scope: Scope, send: Send, problem: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "not known"})
        return
    body = f"headway: {problem}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *PROTECTION,
    ]
    await send({"type": "http.response.start", "status": FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _protected(send: Send) -> Send:
    ours = {name for name, _ in PROTECTION}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [each for each in message["headers"] if bytes(each[0]).lower() not in ours]
            message = {**message, "headers": [*others, *PROTECTION]}
        await send(message)

    return sending


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _shown(values: list[str]) -> str:
    """On one line, whoever sent them."""
    return ascii(", ".join(values)[:MOST_SHOWN]) if values else "nobody"
