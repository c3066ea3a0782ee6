"""Round trips between our codec and the bodies that tritonclient builds and reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from predictor.core.errors import InvalidRequest
from predictor.edge import http_codec
from predictor.edge.tensors import InferAnswer, Tensor, split_elements, texts_of

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 5))


@given(shape=SIZES, data=st.data(), texts=TEXTS, binary=st.tuples(st.booleans(), st.booleans()))
def test_requests_of_tritonclient(
    shape: tuple[int, int], data: st.DataObject, texts: list[str], binary: tuple[bool, bool]
) -> None:
    size = shape[0] * shape[1]
    values = data.draw(st.lists(INT64, min_size=size, max_size=size))
    ids = np.array(values, "<i8").reshape(shape)
    ids_input = InferInput("input_ids", list(shape), "INT64")
    ids_input.set_data_from_numpy(ids, binary_data=binary[0])
    text_input = InferInput("text", [len(texts)], "BYTES")
    text_input.set_data_from_numpy(np.array(texts, object), binary_data=binary[1])
    body, json_length = InferenceServerClient.generate_request_body(
        [ids_input, text_input],
        outputs=[InferRequestedOutput("label", binary_data=binary[0])],
        request_id="7",
        priority=2,
        timeout=5000,
    )
    request = http_codec.decode_request(bytes(body), json_length)
    assert request.id == "7"
    assert (request.priority, request.timeout_us) == (2, 5000)
    assert [(wanted.name, wanted.binary) for wanted in request.wanted] == [("label", binary[0])]
    assert np.array_equal(request.inputs["input_ids"].array(), ids)
    assert texts_of(request.inputs["text"]) == texts


@given(
    binary=st.booleans(),
    scores=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    sums=st.lists(INT64, min_size=1),
    labels=TEXTS,
)
def test_answers_that_tritonclient_reads(
    binary: bool, scores: list[float], sums: list[int], labels: list[str]
) -> None:
    outputs = [
        Tensor("score", "FP32", (len(scores),), np.array(scores, "<f4").tobytes()),
        Tensor("checksum", "INT64", (len(sums), 1), np.array(sums, "<i8").tobytes()),
        Tensor("label", "BYTES", (len(labels),), labels),
    ]
    request = http_codec.decode_request(_body(binary))
    encoded = http_codec.encode_answer(
        InferAnswer(model="m", id="i", outputs=outputs, queue_us=1, service_us=2, batch_size=3),
        request,
    )
    assert (encoded.json_length is not None) == binary
    result = InferResult.from_response_body(encoded.body, header_length=encoded.json_length)
    assert result.get_response()["parameters"] == {
        "queue_us": 1,
        "service_us": 2,
        "batch_size": 3,
    }
    assert np.array_equal(result.as_numpy("score"), np.array(scores, "<f4"))
    assert result.as_numpy("checksum").ravel().tolist() == sums
    read = [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("label")]
    assert read == labels


def _body(binary: bool) -> bytes:
    flag = b"true" if binary else b"false"
    return (
        b'{"inputs":[{"name":"a","datatype":"INT64","shape":[1],"data":[1]}],'
        b'"parameters":{"binary_data_output":' + flag + b"}}"
    )


def test_nested_data_is_flattened() -> None:
    body = b'{"inputs":[{"name":"a","datatype":"INT64","shape":[2,2],"data":[[1,2],[3,4]]}]}'
    assert http_codec.decode_request(body).inputs["a"].array().tolist() == [[1, 2], [3, 4]]


def _binary(entry: str, tail: bytes, extra: int = 0) -> tuple[bytes, int]:
    head = ('{"inputs":[' + entry + "]}").encode()
    return head + tail, len(head) + extra


INT_ENTRY = '{"name":"a","datatype":"INT64","shape":[1,2],"parameters":{"binary_data_size":%d}%s}'
TEXT_ENTRY = '{"name":"t","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":%d}}'
BAD = {
    "size other than shape": (*_binary(INT_ENTRY % (8, ""), bytes(8)), "takes 16 bytes"),
    "tail too short": (*_binary(INT_ENTRY % (16, ""), bytes(8)), "goes beyond the body"),
    "tail too long": (*_binary(INT_ENTRY % (16, ""), bytes(24)), "24 bytes follow"),
    "size negative": (*_binary(INT_ENTRY % (-1, ""), bytes(16)), "binary_data_size"),
    "size huge": (*_binary(INT_ENTRY % (1 << 62, ""), bytes(16)), "goes beyond"),
    "data twice": (*_binary(INT_ENTRY % (16, ',"data":[1,2]'), bytes(16)), "both data"),
    "header too short": (*_binary(INT_ENTRY % (16, ""), bytes(16), -1), "truncated"),
    "header too long": (*_binary(INT_ENTRY % (16, ""), bytes(16), 1), "malformed"),
    "text cut off": (*_binary(TEXT_ENTRY % 6, b"\x09\0\0\0ab"), "ends after the data"),
    "text prefix cut off": (*_binary(TEXT_ENTRY % 2, b"\x01\0"), "ends after the data"),
    "text twice": (*_binary(TEXT_ENTRY % 8, bytes(8)), "2 elements"),
}


@pytest.mark.parametrize(("body", "json_length", "part"), BAD.values(), ids=BAD)
def test_bad_binary(body: bytes, json_length: int, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        http_codec.decode_request(body, json_length)


@given(raw=st.binary(max_size=64))
def test_any_bytes_split_into_elements_or_are_refused(raw: bytes) -> None:
    try:
        elements = split_elements("t", raw)
    except InvalidRequest:
        return
    assert sum(4 + len(element) for element in elements) == len(raw)
