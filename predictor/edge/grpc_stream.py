"""ModelStreamInfer, as Triton's clients call it: requests and answers on one stream of gRPC.

Requests of a stream run side by side, each through the lifecycle, and their answers are told
apart by their ids. Generated text comes in parts, each a response; other answers are one. A client
that ends its side gets what it has asked for; one that cancels the call ends its rows.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import msgspec
from grpc import aio
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import HeadwayError
from predictor.edge import grpc_codec, grpc_messages
from predictor.edge.exchange import ClientGoneError
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change, Texts
from predictor.edge.generation_codec import GenerationCodec, prepared
from predictor.edge.grpc_exchange import GrpcExchange
from predictor.edge.in_flight import InFlight
from predictor.edge.service import InferService
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferRequest

_MAX_REQUESTS = 256  # in flight on one stream; the next is read when one of them has ended
_ASKS_FINAL = "triton_enable_empty_final_response"
_FINAL = "triton_final_response"

Write = Callable[[pb.ModelInferResponse, str], Awaitable[None]]


class StreamInfer:
    """The method."""

    def __init__(
        self,
        service: InferService,
        in_flight: InFlight,
        idle_s: float,
        response: Callable[..., Any],
    ) -> None:
        """`idle_s`: for how long a client may read nothing. `response` makes the message of
        Triton, whose `infer_response` is here the bytes of one of the SDK's."""
        self._service = service
        self._in_flight = in_flight
        self._idle_s = idle_s
        self._response = response

    async def serve(self, requests: AsyncIterator[bytes], context: aio.ServicerContext) -> None:
        places = asyncio.Semaphore(_MAX_REQUESTS)
        writing = asyncio.Lock()  # the library takes one message at a time
        reads = True

        async def write(answer: pb.ModelInferResponse, error: str = "") -> None:
            nonlocal reads
            message = self._response(error_message=error, infer_response=answer.SerializeToString())
            async with writing:
                if not reads:  # the library still holds the message that was not taken
                    raise ClientGoneError
                try:
                    async with asyncio.timeout(self._idle_s):
                        await context.write(message)
                except TimeoutError:
                    reads = False
                    raise ClientGoneError from None
                except (aio.InternalError, aio.UsageError):  # the connection is gone
                    raise ClientGoneError from None

        async def answer(sent: bytes) -> None:
            try:
                with self._in_flight:
                    await self._answer(sent, context, write)
            finally:
                places.release()

        gone = False
        try:
            async with asyncio.TaskGroup() as group:
                await places.acquire()
                async for sent in requests:
                    group.create_task(answer(sent))
                    await places.acquire()
        except* ClientGoneError:
            gone = True
        if gone:  # not above: what is raised there comes in a group, which nobody expects
            await context.abort(
                grpc.StatusCode.CANCELLED, f"no answer was read for {self._idle_s:g} s"
            )

    async def _answer(self, sent: bytes, context: aio.ServicerContext, write: Write) -> None:
        head = pb.ModelInferResponse()
        try:
            request = await grpc_messages.read(pb.ModelInferRequest, sent)
            head.id, head.model_name = request.id, request.model_name
            await self._service.lifecycle.run(_StreamedExchange(request, context, write))
        except HeadwayError as error:
            await write(head, error.message)


class _StreamedExchange(GrpcExchange):
    """A `StreamingExchange` of one request of a stream."""

    __slots__ = ("_asked", "_asks_final", "_texts", "_unfinished", "_write")

    def __init__(
        self, request: pb.ModelInferRequest, context: aio.ServicerContext, write: Write
    ) -> None:
        super().__init__(request, context)
        self._write = write
        self._asks_final = False

    def decode(self, body: pb.ModelInferRequest, codec: TaskCodec) -> InferRequest:
        asked = body.parameters.get(_ASKS_FINAL)
        if asked is not None and asked.WhichOneof("parameter_choice") == "bool_param":
            self._asks_final = asked.bool_param
            del body.parameters[_ASKS_FINAL]
        request = prepared(super().decode(body, codec), codec)
        if isinstance(request, GenerateRequest):
            return msgspec.structs.replace(request, streams=True)
        return request

    def begin(self, request: GenerateRequest, texts: Texts) -> None:
        self._asked = request
        self._texts = texts
        self._unfinished = len(request.prompts) * request.choices

    def encode_part(self, changes: Sequence[Change]) -> list[pb.ModelInferResponse]:
        request = self._asked
        rows = len(request.prompts) * request.choices
        messages = []
        for change in changes:
            ends = change.finish is not None
            self._unfinished -= ends
            if not change.text and not ends:
                continue
            outputs = GenerationCodec.encode_change(change, self._texts.count(change.index))
            if request.wanted:
                names = {wanted.name for wanted in request.wanted}
                outputs = [output for output in outputs if output.name in names]
                if not outputs:
                    continue
            message = pb.ModelInferResponse(model_name=self.model, id=request.id)
            grpc_codec.add_outputs(message, outputs, binary=request.binary)
            if rows > 1:
                message.parameters["row"].int64_param = change.index
            self._say_whether_final(message, final=not self._unfinished)
            messages.append(message)
        return messages

    async def send_part(self, encoded: list[pb.ModelInferResponse]) -> None:
        for message in encoded:
            await self._write(message, "")

    async def end(self) -> None:
        """The last part has said so."""

    async def send(self, encoded: pb.ModelInferResponse) -> None:
        self._say_whether_final(encoded, final=True)
        await self._write(encoded, "")

    def _say_whether_final(self, message: pb.ModelInferResponse, *, final: bool) -> None:
        if self._asks_final:
            message.parameters[_FINAL].bool_param = final
