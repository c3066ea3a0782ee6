"""Triton's configuration of a model that generates: it says that answers come in parts.

Triton's clients and its load generators look for `decoupled` there. Other models have none.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from predictor.core.errors import HeadwayError
from predictor.edge.asgi import Receive, Scope, Send, send_error, send_json, send_not_allowed
from predictor.edge.generation_codec import GenerationCodec
from predictor.edge.service import InferService
from predictor.edge.statuses import error_body
from predictor.edge.tasks import TensorSpec
from predictor.edge.tensors import BYTES
from predictor.edge.unserved import CONFIG

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/config")
_ENCODER = msgspec.json.Encoder()
# Numbers in Triton's DataType.
_TYPES = {BYTES: ("TYPE_STRING", 13), "INT64": ("TYPE_INT64", 9)}
_PLATFORM = "headway"


def config_of(codec: GenerationCodec) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "name": codec.spec.name,
        "platform": _PLATFORM,
        "backend": _PLATFORM,
        "max_batch_size": 0,  # shapes are whole: no dimension is left out for a batch
        "input": _tensors(codec.inputs),
        "output": _tensors(codec.outputs),
        "model_transaction_policy": {"decoupled": True},
    }


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "data_type": _TYPES[spec.datatype][0], "dims": list(spec.shape)}
        for spec in specs
    ]


class ConfigRoutes:
    """ASGI: the route."""

    def __init__(self, service: InferService) -> None:
        self._service = service

    @staticmethod
    def takes(path: str) -> bool:
        return _PATH.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await send_not_allowed(send, "GET")
            return
        named = _PATH.fullmatch(scope["path"])
        assert named is not None
        try:
            codec = self._service.codec(named[1], named[2] or "")
        except HeadwayError as error:
            await send_error(send, error)
            return
        if isinstance(codec, GenerationCodec):
            await send_json(send, HTTPStatus.OK, _ENCODER.encode(config_of(codec)))
        else:
            await send_json(send, HTTPStatus.NOT_IMPLEMENTED, error_body(CONFIG))


def config_response(codec: GenerationCodec) -> Any:
    """As gRPC's ModelConfig answers it."""
    plain = config_of(codec)
    numbers = dict(_TYPES.values())
    for tensor in [*plain["input"], *plain["output"]]:
        tensor["data_type"] = numbers[tensor["data_type"]]
    return ConfigResponse(config=plain)


def _messages() -> tuple[Any, Any]:
    """The request, and the response with the fields of Triton's model_config.proto used here.

    In a pool of their own: in the common one, the SDK's messages have the same package.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    text, number, flag = kinds.TYPE_STRING, kinds.TYPE_INT32, kinds.TYPE_BOOL
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(
        name="config.proto", package="inference", syntax="proto3"
    )
    fields: dict[str, list[tuple[str, int, Any, Any]]] = {
        "ModelConfigRequest": [("name", 1, text, one), ("version", 2, text, one)],
        "ModelInput": [
            ("name", 1, text, one),
            ("data_type", 2, number, one),
            ("dims", 4, kinds.TYPE_INT64, many),
        ],
        "ModelOutput": [
            ("name", 1, text, one),
            ("data_type", 2, number, one),
            ("dims", 3, kinds.TYPE_INT64, many),
        ],
        "ModelTransactionPolicy": [("decoupled", 1, flag, one)],
        "ModelConfig": [
            ("name", 1, text, one),
            ("platform", 2, text, one),
            ("max_batch_size", 4, number, one),
            ("input", 5, "ModelInput", many),
            ("output", 6, "ModelOutput", many),
            ("backend", 17, text, one),
            ("model_transaction_policy", 19, "ModelTransactionPolicy", one),
        ],
        "ModelConfigResponse": [("config", 1, "ModelConfig", one)],
    }
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for field, place, kind, label in members:
            added = message.field.add(name=field, number=place, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".inference.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in ("ModelConfigRequest", "ModelConfigResponse")
    )
    return request, response


ConfigRequest, ConfigResponse = _messages()
