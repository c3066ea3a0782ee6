"""v2 requests and answers as HTTP bodies: JSON, and JSON followed by binary tensors.

Tensor data is kept as undecoded JSON in the first pass and decoded by datatype in the
second, so that types are checked strictly and each error names its field.
"""

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.tensors import (
    BYTES,
    MAX_DIMENSIONS,
    MAX_INPUTS,
    MAX_OUTPUTS,
    MAX_PRIORITY,
    MAX_TIMEOUT_US,
    InferAnswer,
    InferRequest,
    Tensor,
    WantedOutput,
    check_datatype,
    check_json_length,
    check_length,
    checked_id,
    new_id,
    raw_bytes,
    tensor_from_binary,
)

JSON_TYPE = b"application/json"
BINARY_TYPE = b"application/octet-stream"
# What msgspec raises for text that is not the JSON it should be.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _InputParameters(msgspec.Struct):
    binary_data_size: Annotated[int, Meta(ge=0)] | None = None


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[
        list[Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]], Meta(max_length=MAX_DIMENSIONS)
    ]
    data: msgspec.Raw | UnsetType = UNSET
    parameters: _InputParameters | None = None


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(msgspec.Struct):
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] | None = None
    timeout: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_US)] | None = None
    binary_data_output: bool = False


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: Annotated[list[_Output], Meta(max_length=MAX_OUTPUTS)] | None = None


class _AnswerParameters(msgspec.Struct):
    queue_us: int
    service_us: int
    batch_size: int


class _BinarySize(msgspec.Struct):
    binary_data_size: int


class _AnswerOutput(msgspec.Struct):
    name: str
    datatype: str
    shape: Sequence[int]
    data: msgspec.Raw | UnsetType = UNSET
    parameters: _BinarySize | UnsetType = UNSET


class _Answer(msgspec.Struct):
    model_name: str
    id: str
    parameters: _AnswerParameters
    outputs: list[_AnswerOutput]


class HttpAnswer(msgspec.Struct, frozen=True):
    """`json_length` is set where binary tensors follow the JSON."""

    body: bytes
    json_length: int | None = None


_DEFAULTS = _RequestParameters()
_COUNTED_BYTES = 1 << 14  # larger data is counted before it is decoded
_REQUEST = msgspec.json.Decoder(_Request)
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "INT64": msgspec.json.Decoder(list[int]),
    "INT32": msgspec.json.Decoder(list[int]),
    "FP32": msgspec.json.Decoder(list[float]),
    BYTES: msgspec.json.Decoder(list[str]),
}
_NESTED: dict[str, msgspec.json.Decoder[Any]] = {
    "INT64": msgspec.json.Decoder(list[list[int]]),
    "INT32": msgspec.json.Decoder(list[list[int]]),
    "FP32": msgspec.json.Decoder(list[list[float]]),
    BYTES: msgspec.json.Decoder(list[list[str]]),
}
_TYPE_CODES = {"INT64": "q", "INT32": "i", "FP32": "f"}
_ENCODER = msgspec.json.Encoder()


def decode_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """A request from a body; `json_length` says where binary tensors begin, if they do.

    Raises InvalidRequest, naming the field.
    """
    if json_length is None:
        head, tail = body, b""
    elif 0 <= json_length <= len(body):
        head, tail = body[:json_length], body[json_length:]
    else:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes"
        )
    try:
        plain = _REQUEST.decode(head)
    except NOT_JSON as error:
        raise InvalidRequest(_readable(str(error))) from None
    inputs: dict[str, Tensor] = {}
    offset = 0
    for index, entry in enumerate(plain.inputs):
        size = None if entry.parameters is None else entry.parameters.binary_data_size
        if size is None:
            tensor = _from_json(index, entry)
        else:
            tensor = _from_tail(entry, tail, offset, size)
            offset += size
        if inputs.setdefault(entry.name, tensor) is not tensor:
            raise InvalidRequest(f"input {shown(entry.name)} is there twice; send it once")
    if offset != len(tail):
        raise InvalidRequest(
            f"{len(tail)} bytes follow the JSON, but binary_data_size of all inputs is {offset}"
        )
    parameters = plain.parameters or _DEFAULTS
    return InferRequest(
        id=checked_id(plain.id) if plain.id is not None else new_id(),
        inputs=inputs,
        priority=parameters.priority,
        timeout_us=parameters.timeout,
        wanted=() if not plain.outputs else [_wanted(output) for output in plain.outputs],
        binary=parameters.binary_data_output,
    )


def _wanted(output: _Output) -> WantedOutput:
    return WantedOutput(
        output.name, None if output.parameters is None else output.parameters.binary_data
    )


def _from_tail(entry: _Input, tail: bytes, offset: int, size: int) -> Tensor:
    if entry.data is not UNSET:
        raise InvalidRequest(
            f"input {shown(entry.name)} has both data and binary_data_size; send one of the two"
        )
    if offset + size > len(tail):
        raise InvalidRequest(
            f"input {shown(entry.name)}: binary_data_size {size} goes beyond the body; set "
            "Inference-Header-Content-Length to the length of the JSON"
        )
    return tensor_from_binary(entry.name, entry.datatype, entry.shape, tail[offset : offset + size])


def _from_json(index: int, entry: _Input) -> Tensor:
    if isinstance(entry.data, UnsetType):
        raise InvalidRequest(
            f"input {shown(entry.name)} has no data; send data, or binary_data_size and binary data"
        )
    check_datatype(entry.name, entry.datatype)
    if memoryview(entry.data).nbytes > _COUNTED_BYTES:
        check_json_length(entry.name, entry.datatype, entry.shape, bytes(entry.data))
    values = _flat_values(index, entry.datatype, entry.data)
    check_length(entry.name, entry.shape, len(values))
    if entry.datatype == BYTES:
        return Tensor(entry.name, BYTES, entry.shape, values)
    try:
        raw = array(_TYPE_CODES[entry.datatype], values).tobytes()
    except OverflowError:
        raise InvalidRequest(
            f"input {shown(entry.name)}: a value does not fit {entry.datatype}"
        ) from None
    return Tensor(entry.name, entry.datatype, entry.shape, raw)


def _flat_values(index: int, datatype: str, data: msgspec.Raw) -> list[Any]:
    """The elements of `data`, which may be flat or nested by rows."""
    try:
        values: list[Any] = _FLAT[datatype].decode(data)
        return values
    except NOT_JSON as error:
        problem = str(error)
    if "got `array`" in problem:
        try:
            return list(chain.from_iterable(_NESTED[datatype].decode(data)))
        except NOT_JSON as error:
            problem = str(error)
    raise InvalidRequest(_readable(problem, f"inputs[{index}].data"))


def _readable(problem: str, prefix: str = "") -> str:
    """msgspec's "problem - at `$.field`" with the field in front."""
    text, _, path = problem.partition(" - at `$")
    field = prefix + path.rstrip("`").removeprefix("." if not prefix else "")
    return f"{field}: {text}" if field else f"body: {text}"


def encode_answer(answer: InferAnswer, request: InferRequest) -> HttpAnswer:
    """The body that carries `answer`, in the form that `request` asks for."""
    choices = {wanted.name: wanted.binary for wanted in request.wanted}
    outputs = []
    tail = []
    for tensor in answer.outputs:
        choice = choices.get(tensor.name)
        output = _AnswerOutput(tensor.name, tensor.datatype, tensor.shape)
        if request.binary if choice is None else choice:
            raw = raw_bytes(tensor)
            output.parameters = _BinarySize(len(raw))
            tail.append(raw)
        else:
            output.data = _json_data(tensor)
        outputs.append(output)
    head = _ENCODER.encode(
        _Answer(
            answer.model,
            answer.id,
            _AnswerParameters(answer.queue_us, answer.service_us, answer.batch_size),
            outputs,
        )
    )
    if not tail:
        return HttpAnswer(head)
    return HttpAnswer(b"".join((head, *tail)), len(head))


def _json_data(tensor: Tensor) -> msgspec.Raw:
    """Flat JSON data. orjson writes FP32 in as few digits as it takes, and quickly."""
    if isinstance(tensor.data, bytes):
        return msgspec.Raw(orjson.dumps(tensor.array().ravel(), option=orjson.OPT_SERIALIZE_NUMPY))
    return msgspec.Raw(_ENCODER.encode(tensor.data))
