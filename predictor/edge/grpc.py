"""gRPC v2: the SDK's server and servicer with our own ModelInfer and our statuses."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, NoReturn

import grpc
from grpc import aio
from kserve import errors as sdk_errors
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from predictor.core.errors import HeadwayError, StartupError
from predictor.edge import grpc_codec
from predictor.edge.grpc_options import service_handler
from predictor.edge.service import (
    TIER_HEADER,
    TIMEOUT_HEADER,
    Call,
    InferService,
    Pending,
    timeout_from_header,
)
from predictor.edge.statuses import INTERNAL, INTERNAL_MESSAGE, retry_after, status_of

_LOG = logging.getLogger("headway.edge")
_MESSAGE_BYTES = 1 << 10  # of an error
_LAST_ANSWERS_S = 1.0  # for answers that were given but not sent yet
_SDK_STATUSES: dict[type[Exception], grpc.StatusCode] = {
    sdk_errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    sdk_errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    sdk_errors.ServerNotReady: grpc.StatusCode.UNAVAILABLE,
    sdk_errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
}


class EdgeServicer(InferenceServicer):
    """Answers ModelInfer itself; the SDK's other methods get the statuses they lack."""

    def __init__(self, service: InferService, data_plane: object, repository: object) -> None:
        super().__init__(data_plane, repository)
        self._service = service
        self._in_flight = 0
        self.idle = asyncio.Event()  # set while no ModelInfer is in flight
        self.idle.set()

    async def ModelInfer(  # noqa: N802 - the protocol's name
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        self._in_flight += 1
        self.idle.clear()
        try:
            return await self._infer(request, context)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self.idle.set()

    async def _infer(
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        started_s = self._service.arrived()
        pending: Pending | None = None
        try:
            self._service.check_pace(started_s)
            codec = self._service.codec(request.model_name)
            decoded = grpc_codec.decode_request(request)
            call = _call(request.model_name, context, started_s)
            pending = await self._service.submit(decoded, call, codec)
            reply = await pending.future
            replied_s = monotonic()
            answer = grpc_codec.encode_answer(
                self._service.answer(pending, reply, decoded.id), decoded
            )
            self._service.report(pending, replied_s)
        except Exception as error:
            if pending is not None:
                self._service.failed(pending, error)
            elif isinstance(error, HeadwayError):
                self._service.refused(request.model_name, "grpc", error)
            await _abort(context, error)
        return answer

    async def ServerMetadata(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ServerMetadata(request, context), context)

    async def ServerReady(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ServerReady(request, context), context)

    async def ModelReady(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ModelReady(request, context), context)

    async def ModelMetadata(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ModelMetadata(request, context), context)

    async def RepositoryModelLoad(  # noqa: N802
        self, request: Any, context: aio.ServicerContext
    ) -> Any:
        return await _mapped(super().RepositoryModelLoad(request, context), context)

    async def RepositoryModelUnload(  # noqa: N802
        self, request: Any, context: aio.ServicerContext
    ) -> Any:
        return await _mapped(super().RepositoryModelUnload(request, context), context)


def _call(model: str, context: aio.ServicerContext, started_s: float) -> Call:
    headers = dict(context.invocation_metadata() or ())
    timeout = headers.get(TIMEOUT_HEADER)
    timeout_s = None if timeout is None else timeout_from_header(str(timeout))
    remaining_s = context.time_remaining()
    if remaining_s is not None and (timeout_s is None or remaining_s < timeout_s):
        timeout_s = remaining_s
    tier = headers.get(TIER_HEADER)
    return Call(model, "grpc", started_s, None if tier is None else str(tier), timeout_s)


async def _mapped(method: Awaitable[Any], context: aio.ServicerContext) -> Any:
    try:
        return await method
    except Exception as error:
        await _abort(context, error)


async def _abort(context: aio.ServicerContext, error: Exception) -> NoReturn:
    """End the call with the status of `error`."""
    if isinstance(error, HeadwayError):
        seconds = retry_after(error)
        trailing = () if seconds is None else (("retry-after", seconds),)
        await context.abort(status_of(error).grpc, _short(error.message), trailing)
    for kind, code in _SDK_STATUSES.items():
        if isinstance(error, kind):
            await context.abort(code, _short(str(error)))
    _LOG.error("a gRPC call failed", exc_info=error)
    await context.abort(INTERNAL.grpc, INTERNAL_MESSAGE)
    raise AssertionError("abort raises")


def _short(message: str) -> str:
    """What fits the trailers, of which a client takes 8 KiB: each byte may become three."""
    cut = message.encode()[:_MESSAGE_BYTES].decode(errors="ignore")
    return message if len(cut) == len(message) else cut + "…"


class EdgeGrpcServer(GRPCServer):
    """The SDK's server, without its log line and interceptors for each call."""

    def __init__(
        self,
        servicer: EdgeServicer,
        address: str,
        *,
        options: Sequence[tuple[str, int]],
        grace_s: float,
    ) -> None:
        """`address` is host:port; the port must have been found free before."""
        self._servicer = servicer
        self._address = address
        self._options = options
        self._grace_s = grace_s
        self._stopping = False
        self._server: aio.Server | None = None

    async def start(self, max_workers: int) -> None:
        """Serve until `stop`. Raises StartupError if the address cannot be had."""
        if self._stopping:
            return
        self._server = aio.server(ThreadPoolExecutor(max_workers), options=self._options)
        self._server.add_generic_rpc_handlers((service_handler(self._servicer),))
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise StartupError(
                f"cannot serve gRPC on {self._address}: {error}; choose another --grpc_port"
            ) from None
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop(self, sig: int | None = None) -> None:
        """Let calls in flight end within the grace period, then close.

        New calls are taken until then, for the servicer to say that the server drains: the
        library would end some of them as cancelled. A second call of this ends all at once.
        """
        again, self._stopping = self._stopping, True
        if self._server is None:
            return
        if again:
            await self._server.stop(None)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._servicer.idle.wait(), self._grace_s)
        await self._server.stop(_LAST_ANSWERS_S)
