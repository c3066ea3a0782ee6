"""What requests may ask for: the same lists over HTTP and gRPC, closed."""

import json
from typing import Any

import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.edge import grpc_codec, http_codec
from predictor.edge.tasks import choose_outputs
from predictor.edge.tensors import InferAnswer, InferRequest, Tensor, WantedOutput, texts_of

Asked = dict[str, Any]


def over_http(request: Asked, of_input: Asked, of_output: Asked) -> InferRequest:
    entry = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["dGhlIGJ1cw=="]}
    plain = {
        "inputs": [entry | ({"parameters": of_input} if of_input else {})],
        "outputs": [{"name": "label"} | ({"parameters": of_output} if of_output else {})],
        "parameters": request,
    }
    return http_codec.decode_request(json.dumps(plain).encode())


def over_grpc(request: Asked, of_input: Asked, of_output: Asked) -> InferRequest:
    message = pb.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="text", datatype="BYTES", shape=[1])
    entry.contents.bytes_contents.append(b"dGhlIGJ1cw==")
    output = message.outputs.add(name="label")
    for place, asked in ((message, request), (entry, of_input), (output, of_output)):
        for name, value in asked.items():
            _set(place.parameters[name], value)
    return grpc_codec.decode_request(pb.ModelInferRequest.FromString(message.SerializeToString()))


def _set(parameter: Any, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        # parameter_choice 4, a double: a field of Triton's that this message type does not know
        parameter.MergeFromString(bytes([4 << 3 | 1]) + np.array(value, "<f8").tobytes())
    else:
        parameter.string_param = value


OVER = {"http": over_http, "grpc": over_grpc}


@pytest.fixture(params=OVER)
def over(request: pytest.FixtureRequest) -> Any:
    return OVER[request.param]


REFUSED: dict[str, tuple[Asked, Asked, Asked, str]] = {
    "unknown": ({"shout": 1}, {}, {}, r"^parameters\.shout: not known here; leave it"),
    "unknown double": ({"shouts": 0.5}, {}, {}, r"^parameters\.shouts: not known here"),
    "almost known": ({"Priority": 1}, {}, {}, r"^parameters\.Priority: .*use: priority, timeout"),
    "reserved by Triton": ({"triton_x": 1}, {}, {}, r"^parameters\.triton_x: not known"),
    "odd name": ({"a`b\n": "x"}, {}, {}, r"^parameters\.a`b\n: not known"),
    "sequence": ({"sequence_id": 7}, {}, {}, "sequence_id.*keep no state"),
    "named sequence": ({"sequence_id": "s"}, {}, {}, "sequence_id.*keep no state"),
    "sequence start": ({"sequence_start": True}, {}, {}, "sequence_start.*keep no state"),
    "sequence end": ({"sequence_end": True}, {}, {}, "sequence_end.*keep no state"),
    "empty final": (
        {"triton_enable_empty_final_response": True},
        {},
        {},
        "triton_enable_empty_final_response",
    ),
    "data frame": ({"content_type": "pd"}, {}, {}, r"^parameters\.content_type: 'pd'"),
    "truncate text": ({"truncate": "no"}, {}, {}, r"^parameters\.truncate: Expected `bool"),
    "truncate number": ({"truncate": 0}, {}, {}, r"^parameters\.truncate: Expected `bool"),
    "priority double": ({"priority": 1.5}, {}, {}, r"^parameters\.priority: "),
    "timeout boolean": ({"timeout": True}, {}, {}, r"^parameters\.timeout: "),
    "unknown of an input": ({}, {"scale": 2}, {}, r"^inputs\[0\]\.parameters\.scale: not known"),
    "content type": ({}, {"content_type": "hf"}, {}, r"^inputs\[0\]\.parameters\.content_type"),
    "memory in": (
        {},
        {"shared_memory_region": "r", "shared_memory_byte_size": 8},
        {},
        r"^inputs\[0\]\.parameters\.shared_memory_region: shared memory is not served",
    ),
    "memory offset": ({}, {"shared_memory_offset": 0}, {}, "shared_memory_offset: shared memory"),
    "unknown of an output": ({}, {}, {"top": 2}, r"^outputs\[0\]\.parameters\.top: not known"),
    "memory out": (
        {},
        {},
        {"shared_memory_region": "r"},
        r"^outputs\[0\]\.parameters\.shared_memory_region: shared memory",
    ),
    "classes negative": ({}, {}, {"classification": -1}, r"classification: Expected `int` >= 0"),
    "classes text": ({}, {}, {"classification": "2"}, r"classification: Expected `int"),
}


@pytest.mark.parametrize(
    ("request_parameters", "of_input", "of_output", "says"), REFUSED.values(), ids=REFUSED
)
def test_refused_by_name(
    *, over: Any, request_parameters: Asked, of_input: Asked, of_output: Asked, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        over(request_parameters, of_input, of_output)


def test_what_asks_for_nothing_is_harmless(over: Any) -> None:
    harmless: Asked = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
    harmless |= {"triton_enable_empty_final_response": False, "content_type": "str"}
    request = over(harmless, {"content_type": "str"}, {"classification": 0})
    assert texts_of(request.inputs["text"]) == ["dGhlIGJ1cw=="]
    assert request.wanted == [WantedOutput("label")]
    assert over({"sequence_id": ""}, {}, {}).truncate


def test_what_is_applied(over: Any) -> None:
    asked = {"priority": 2, "timeout": 9, "truncate": False, "binary_data_output": True}
    request = over(asked, {"content_type": "base64"}, {"classification": 2})
    assert (request.priority, request.timeout_us) == (2, 9)
    assert (request.truncate, request.binary) == (False, True)
    assert texts_of(request.inputs["text"]) == ["the bus"]
    assert request.wanted == [WantedOutput("label", None, 2)]


def test_base64_that_is_none(over: Any) -> None:
    plain = {"name": "n", "datatype": "BYTES", "shape": [2], "data": ["aGk=", "!"]}
    body = {"inputs": [plain | {"parameters": {"content_type": "base64"}}]}
    with pytest.raises(InvalidRequest, match=r"'n'\[1\]: is not base64"):
        http_codec.decode_request(json.dumps(body).encode())
    message = pb.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="n", datatype="INT64", shape=[1])
    entry.contents.int64_contents.append(1)
    entry.parameters["content_type"].string_param = "base64"
    with pytest.raises(InvalidRequest, match="'base64' is not done for INT64"):
        grpc_codec.decode_request(message)


UNKNOWN_FIELDS: dict[str, tuple[Asked, Asked, Asked, str]] = {
    "of the request": ({"raw_input_contents": []}, {}, {}, r"^raw_input_contents: not known"),
    "of an input": ({}, {"contents": {}}, {}, r"^inputs\[0\]\.contents: not known here; .*shape"),
    "of an output": ({}, {}, {"datatype": "FP32"}, r"^outputs\[0\]\.datatype: not known here"),
    "another model": ({"model_name": "n"}, {}, {}, "^model_name: is 'n' in the body, but 'm'"),
    "another version": ({"model_version": "2"}, {}, {}, "^model_version: is '2' in the body"),
}


@pytest.mark.parametrize(
    ("request_fields", "of_input", "of_output", "says"),
    UNKNOWN_FIELDS.values(),
    ids=UNKNOWN_FIELDS,
)
def test_fields_of_json_that_nobody_reads(
    request_fields: Asked, of_input: Asked, of_output: Asked, says: str
) -> None:
    entry = {"name": "a", "datatype": "INT64", "shape": [1], "data": [1]} | of_input
    plain = {"inputs": [entry], "outputs": [{"name": "o"} | of_output]} | request_fields
    with pytest.raises(InvalidRequest, match=says):
        http_codec.decode_request(json.dumps(plain).encode(), model="m")


def test_a_body_that_names_its_model_as_the_path_does() -> None:
    entry = {"name": "a", "datatype": "INT64", "shape": [1], "data": [1], "parameters": None}
    plain = {
        "inputs": [entry],
        "model_name": "m",
        "model_version": "1",
        "outputs": None,
        "id": None,
    }
    assert http_codec.decode_request(json.dumps(plain).encode(), model="m").inputs


def test_parameters_of_grpc_alone() -> None:
    """Outputs of a message are all raw or none; the size of raw contents is theirs."""
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(16)])
    entry = message.inputs.add(name="a", datatype="INT64", shape=[2])
    entry.parameters["binary_data_size"].int64_param = 16
    assert grpc_codec.decode_request(message).binary
    entry.parameters["binary_data_size"].int64_param = 8
    with pytest.raises(InvalidRequest, match="binary_data_size: is 8, but 16 bytes came"):
        grpc_codec.decode_request(message)
    entry.parameters.clear()
    message.outputs.add(name="o").parameters["binary_data"].bool_param = True
    with pytest.raises(InvalidRequest, match=r"outputs\[0\]\.parameters\.binary_data: over gRPC"):
        grpc_codec.decode_request(message)


def test_rows_that_were_cut_are_told() -> None:
    request = InferRequest(id="i", inputs={})
    cut, whole = (
        InferAnswer(
            model="m", id="i", outputs=[], queue_us=1, service_us=2, batch_size=3, truncated=count
        )
        for count in (2, 0)
    )
    assert json.loads(http_codec.encode_answer(cut, request).body)["parameters"] == {
        "queue_us": 1,
        "service_us": 2,
        "batch_size": 3,
        "truncated_rows": 2,
    }
    assert b"truncated_rows" not in http_codec.encode_answer(whole, request).body
    assert grpc_codec.encode_answer(cut, request).parameters["truncated_rows"].int64_param == 2
    assert "truncated_rows" not in grpc_codec.encode_answer(whole, request).parameters


def test_classification() -> None:
    table = np.array([[0.25, 0.5, 0.25], [1e-9, 0.1, 0.9]], "<f4")
    scores = Tensor("p", "FP32", table.shape, table.tobytes())
    (best,) = choose_outputs([scores], [WantedOutput("p", None, 2)], ("calm", "busy", "full"))
    assert (best.name, best.datatype, tuple(best.shape)) == ("p", "BYTES", (2, 2))
    assert best.data == ["0.500000:1:busy", "0.250000:0:calm", "0.900000:2:full", "0.100000:1:busy"]
    (unnamed,) = choose_outputs([scores], [WantedOutput("p", None, 9)], ())
    assert tuple(unnamed.shape) == (2, 3)
    assert unnamed.data[0] == "0.500000:1"
