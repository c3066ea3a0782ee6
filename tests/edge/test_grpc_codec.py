"""Round trips between our codec and the messages that the SDK's types build and read."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.edge import grpc_codec
from predictor.edge.tensors import InferAnswer, Tensor, texts_of

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5)


@given(values=st.lists(INT64, min_size=1), texts=TEXTS, raw=st.booleans())
def test_requests_of_the_sdk(values: list[int], texts: list[str], raw: bool) -> None:
    ids = np.array([values], "<i8")
    ids_input = InferInput("input_ids", list(ids.shape), "INT64")
    ids_input.set_data_from_numpy(ids, binary_data=raw)
    text_input = InferInput("text", [len(texts)], "BYTES")
    text_input.set_data_from_numpy(np.array(texts, object), binary_data=raw)
    message = InferRequest(
        "m", [ids_input, text_input], request_id="7", parameters={"priority": 2, "timeout": 9}
    ).to_grpc()
    request = grpc_codec.decode_request(
        pb.ModelInferRequest.FromString(message.SerializeToString())
    )
    assert request.id == "7"
    assert (request.priority, request.timeout_us) == (2, 9)
    assert request.binary == raw
    assert np.array_equal(request.inputs["input_ids"].array(), ids)
    assert texts_of(request.inputs["text"]) == texts


@given(
    raw=st.booleans(),
    scores=st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    sums=st.lists(INT64, min_size=1),
    labels=TEXTS,
)
def test_answers_that_the_sdk_reads(
    raw: bool, scores: list[float], sums: list[int], labels: list[str]
) -> None:
    outputs = [
        Tensor("score", "FP32", (len(scores),), np.array(scores, "<f4").tobytes()),
        Tensor("checksum", "INT64", (len(sums),), np.array(sums, "<i8").tobytes()),
        Tensor("label", "BYTES", (len(labels),), labels),
    ]
    message = grpc_codec.encode_answer(
        InferAnswer(model="m", id="i", outputs=outputs, queue_us=1, service_us=2, batch_size=3),
        grpc_codec.decode_request(_message(raw=raw)),
    )
    response = InferResponse.from_grpc(message)
    assert message.parameters["queue_us"].int64_param == 1
    assert message.parameters["service_us"].int64_param == 2
    assert message.parameters["batch_size"].int64_param == 3
    arrays = {output.name: output.as_numpy() for output in response.outputs}
    assert np.array_equal(arrays["score"], np.array(scores, "<f4"))
    assert arrays["checksum"].tolist() == sums
    read = [text.decode() if isinstance(text, bytes) else text for text in arrays["label"]]
    assert read == labels


def _message(*, raw: bool = False) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="sim")
    tensor = message.inputs.add(name="input_ids", datatype="INT64", shape=[1, 2])
    if raw:
        message.raw_input_contents.append(bytes(16))
    else:
        tensor.contents.int64_contents.extend([1, 2])
    return message


def test_priority_as_the_unsigned_integer_that_triton_sends() -> None:
    message = _message()
    # parameter_choice 5, varint 3: a field that this message type does not know
    message.parameters["priority"].MergeFromString(bytes([5 << 3, 3]))
    assert grpc_codec.decode_request(message).priority == 3


def _bad(change: Callable[[pb.ModelInferRequest], object], *, raw: bool = False) -> bytes:
    message = _message(raw=raw)
    change(message)
    serialized: bytes = message.SerializeToString()
    return serialized


BAD: dict[str, tuple[bytes, str]] = {
    "no inputs": (_bad(lambda m: m.ClearField("inputs")), "inputs"),
    "many inputs": (_bad(lambda m: m.inputs.extend([m.inputs[0]] * 16)), "inputs"),
    "many outputs": (_bad(lambda m: [m.outputs.add(name="x") for _ in range(17)]), "outputs"),
    "input twice": (_bad(lambda m: m.inputs.append(m.inputs[0])), "twice"),
    "no contents": (_bad(lambda m: m.inputs[0].ClearField("contents")), "0 elements"),
    "both contents": (_bad(lambda m: m.raw_input_contents.append(bytes(16))), "both contents"),
    "raw too many": (_bad(lambda m: m.raw_input_contents.append(b""), raw=True), "2 entries"),
    "raw too short": (
        _bad(lambda m: m.raw_input_contents.__setitem__(0, b"1"), raw=True),
        "takes 16 bytes, got 1",
    ),
    "shape": (_bad(lambda m: m.inputs[0].shape.append(2)), "does not match"),
    "shape negative": (_bad(lambda m: m.inputs[0].shape.append(-1)), "negative"),
    "shape long": (_bad(lambda m: m.inputs[0].shape.extend([1] * 9)), "dimensions"),
    "datatype": (_bad(lambda m: setattr(m.inputs[0], "datatype", "FP64")), "FP64"),
    "wrong contents": (
        _bad(lambda m: m.inputs[0].contents.fp32_contents.append(1.0)),
        "not in fp32_contents",
    ),
    "priority text": (
        _bad(lambda m: setattr(m.parameters["priority"], "string_param", "1")),
        "parameters.priority",
    ),
    "timeout negative": (
        _bad(lambda m: setattr(m.parameters["timeout"], "int64_param", -1)),
        "parameters.timeout",
    ),
}


@pytest.mark.parametrize(("serialized", "part"), BAD.values(), ids=BAD)
def test_bad_messages(serialized: bytes, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        grpc_codec.decode_request(pb.ModelInferRequest.FromString(serialized))
