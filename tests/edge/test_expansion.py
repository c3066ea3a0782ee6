"""What a request makes of its bytes: a small multiple at most, and far less where it is refused."""

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import MAX_MESSAGE_CHARACTERS, HeadwayError, InvalidRequest
from predictor.edge import grpc_codec, http_codec
from predictor.edge.codecs import codec_for
from predictor.edge.openai.schema import Message, TextPart, texts_of_messages
from predictor.edge.service import InferService
from predictor.edge.tasks import check_inputs, check_outputs
from predictor.edge.tensors import Tensor, WantedOutput, tensor_from_binary
from tests.edge.fake_engine import SIMULATED, FakeEngine

MB = 1_000_000
LONG_NAME = "\x07" * (16 * MB)
LONGEST = 400_000


@contextmanager
def at_most(most_bytes: float) -> Iterator[None]:
    """Python and numpy may hold so much more meanwhile than before, and no more."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_bytes


def test_one_long_row_makes_no_other_long() -> None:
    """As one table they took 2.4 GB of a body of 801 kB."""
    instances = [[1] * LONGEST, *([1] for _ in range(199))]
    codec = codec_for(msgspec.structs.replace(SIMULATED, max_tokens=LONGEST), 200)
    with at_most(3 * LONGEST * 8 + MB):
        taken = codec.rows(codec.instances(instances))
    assert [row.tokens for row in taken.rows] == [LONGEST] + [1] * 199
    assert len(taken.rows[0].payload) == LONGEST * 8


def test_rows_of_v1_are_counted_before_they_are_read() -> None:
    codec = codec_for(SIMULATED, 200)
    with at_most(MB), pytest.raises(InvalidRequest, match="has 100000 rows; send 1 to 200"):
        codec.instances([[1]] * 100_000)
    long = [1] * (SIMULATED.max_tokens + 1)
    with at_most(MB), pytest.raises(InvalidRequest, match=r"input_ids\[1\] has \d+ ids"):
        codec.instances([[1], long])


@pytest.mark.parametrize("shape", [[3_000_000], [1], [3_000_000, 1]])
def test_strings_of_a_byte_are_counted_before_they_are_cut(shape: list[int]) -> None:
    raw = struct.pack("<I1s", 1, b"x") * 3_000_000
    with at_most(MB), pytest.raises(InvalidRequest, match="elements"):
        tensor_from_binary("text", "BYTES", shape, raw)


def test_typed_strings_are_counted_before_they_are_objects() -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="text", datatype="BYTES", shape=[500_000])
    message.inputs[0].contents.bytes_contents.extend([b"x"] * 500_000)
    with at_most(MB), pytest.raises(InvalidRequest, match="has over 65536 elements"):
        grpc_codec.decode_request(message)


@pytest.mark.parametrize(
    ("datatype", "shape", "element"),
    [
        ("INT64", [1, 2], "1"),
        ("INT64", [1, 2], "[]"),
        ("FP32", [4, 0], "[]"),
        ("BYTES", [2], '""'),
        ("BYTES", [3_000_000], '""'),
    ],
)
def test_json_is_counted_before_it_is_decoded(
    datatype: str, shape: list[int], element: str
) -> None:
    data = "[" + ",".join([element] * 3_000_000) + "]"
    body = (
        f'{{"inputs":[{{"name":"a","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}'
    ).encode()
    with at_most(2.5 * len(body)), pytest.raises(InvalidRequest, match=r"elements|lists"):
        http_codec.decode_request(body)


@pytest.mark.parametrize("data", ['["a\\",", "b"]', '["\\",\\"", ","]', '[[","], ["\\","]]'])
def test_commas_in_strings_are_no_elements(data: str) -> None:
    padded = '{"inputs":[{"name":"a","datatype":"BYTES","shape":[2],"data":%s}]}'
    decoded = http_codec.decode_request((padded % (data + " " * 40_000)).encode())
    assert len(decoded.inputs["a"].data) == 2
    full = '["' + '\\",' * 20_000 + '","' + ",".join(["x"] * 20_000) + '"]'
    assert len(http_codec.decode_request((padded % full).encode()).inputs["a"].data) == 2


def test_nested_numbers_are_counted_right() -> None:
    rows = [list(range(100)) for _ in range(200)]
    body = msgspec.json.encode(
        {"inputs": [{"name": "a", "datatype": "INT64", "shape": [200, 100], "data": rows}]}
    )
    assert http_codec.decode_request(body).inputs["a"].array().tolist() == rows
    empty = b'{"inputs":[{"name":"a","datatype":"INT64","shape":[9000,0],"data":[%s]}]}'
    decoded = http_codec.decode_request(empty % b",".join([b"[]"] * 9000))
    assert decoded.inputs["a"].array().shape == (9000, 0)


def _json(**changed: object) -> bytes:
    entry = {"name": LONG_NAME, "datatype": "INT64", "shape": [1], "data": [1]} | changed
    return msgspec.json.encode({"inputs": [entry, entry]})


def _message(**changed: object) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m")
    for _ in range(2):
        message.inputs.add(
            **{"name": "\x07" * (4 * MB), "datatype": "INT64", "shape": [1]} | changed
        )
    return message


NAMED = Tensor(LONG_NAME, "FP32", (1,), bytes(4))
ECHOES = {
    "twice": lambda: http_codec.decode_request(_json()),
    "datatype": lambda: http_codec.decode_request(_json(datatype=LONG_NAME)),
    "shape": lambda: http_codec.decode_request(_json(shape=[7])),
    "both": lambda: http_codec.decode_request(_json(parameters={"binary_data_size": 8})),
    "id": lambda: http_codec.decode_request(
        msgspec.json.encode(
            {
                "id": LONG_NAME,
                "inputs": [{"name": "a", "datatype": "INT64", "shape": [1], "data": [1]}],
            }
        )
    ),
    "grpc": lambda: grpc_codec.decode_request(_message()),
    "grpc datatype": lambda: grpc_codec.decode_request(_message(datatype=LONG_NAME)),
    "input": lambda: check_inputs({LONG_NAME: NAMED}, codec_for(SIMULATED, 8).inputs),
    "output": lambda: check_outputs([WantedOutput(LONG_NAME)], codec_for(SIMULATED, 8).outputs),
    "column": lambda: codec_for(SIMULATED, 8).rows({"input_ids": NAMED}),
    "model": lambda: InferService(FakeEngine({}), (), 8).codec(LONG_NAME),
    "part of a message": lambda: texts_of_messages(
        [Message(role="user", content=[TextPart(type=LONG_NAME)])]
    ),
    "utf-8": lambda: tensor_from_binary(LONG_NAME, "BYTES", [1], b"\xff"),
}


@pytest.mark.parametrize("refused", ECHOES.values(), ids=ECHOES)
def test_what_is_quoted_is_cut(refused: object) -> None:
    """A name of 16 MB came back as 84 MB."""
    assert callable(refused)
    with pytest.raises(HeadwayError) as raised:
        refused()
    assert len(raised.value.args[0]) < 1500
    assert raised.value.message.isprintable()


def test_no_message_is_longer_than_a_page() -> None:
    message = InvalidRequest("x" * MB).message
    assert len(message) <= MAX_MESSAGE_CHARACTERS + 1
