"""The ASGI callable around the SDK's app.

It answers what carries rows itself, v2 `infer` and V1 `predict`, because the SDK spends several
times as long on a request as the work takes, and `/metrics`, jobs and the repository, because the
SDK has none of them or only a part. Health and metadata are the SDK's.
"""

import re
from collections.abc import Awaitable
from http import HTTPStatus
from urllib.parse import quote

from predictor.core.errors import HeadwayError
from predictor.core.jobs import Jobs
from predictor.edge.asgi import (
    AsgiApp,
    Message,
    Receive,
    Scope,
    Send,
    answering_when_cut_off,
    send_error,
    send_not_allowed,
)
from predictor.edge.bodies import IDLE_S, Bodies
from predictor.edge.docs import DocsRoutes
from predictor.edge.exchange import ClientGoneError
from predictor.edge.generate_routes import GenerateRoutes
from predictor.edge.http_exchange import HttpExchange
from predictor.edge.jobs import JobRoutes
from predictor.edge.openai.routes import OpenAiRoutes
from predictor.edge.repository import RepositoryRoutes
from predictor.edge.service import InferService, check_version
from predictor.edge.triton_config import ConfigRoutes
from predictor.edge.unserved import UnservedRoutes
from predictor.edge.v1 import V1Exchange
from predictor.edge.watch import Watchers

_PREFIX = "/v2/models/"
_SUFFIX = "/infer"
_VERSIONS = "/versions/"
_VERSIONED = re.compile(r"/v2/models/([^/]+)/versions/([^/]+)(/ready)?")
_V1_PREFIX = "/v1/models/"
_V1_SUFFIX = ":predict"


class EdgeApp:
    """ASGI: the hot path here, the rest in `fallback`, no body over `max_body_bytes` in either."""

    def __init__(
        self,
        service: InferService,
        fallback: AsgiApp,
        max_body_bytes: int,
        jobs: Jobs | None = None,
        body_idle_s: float = IDLE_S,
        job_owner_header: str = "",
    ) -> None:
        """`jobs`: where they are kept; None where they are not.

        `body_idle_s`: a body of which nothing came for so long is given up.
        """
        self._service = service
        self._lifecycle = service.lifecycle
        self._fallback = fallback
        self._bodies = Bodies(max_body_bytes, body_idle_s)
        self._watchers = Watchers()
        self._rest = answering_when_cut_off(self._without_rows)
        self._routes = (
            OpenAiRoutes(service, self._bodies, self._watchers),
            GenerateRoutes(service, self._bodies, self._watchers),
            ConfigRoutes(service),
            JobRoutes(service, jobs, self._bodies, job_owner_header),
            RepositoryRoutes(service, self._bodies),
            UnservedRoutes(service.names),
            DocsRoutes(sorted(service.names)),
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """No coroutine of its own: each costs a request with rows as much as a header does."""
        if scope["type"] == "http":
            exchange = self._exchange(scope, receive, send)
            if exchange is not None:
                if scope["method"] != "POST":
                    return send_not_allowed(send, "POST")
                return exchange.run(self._lifecycle)
        return self._rest(scope, receive, send)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> HttpExchange | None:
        """That of a request with rows; None for any other path."""
        path: str = scope["path"]
        if path.startswith(_PREFIX) and path.endswith(_SUFFIX):
            model, named, version = path[len(_PREFIX) : -len(_SUFFIX)].partition(_VERSIONS)
            if model and "/" not in model + version and bool(named) == bool(version):
                return HttpExchange(
                    model, version, scope, receive, send, self._bodies, self._watchers
                )
        if path.startswith(_V1_PREFIX) and path.endswith(_V1_SUFFIX):
            model = path[len(_V1_PREFIX) : -len(_V1_SUFFIX)]
            return V1Exchange(model, "", scope, receive, send, self._bodies, self._watchers)
        return None

    async def _without_rows(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        path: str = scope["path"]
        if path == "/metrics":
            await self._metrics(scope, send)
            return
        for routes in self._routes:
            if routes.takes(path):
                await routes(scope, receive, send)
                return
        await self._hand_on(scope, receive, send)

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

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        versioned = _VERSIONED.fullmatch(scope["path"])
        try:
            if versioned is not None:  # the SDK knows no versions
                model, version, ready = versioned.groups("")
                check_version(model, version)
                path = f"{_PREFIX}{model}{ready}"
                scope = {**scope, "path": path, "raw_path": quote(path).encode()}
            await self._bodies.check_announced(dict(scope["headers"]), receive)
        except ClientGoneError:
            return
        except HeadwayError as error:
            await send_error(send, error)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self._bodies.check_size(received)
            return message

        await self._fallback(scope, limited, send)
