"""gRPC v2: the SDK's server and servicer with our own ModelInfer and our statuses."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from grpc import aio
from kserve import errors as sdk_errors
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from predictor.core.errors import HeadwayError, StartupError
from predictor.edge.grpc_exchange import GrpcExchange
from predictor.edge.grpc_options import service_handler
from predictor.edge.grpc_triton import TritonMethods, repository_change
from predictor.edge.in_flight import InFlight
from predictor.edge.repository import check_load, refuse_unload
from predictor.edge.service import InferService, check_version
from predictor.edge.statuses import INTERNAL, INTERNAL_MESSAGE, retry_after, status_of
from predictor.edge.tensors import DEFAULT_VERSION
from predictor.log_lines import escaped

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
        self.service = service
        self.in_flight = InFlight()

    async def ModelInfer(  # noqa: N802 - the protocol's name
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        with self.in_flight:
            return await self._infer(request, context)

    async def _infer(
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        exchange = GrpcExchange(request, context)
        try:
            await self.service.lifecycle.run(exchange)
        except HeadwayError as error:
            await _abort(context, error)
        assert exchange.answer is not None
        return exchange.answer

    async def ServerMetadata(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ServerMetadata(request, context), context)

    async def ServerReady(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        return await _mapped(super().ServerReady(request, context), context)

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, context: aio.ServicerContext
    ) -> Any:
        if request.version and request.name in self.service.names:
            ready = self.service.is_ready(request.name, request.version)
            return pb.ModelReadyResponse(ready=ready)
        return await _mapped(super().ModelReady(request, context), context)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: aio.ServicerContext
    ) -> Any:
        return await _mapped(self._metadata(request, context), context)

    async def _metadata(
        self, request: pb.ModelMetadataRequest, context: aio.ServicerContext
    ) -> pb.ModelMetadataResponse:
        metadata = await super().ModelMetadata(request, context)
        check_version(request.name, request.version)
        metadata.versions.append(DEFAULT_VERSION)
        return metadata

    async def RepositoryModelLoad(  # noqa: N802
        self, request: pb.RepositoryModelLoadRequest, context: aio.ServicerContext
    ) -> Any:
        return await _mapped(self._load(request), context)

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        change = repository_change(request)
        check_load(self.service, change.model, change.parameters)
        return pb.RepositoryModelLoadResponse(model_name=change.model, isLoaded=True)

    async def RepositoryModelUnload(  # noqa: N802
        self, request: pb.RepositoryModelUnloadRequest, context: aio.ServicerContext
    ) -> Any:
        return await _mapped(self._unload(request), context)

    async def _unload(self, request: pb.RepositoryModelUnloadRequest) -> None:
        refuse_unload(self.service, repository_change(request).model)


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
            await context.abort(code, escaped(_short(str(error))))
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
        read_idle_s: float,
        grace_s: float,
    ) -> None:
        """`address` is host:port; the port must have been found free before.

        `read_idle_s`: the client of a stream that reads nothing for so long is given up.
        """
        self._servicer = servicer
        self._address = address
        self._options = options
        self._read_idle_s = read_idle_s
        self._grace_s = grace_s
        self._stopping = False
        self._server: aio.Server | None = None

    async def start(self, max_workers: int) -> None:
        """Serve until `stop`. Raises StartupError if the address cannot be had."""
        if self._stopping:
            return
        self._server = aio.server(ThreadPoolExecutor(max_workers), options=self._options)
        servicer = self._servicer
        triton = TritonMethods(servicer.service, servicer.in_flight, self._read_idle_s)
        self._server.add_generic_rpc_handlers((service_handler(servicer), triton))
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
            await asyncio.wait_for(self._servicer.in_flight.idle.wait(), self._grace_s)
        await self._server.stop(_LAST_ANSWERS_S)
