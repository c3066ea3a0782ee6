"""Methods of gRPC v2 as Triton's clients call them, where the SDK's messages lack something.

Both call their service `inference.GRPCInferenceService`, but the SDK's has only a part of the
methods, and its repository messages have the model's name in another field.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from grpc import aio

from predictor.core.errors import HeadwayError, InvalidRequest
from predictor.edge.generation_codec import GenerationCodec
from predictor.edge.grpc_messages import parsed, unary
from predictor.edge.grpc_stream import StreamInfer
from predictor.edge.in_flight import InFlight
from predictor.edge.repository import index
from predictor.edge.service import InferService
from predictor.edge.statuses import status_of
from predictor.edge.triton_config import ConfigRequest, ConfigResponse, config_response
from predictor.edge.unserved import CONFIG, METHODS

_SERVICE = "/inference.GRPCInferenceService/"
# In Triton's messages; the SDK's have the name in field 1, and nothing else.
_MODEL_NAME = 2
_PARAMETERS = 3


class RepositoryChange(msgspec.Struct, frozen=True):
    """What a load or an unload asks for: the model, and names of parameters."""

    model: str
    parameters: Sequence[str]


def repository_change(request: Any) -> RepositoryChange:
    """From a message of the SDK or of Triton. Raises InvalidRequest."""
    model: str = request.model_name
    for field in unknown_fields.UnknownFieldSet(request):
        if field.field_number == _MODEL_NAME and isinstance(field.data, bytes):
            if model:  # Triton's repository_name
                raise InvalidRequest("repository_name: there is one repository; leave it out")
            model = field.data.decode(errors="replace")
    parameters = [
        parsed(_Entry, field.data).key
        for field in unknown_fields.UnknownFieldSet(request)
        if field.field_number == _PARAMETERS and isinstance(field.data, bytes)
    ]
    return RepositoryChange(model, parameters)


class TritonMethods(grpc.GenericRpcHandler):
    """The repository's index, streams, and a sentence for each method that is not served."""

    def __init__(self, service: InferService, in_flight: InFlight, idle_s: float) -> None:
        """`idle_s`: for how long the client of a stream may read nothing."""
        self._service = service
        self._stream = StreamInfer(service, in_flight, idle_s, _StreamResponse)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.removeprefix(_SERVICE)
        if name == "RepositoryIndex":
            return unary(_IndexRequest, self._index, _IndexResponse)
        if name == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(
                self._stream.serve, response_serializer=_StreamResponse.SerializeToString
            )
        if name == "ModelConfig":
            return unary(ConfigRequest, self._config, ConfigResponse)
        sentence = METHODS.get(name)
        if sentence is None:
            return None
        return grpc.unary_unary_rpc_method_handler(_refusal(sentence))

    async def _index(self, request: Any, context: aio.ServicerContext) -> Any:
        models = index(self._service, ready=request.ready)
        return _IndexResponse(models=[msgspec.structs.asdict(model) for model in models])

    async def _config(self, request: Any, context: aio.ServicerContext) -> Any:
        try:
            codec = self._service.codec(request.name, request.version)
        except HeadwayError as error:
            await context.abort(status_of(error).grpc, error.message)
        if isinstance(codec, GenerationCodec):
            return config_response(codec)
        return await context.abort(grpc.StatusCode.UNIMPLEMENTED, CONFIG)


def _refusal(sentence: str) -> Callable[[object, aio.ServicerContext], Awaitable[None]]:
    async def refuse(_: object, context: aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, sentence)

    return refuse


def _messages() -> tuple[Any, ...]:
    """The messages of RepositoryIndex, an entry of a map of parameters, a response of a stream.

    In a pool of their own: in the common one, the SDK's messages have the same package.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    text, flag, message_bytes = kinds.TYPE_STRING, kinds.TYPE_BOOL, kinds.TYPE_BYTES
    file = descriptor_pb2.FileDescriptorProto(
        name="index.proto", package="inference", syntax="proto3"
    )
    for name, fields in (
        ("RepositoryIndexRequest", {"repository_name": text, "ready": flag}),
        ("ModelIndex", dict.fromkeys(("name", "version", "state", "reason"), text)),
        ("RepositoryIndexResponse", {}),
        ("ParametersEntry", {"key": text}),
        # A message within a message travels as its bytes do, and this pool has no ModelInfer.
        ("ModelStreamInferResponse", {"error_message": text, "infer_response": message_bytes}),
    ):
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            message.field.add(name=field, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    file.message_type[2].field.add(
        name="models",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".inference.ModelIndex",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in (
            "RepositoryIndexRequest",
            "RepositoryIndexResponse",
            "ParametersEntry",
            "ModelStreamInferResponse",
        )
    )


_IndexRequest, _IndexResponse, _Entry, _StreamResponse = _messages()
