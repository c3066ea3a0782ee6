"""v2 requests as the bytes that go over the wire."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType


class BinarySize(msgspec.Struct, frozen=True):
    binary_data_size: int


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input in JSON, with its data or with the size of the binary part that holds it."""

    name: str
    shape: Sequence[int]
    datatype: str
    data: Sequence[int] | Sequence[str] | UnsetType = UNSET
    parameters: BinarySize | UnsetType = UNSET


class RawTensor(msgspec.Struct, frozen=True):
    name: str
    shape: Sequence[int]
    datatype: str
    raw: bytes


class _Wanted(msgspec.Struct, frozen=True):
    name: str


class _Options(msgspec.Struct, frozen=True):
    binary_data_output: bool


class _InferBody(msgspec.Struct, frozen=True, omit_defaults=True):
    inputs: Sequence[Tensor]
    outputs: Sequence[_Wanted] = ()
    parameters: _Options | UnsetType = UNSET


def json_body(tensors: Sequence[Tensor], wanted: str = "") -> bytes:
    """The body of an infer request; `wanted` names the only output to answer, if given."""
    return msgspec.json.encode(_InferBody(tensors, (_Wanted(wanted),) if wanted else ()))


def binary_body(tensors: Sequence[RawTensor], wanted: str) -> tuple[bytes, bytes]:
    """JSON and the binary data that follows it, after the v2 binary extension."""
    inputs = [
        Tensor(each.name, each.shape, each.datatype, parameters=BinarySize(len(each.raw)))
        for each in tensors
    ]
    body = _InferBody(inputs, (_Wanted(wanted),), _Options(binary_data_output=True))
    return msgspec.json.encode(body), b"".join(each.raw for each in tensors)


def http_post(
    host: str,
    port: int,
    path: str,
    body: bytes,
    tail: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The whole request; `tail` is binary data that follows the JSON."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    content = "application/octet-stream" if tail else "application/json"
    binary = f"Inference-Header-Content-Length: {len(body)}\r\n" if tail else ""
    head = (
        f"POST {path} HTTP/1.1\r\n"
        f"Host: {host}:{port}\r\n"
        f"Content-Type: {content}\r\n"
        f"{more}{binary}"
        f"Content-Length: {len(body) + len(tail)}\r\n\r\n"
    )
    return b"".join((head.encode(), body, tail))


def grpc_message(model: str, tensors: Sequence[RawTensor], wanted: str = "") -> bytes:
    # Imported here because an HTTP run has no need of its 0.3 s.
    from loadtest.bench import v2_messages

    message = v2_messages.ModelInferRequest(
        model_name=model, raw_input_contents=[each.raw for each in tensors]
    )
    for each in tensors:
        message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
    if wanted:
        message.outputs.add(name=wanted)
    wire: bytes = message.SerializeToString()
    return wire
