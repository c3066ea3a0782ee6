"""The SDK's HTTP server on a socket of ours, with our statuses in its app."""

import contextlib
import logging
import socket
import warnings
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from kserve import errors as sdk_errors
from kserve.protocol.rest.server import RESTServer
from starlette.exceptions import HTTPException

from predictor.core.errors import HeadwayError, InvalidRequest, Unavailable, UnknownModel
from predictor.edge.asgi import AsgiApp
from predictor.edge.front import Front
from predictor.edge.http_protocol import EdgeHttpProtocol
from predictor.edge.http_rim import HttpRim
from predictor.edge.statuses import INTERNAL, INTERNAL_MESSAGE, error_body, retry_after, status_of

_LOG = logging.getLogger("headway.edge")
_NOT_FOUND = 404
_NOT_IMPLEMENTED = 501


class EdgeRestServer(RESTServer):
    """Runs an app (see http) on an open socket; signals are the caller's business."""

    def __init__(
        self,
        app: AsgiApp,
        data_plane: object,
        repository: object,
        *,
        grace_s: float,
        rim: HttpRim,
        ssl_certfile: str | None,
        ssl_keyfile: str | None,
    ) -> None:
        super().__init__(
            Front(app),
            data_plane,
            repository,
            0,  # the port is the socket's
            grace_period=grace_s,
            event_loop="uvloop",
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
        )
        self.config.http = partial(EdgeHttpProtocol, rim=rim)
        self.config.ws = "none"
        self.config.interface = "asgi3"
        self.config.proxy_headers = False  # nothing here asks who the client is
        self.config.server_header = False  # each header costs, and this one tells nothing
        # uvicorn would take over the signals, and end gRPC only after HTTP.
        self._server.capture_signals = contextlib.nullcontext

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on `sockets` until `stop`, then drain."""
        # The SDK's choice of response class is none of the user's concern.
        warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
        self.create_application()
        # A line for each request costs more than the request.
        access = logging.getLogger("uvicorn.access")
        access.handlers = []
        access.propagate = False
        await self._server.serve(sockets=sockets)
        if self._server.force_exit:  # it leaves this out, and the app would end with a trace
            await self._server.lifespan.shutdown()

    def stop(self) -> None:
        """Accept nothing new, let requests in flight end. A second call ends them at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True

    def _add_middlewares(self, app: FastAPI) -> None:
        """None: the SDK's times and logs each request."""
        app.router.redirect_slashes = False  # Front leaves slashes out

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        for kind, handler in (
            (HeadwayError, _headway_error),
            (sdk_errors.ModelNotFound, _model_not_found),
            (sdk_errors.ModelNotReady, _not_ready),
            (sdk_errors.ServerNotReady, _not_ready),
            (sdk_errors.InvalidInput, _invalid_input),
            (NotImplementedError, _not_implemented),
            (HTTPException, _http_exception),
            (RequestValidationError, _validation_error),
            (Exception, _internal_error),
        ):
            app.add_exception_handler(kind, handler)


async def _headway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HeadwayError)
    seconds = retry_after(error)
    headers = {} if seconds is None else {"retry-after": seconds}
    return _response(status_of(error).http, error.message, headers)


async def _model_not_found(request: Request, error: Exception) -> Response:
    return await _headway_error(request, UnknownModel(str(error)))


async def _not_ready(request: Request, error: Exception) -> Response:
    return await _headway_error(request, Unavailable(str(error)))


async def _invalid_input(request: Request, error: Exception) -> Response:
    return await _headway_error(request, InvalidRequest(str(error)))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = (
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:3]
    )
    return await _headway_error(request, InvalidRequest("; ".join(problems)))


async def _not_implemented(_: Request, error: Exception) -> Response:
    return _response(_NOT_IMPLEMENTED, str(error), {})


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == _NOT_FOUND:
        message = f"nothing is served at {request.url.path[:128]}; GET /v2/models lists the models"
    return _response(error.status_code, message, dict(error.headers or {}))


async def _internal_error(_: Request, error: Exception) -> Response:
    _LOG.error("a request failed", exc_info=error)
    return _response(INTERNAL.http, INTERNAL_MESSAGE, {})


def _response(status: int, message: str, headers: dict[str, str]) -> Response:
    return Response(error_body(message), status, headers, media_type="application/json")
