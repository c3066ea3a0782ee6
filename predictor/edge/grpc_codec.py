"""v2 requests and answers as protobuf messages, with raw or typed tensor contents."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import unknown_fields
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.parameters import (
    InputParameters,
    OutputParameters,
    RequestParameters,
    converted,
)
from predictor.edge.tensors import (
    BYTES,
    MAX_INPUTS,
    MAX_OUTPUTS,
    NUMPY_TYPES,
    InferAnswer,
    InferRequest,
    Tensor,
    WantedOutput,
    check_datatype,
    check_length,
    check_strings,
    checked_id,
    decoded_base64,
    new_id,
    raw_bytes,
    tensor_from_binary,
)

# Fields of a parameter that Triton's clients send (`priority` is unsigned), and the SDK's message
# lacks.
_DOUBLE_PARAM = 4
_UINT64_PARAM = 5
_DEFAULTS = RequestParameters()
_PIECE = 1 << 16  # numbers: some milliseconds
_CONTENTS = {
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    BYTES: "bytes_contents",
}


def decode_request(message: pb.ModelInferRequest) -> InferRequest:
    """Raises InvalidRequest, naming the field. `binary` is true for raw contents."""
    entries = message.inputs
    raw = message.raw_input_contents
    if not 0 < len(entries) <= MAX_INPUTS:
        raise InvalidRequest(f"inputs: send 1 to {MAX_INPUTS} of them, not {len(entries)}")
    if len(message.outputs) > MAX_OUTPUTS:
        raise InvalidRequest(f"outputs: name at most {MAX_OUTPUTS}")
    parameters = _parameters(message)
    asked = [_input_parameters(index, entry) for index, entry in enumerate(entries)]
    if raw and len(raw) != len(entries):
        raise InvalidRequest(
            f"raw_input_contents: has {len(raw)} entries for {len(entries)} inputs; send one each"
        )
    inputs: dict[str, Tensor] = {}
    for index, entry in enumerate(entries):
        if not raw:
            tensor = _from_contents(entry)
        elif entry.HasField("contents"):
            raise InvalidRequest(
                f"input {shown(entry.name)} has both contents and raw_input_contents; send one"
            )
        else:
            tensor = tensor_from_binary(entry.name, entry.datatype, list(entry.shape), raw[index])
        own = asked[index]
        if own is not None:
            tensor = _as_asked(index, tensor, own, len(raw[index]) if raw else None)
        if inputs.setdefault(entry.name, tensor) is not tensor:
            raise InvalidRequest(f"input {shown(entry.name)} is there twice; send it once")
    binary = parameters.binary_data_output
    return InferRequest(
        id=checked_id(message.id) or new_id(),
        inputs=inputs,
        priority=parameters.priority,
        timeout_us=parameters.timeout,
        wanted=[_wanted(index, output) for index, output in enumerate(message.outputs)],
        binary=bool(raw) if binary is None else binary,
        truncate=parameters.truncate is not False,
        sampling=parameters.sampling,
    )


def _parameters(message: pb.ModelInferRequest) -> RequestParameters:
    if not message.parameters:
        return _DEFAULTS
    parameters = converted(_plain(message.parameters), RequestParameters, "parameters")
    parameters.check()
    return parameters


def _input_parameters(index: int, entry: Any) -> InputParameters | None:
    if not entry.parameters:
        return None
    where = f"inputs[{index}].parameters"
    parameters = converted(_plain(entry.parameters), InputParameters, where)
    parameters.check_memory(where)
    return parameters


def _as_asked(index: int, tensor: Tensor, asked: InputParameters, size: int | None) -> Tensor:
    """`size`: bytes of its raw contents, where they are raw."""
    if asked.binary_data_size is not None and asked.binary_data_size != size:
        raise InvalidRequest(
            f"inputs[{index}].parameters.binary_data_size: is {asked.binary_data_size}, but "
            + ("its contents are not raw" if size is None else f"{size} bytes came")
            + "; leave it out"
        )
    return decoded_base64(tensor) if asked.is_base64(index, tensor.datatype) else tensor


def _wanted(index: int, output: Any) -> WantedOutput:
    if not output.parameters:
        return WantedOutput(output.name)
    where = f"outputs[{index}].parameters"
    parameters = converted(_plain(output.parameters), OutputParameters, where)
    parameters.check(index)
    if parameters.binary_data is not None:
        raise InvalidRequest(
            f"{where}.binary_data: over gRPC all outputs travel alike; use"
            " parameters.binary_data_output of the request"
        )
    return WantedOutput(output.name, classes=parameters.classification or 0)


def _plain(parameters: Mapping[str, Any]) -> dict[str, object]:
    return {name: _value(parameter) for name, parameter in parameters.items()}


def _value(parameter: Any) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is not None:
        return getattr(parameter, kind)
    for field in unknown_fields.UnknownFieldSet(parameter):
        if field.field_number == _UINT64_PARAM and isinstance(field.data, int):
            return field.data
        if field.field_number == _DOUBLE_PARAM and isinstance(field.data, int):
            return struct.unpack("<d", struct.pack("<Q", field.data))[0]
    return ""  # a parameter without a value; no name takes it for one that means something


def _from_contents(entry: Any) -> Tensor:
    name, datatype, shape = entry.name, entry.datatype, list(entry.shape)
    check_datatype(name, datatype)
    field = _CONTENTS[datatype]
    for other, _ in entry.contents.ListFields():
        if other.name != field:
            raise InvalidRequest(
                f"input {shown(name)}: {datatype} travels in contents.{field}, not in {other.name}"
            )
    values: Sequence[Any] = getattr(entry.contents, field)
    check_length(name, shape, len(values))
    if datatype == BYTES:
        check_strings(name, shape)
        return Tensor(name, datatype, shape, list(values))
    return Tensor(name, datatype, shape, _numbers(values, NUMPY_TYPES[datatype]))


def _numbers(values: Sequence[Any], kind: np.dtype[Any]) -> bytes:
    """As raw bytes. In pieces: no long list lies between, and others get the interpreter."""
    numbers = np.empty(len(values), kind)
    for start in range(0, len(values), _PIECE):
        numbers[start : start + _PIECE] = values[start : start + _PIECE]
    return numbers.tobytes()


def encode_answer(answer: InferAnswer, request: InferRequest) -> pb.ModelInferResponse:
    """The message that carries `answer`; contents are raw where the request's were."""
    message = pb.ModelInferResponse(model_name=answer.model, id=answer.id)
    parameters = message.parameters
    parameters["queue_us"].int64_param = answer.queue_us
    parameters["service_us"].int64_param = answer.service_us
    parameters["batch_size"].int64_param = answer.batch_size
    if answer.truncated:
        parameters["truncated_rows"].int64_param = answer.truncated
    add_outputs(message, answer.outputs, binary=request.binary)
    return message


def add_outputs(message: pb.ModelInferResponse, outputs: Sequence[Tensor], *, binary: bool) -> None:
    """Put tensors into an answer, raw or typed."""
    add: Callable[..., Any] = message.outputs.add
    for tensor in outputs:
        output = add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if binary:
            message.raw_output_contents.append(raw_bytes(tensor))
        elif tensor.datatype == BYTES:
            output.contents.bytes_contents.extend(str(text).encode() for text in tensor.data)
        else:
            values = tensor.array().ravel().tolist()
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
