"""v2 requests and answers as protobuf messages, with raw or typed tensor contents."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import unknown_fields
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.tensors import (
    BYTES,
    MAX_INPUTS,
    MAX_OUTPUTS,
    MAX_PRIORITY,
    MAX_TIMEOUT_US,
    NUMPY_TYPES,
    InferAnswer,
    InferRequest,
    Tensor,
    WantedOutput,
    check_datatype,
    check_length,
    check_strings,
    checked_id,
    new_id,
    raw_bytes,
    tensor_from_binary,
)

# Triton's clients send `priority` as uint64_param, a field that the SDK's message lacks.
_UINT64_PARAM = 5
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
        if inputs.setdefault(entry.name, tensor) is not tensor:
            raise InvalidRequest(f"input {shown(entry.name)} is there twice; send it once")
    parameters = message.parameters
    return InferRequest(
        id=checked_id(message.id) or new_id(),
        inputs=inputs,
        priority=_integer(parameters, "priority", MAX_PRIORITY),
        timeout_us=_integer(parameters, "timeout", MAX_TIMEOUT_US),
        wanted=[WantedOutput(output.name) for output in message.outputs],
        binary=bool(raw),
    )


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
    numbers = np.fromiter(values, NUMPY_TYPES[datatype], len(values))  # without a list between
    return Tensor(name, datatype, shape, numbers.tobytes())


def _integer(parameters: Mapping[str, Any], name: str, limit: int) -> int | None:
    if name not in parameters:
        return None
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value: int | None = parameter.int64_param if kind == "int64_param" else None
    if kind is None:
        for field in unknown_fields.UnknownFieldSet(parameter):
            if field.field_number == _UINT64_PARAM and isinstance(field.data, int):
                value = field.data
    if value is None or not 0 <= value <= limit:
        raise InvalidRequest(f"parameters.{name}: must be an integer from 0 to {limit}")
    return value


def encode_answer(answer: InferAnswer, request: InferRequest) -> pb.ModelInferResponse:
    """The message that carries `answer`; contents are raw where the request's were."""
    message = pb.ModelInferResponse(model_name=answer.model, id=answer.id)
    parameters = message.parameters
    parameters["queue_us"].int64_param = answer.queue_us
    parameters["service_us"].int64_param = answer.service_us
    parameters["batch_size"].int64_param = answer.batch_size
    add: Callable[..., Any] = message.outputs.add
    for tensor in answer.outputs:
        output = add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if request.binary:
            message.raw_output_contents.append(raw_bytes(tensor))
        elif tensor.datatype == BYTES:
            output.contents.bytes_contents.extend(str(text).encode() for text in tensor.data)
        else:
            values = tensor.array().ravel().tolist()
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
    return message
