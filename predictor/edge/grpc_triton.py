"""Methods of gRPC v2 as Triton's clients call them, where the SDK's messages lack something.

Both call their service `inference.GRPCInferenceService`, but the SDK's has only a part of the
methods, and its repository messages have the model's name in another field.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from grpc import aio

from predictor.core.errors import InvalidRequest
from predictor.edge.repository import index
from predictor.edge.service import InferService
from predictor.edge.unserved import METHODS

_SERVICE = "/inference.GRPCInferenceService/"
# In Triton's messages; the SDK's have the name in field 1, and nothing else.
_MODEL_NAME = 2
_PARAMETERS = 3
_STREAMS = ("ModelStreamInfer",)


class RepositoryChange(msgspec.Struct, frozen=True):
    """What a load or an unload asks for: the model, and names of parameters."""

    model: str
    parameters: Sequence[str]


def repository_change(request: Any) -> RepositoryChange:
    """From a message of the SDK or of Triton. Raises InvalidRequest."""
    model: str = request.model_name
    parameters = []
    for field in unknown_fields.UnknownFieldSet(request):
        if field.field_number == _MODEL_NAME and isinstance(field.data, bytes):
            if model:  # Triton's repository_name
                raise InvalidRequest("repository_name: there is one repository; leave it out")
            model = field.data.decode(errors="replace")
    for field in unknown_fields.UnknownFieldSet(request):
        if field.field_number == _PARAMETERS and isinstance(field.data, bytes):
            entry = _Entry.FromString(field.data)
            parameters.append(entry.key)
    return RepositoryChange(model, parameters)


class TritonMethods(grpc.GenericRpcHandler):
    """The repository's index, and a sentence for each method that is not served."""

    def __init__(self, service: InferService) -> None:
        self._service = service

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.removeprefix(_SERVICE)
        if name == "RepositoryIndex":
            return grpc.unary_unary_rpc_method_handler(
                self._index, _IndexRequest.FromString, _IndexResponse.SerializeToString
            )
        sentence = METHODS.get(name)
        if sentence is None:
            return None
        if name in _STREAMS:
            return grpc.stream_stream_rpc_method_handler(_stream_refusal(sentence))
        return grpc.unary_unary_rpc_method_handler(_refusal(sentence))

    async def _index(self, request: Any, context: aio.ServicerContext) -> Any:
        models = index(self._service, ready=request.ready)
        return _IndexResponse(models=[msgspec.structs.asdict(model) for model in models])


def _refusal(sentence: str) -> Callable[[object, aio.ServicerContext], Awaitable[None]]:
    async def refuse(_: object, context: aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, sentence)

    return refuse


def _stream_refusal(
    sentence: str,
) -> Callable[[AsyncIterator[object], aio.ServicerContext], Awaitable[None]]:
    async def refuse(requests: AsyncIterator[object], context: aio.ServicerContext) -> None:
        # Clients do not read the status of a stream that ends before they wrote to it.
        async for _ in requests:
            break
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, sentence)

    return refuse


def _messages() -> tuple[Any, ...]:
    """The messages of RepositoryIndex, and an entry of a map of parameters.

    In a pool of their own: in the common one, the SDK's messages have the same package.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    text, flag = kinds.TYPE_STRING, kinds.TYPE_BOOL
    file = descriptor_pb2.FileDescriptorProto(
        name="index.proto", package="inference", syntax="proto3"
    )
    for name, fields in (
        ("RepositoryIndexRequest", {"repository_name": text, "ready": flag}),
        ("ModelIndex", dict.fromkeys(("name", "version", "state", "reason"), text)),
        ("RepositoryIndexResponse", {}),
        ("ParametersEntry", {"key": text}),
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
        for name in ("RepositoryIndexRequest", "RepositoryIndexResponse", "ParametersEntry")
    )


_IndexRequest, _IndexResponse, _Entry = _messages()
