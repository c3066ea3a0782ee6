"""v2 requests and answers as HTTP bodies: JSON, and JSON followed by binary tensors.

Tensor data is kept as undecoded JSON in the first pass and decoded by datatype in the
second, so that types are checked strictly and each error names its field.
"""

from array import array
from codecs import BOM_UTF8
from collections.abc import Sequence
from itertools import chain, starmap
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.json_text import (
    LARGE_BYTES,
    NOT_JSON,
    check_brackets,
    not_json,
    without_mark,
)
from predictor.edge.large_bodies import check_outline, numbers
from predictor.edge.parameters import (
    InputParameters,
    OutputParameters,
    RequestParameters,
    readable,
)
from predictor.edge.tensors import (
    BYTES,
    DEFAULT_VERSION,
    MAX_DIMENSIONS,
    MAX_INPUTS,
    MAX_OUTPUTS,
    InferAnswer,
    InferRequest,
    Tensor,
    WantedOutput,
    check_datatype,
    check_json_length,
    check_length,
    checked_id,
    decoded_base64,
    new_id,
    raw_bytes,
    tensor_from_binary,
)

JSON_TYPE = b"application/json"
BINARY_TYPE = b"application/octet-stream"


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: Annotated[
        list[Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]], Meta(max_length=MAX_DIMENSIONS)
    ]
    data: msgspec.Raw | UnsetType = UNSET
    parameters: InputParameters | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: OutputParameters | None = None


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    inputs: Annotated[list[_Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: Annotated[list[_Output], Meta(max_length=MAX_OUTPUTS)] | None = None
    model_name: str | None = None  # the SDK's client repeats the path
    model_version: str | None = None


class _AnswerParameters(msgspec.Struct):
    queue_us: int
    service_us: int
    batch_size: int
    truncated_rows: int | UnsetType = UNSET


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


_DEFAULTS = RequestParameters()
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


def decode_request(
    body: bytes, json_length: int | None = None, model: str = "", version: str = ""
) -> InferRequest:
    """A request from a body; `json_length` says where binary tensors begin, if they do.

    `model` and `version` are those it came for; a body that names others is refused.
    Raises InvalidRequest, naming the field.
    """
    head, tail = (body, b"") if json_length is None else _split(body, json_length)
    if len(head) > LARGE_BYTES:
        check_brackets(head)
        check_outline(without_mark(head))
    try:
        plain = _REQUEST.decode(head)
    except NOT_JSON as error:
        if not head.startswith(BOM_UTF8):
            raise not_json(error, head) from None
        plain = _decoded_again(without_mark(head))
    if plain.model_name or plain.model_version:
        _check_same("model_name", plain.model_name, model)
        _check_same("model_version", plain.model_version, version or DEFAULT_VERSION)
    inputs: dict[str, Tensor] = {}
    offset = 0
    for index, entry in enumerate(plain.inputs):
        size, is_base64 = None, False
        if entry.parameters is not None:
            size = entry.parameters.binary_data_size
            is_base64 = entry.parameters.is_base64(index, entry.datatype)
        if size is None:
            tensor = _from_json(index, entry)
        else:
            tensor = _from_tail(entry, tail, offset, size)
            offset += size
        if is_base64:
            tensor = decoded_base64(tensor)
        if inputs.setdefault(entry.name, tensor) is not tensor:
            raise InvalidRequest(f"input {shown(entry.name)} is there twice; send it once")
    if offset != len(tail):
        raise InvalidRequest(
            f"{len(tail)} bytes follow the JSON, but binary_data_size of all inputs is {offset}"
        )
    parameters = _DEFAULTS
    if plain.parameters is not None:
        parameters = plain.parameters
        parameters.check()
    return InferRequest(
        id=checked_id(plain.id) if plain.id is not None else new_id(),
        inputs=inputs,
        priority=parameters.priority,
        timeout_us=parameters.timeout,
        wanted=() if not plain.outputs else list(starmap(_wanted, enumerate(plain.outputs))),
        binary=parameters.binary_data_output is True,
        truncate=parameters.truncate is not False,
        sampling=None if parameters is _DEFAULTS else parameters.sampling,
    )


def _decoded_again(head: bytes) -> _Request:
    try:
        return _REQUEST.decode(head)
    except NOT_JSON as error:
        raise not_json(error, head) from None


def _split(body: bytes, json_length: int) -> tuple[bytes, bytes]:
    if not 0 <= json_length <= len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes"
        )
    return body[:json_length], body[json_length:]


def _wanted(index: int, output: _Output) -> WantedOutput:
    parameters = output.parameters
    if parameters is None:
        return WantedOutput(output.name)
    parameters.check(index)
    return WantedOutput(output.name, parameters.binary_data, parameters.classification or 0)


def _check_same(field: str, named: str | None, served: str) -> None:
    if named and served and named != served:
        raise InvalidRequest(
            f"{field}: is {named[:128]!r} in the body, but {served[:128]!r} in the path; leave it"
            " out of the body"
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


def _flat_values(index: int, datatype: str, data: msgspec.Raw) -> Sequence[Any]:
    """The elements of `data`, which may be flat or nested by rows."""
    try:
        return _values(datatype, data)
    except NOT_JSON as error:
        raise InvalidRequest(readable(str(error), f"inputs[{index}].data")) from None


def _values(datatype: str, data: msgspec.Raw) -> Sequence[Any]:
    flat, nested = _FLAT[datatype], _NESTED[datatype]
    code = _TYPE_CODES.get(datatype)
    if code is not None and len(data) > LARGE_BYTES:
        found = numbers(bytes(data), code, flat, nested)
        if found is not None:
            return found
    try:
        values: list[Any] = flat.decode(data)
        return values
    except msgspec.ValidationError as error:
        if "got `array`" not in str(error):
            raise
    return list(chain.from_iterable(nested.decode(data)))


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
            _AnswerParameters(
                answer.queue_us, answer.service_us, answer.batch_size, answer.truncated or UNSET
            ),
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
