"""A v2 request and its answer over gRPC, as an exchange of the lifecycle."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from grpc import aio
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.edge import grpc_codec
from predictor.edge.exchange import TIER_HEADER, TIMEOUT_HEADER, Call, call_from_headers
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest

T = TypeVar("T")


class GrpcExchange:
    """An `Exchange` of one request. A client that leaves cancels its task."""

    __slots__ = ("_context", "_request", "answer", "model", "version")

    protocol = "grpc"
    paced = True

    def __init__(self, request: pb.ModelInferRequest, context: aio.ServicerContext) -> None:
        self.model: str = request.model_name
        self.version: str = request.model_version
        self.answer: pb.ModelInferResponse | None = None
        self._request = request
        self._context = context

    async def receive(self) -> pb.ModelInferRequest:
        return self._request  # it was handed over whole

    def size(self, body: pb.ModelInferRequest) -> int:
        return int(body.ByteSize())

    def decode(self, body: pb.ModelInferRequest, codec: TaskCodec) -> InferRequest:
        return grpc_codec.decode_request(body)

    def call(self) -> Call:
        headers = dict(self._context.invocation_metadata() or ())
        tier, timeout = headers.get(TIER_HEADER), headers.get(TIMEOUT_HEADER)
        call = call_from_headers(
            None if tier is None else str(tier), None if timeout is None else str(timeout)
        )
        remaining_s = self._context.time_remaining()
        if remaining_s is None or (call.timeout_s is not None and call.timeout_s <= remaining_s):
            return call
        return Call(call.tier, remaining_s)

    def wait(self, future: asyncio.Future[T]) -> Awaitable[T]:
        return future

    def encode(self, answer: InferAnswer, request: InferRequest) -> pb.ModelInferResponse:
        return grpc_codec.encode_answer(answer, request)

    async def send(self, encoded: pb.ModelInferResponse) -> None:
        self.answer = encoded  # the method returns it
