"""What bytes of gRPC become: little, or refused before they become much."""

import subprocess
import sys

import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.edge import grpc_codec
from predictor.edge.grpc_messages import MAX_FIELDS, MAX_INTEGERS, check_counts, read
from predictor.edge.grpc_triton import repository_change

MIB = 1 << 20
SENT = 16 * MIB
MOST = 12 * MIB  # beside what was sent

INPUT, CONTENTS, SHAPE, INT32, INT64, STRINGS = 0x2A, 0x2A, 0x1A, 0x12, 0x1A, 0x42


def field(tag: int, content: bytes) -> bytes:
    """A field with a length before it."""
    size, head = len(content), bytearray([tag])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + content


def typed(tag: int, content: bytes) -> bytes:
    return field(INPUT, field(CONTENTS, field(tag, content)))


LARGE = {
    "integers": lambda: typed(INT64, b"\1" * SENT),
    "integers of 32 bits": lambda: typed(INT32, b"\1" * SENT),
    "integers, each a field": lambda: field(INPUT, field(CONTENTS, b"\x18\1" * (SENT // 2))),
    "dimensions": lambda: field(INPUT, field(SHAPE, b"\1" * SENT)),
    "inputs": lambda: field(INPUT, b"") * (SENT // 2),
    "inputs, and then no message": lambda: field(INPUT, b"") * (SENT // 2) + b"\xff",
    "outputs": lambda: field(0x32, b"") * (SENT // 2),
    "raw contents": lambda: field(0x3A, b"") * (SENT // 2),
    "parameters": lambda: field(0x22, b"") * (SENT // 2),
    "strings": lambda: field(INPUT, field(CONTENTS, field(STRINGS, b"") * (SENT // 2))),
    "unknown fields": lambda: b"\xa0\6\1" * (SENT // 3),
    "unknown groups": lambda: b"\xa3\6\xa4\6" * (SENT // 4),
}
REFUSING = """
import asyncio, os, sys
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from predictor.core.errors import InvalidRequest
from predictor.edge.grpc_messages import read
from tests.edge.test_grpc_messages import LARGE
from tests.server.jobs import peak_bytes
sent = LARGE[sys.argv[1]]()
async def refused():
    before = peak_bytes(os.getpid())
    try:
        await read(pb.ModelInferRequest, sent)
    except InvalidRequest as error:
        print(peak_bytes(os.getpid()) - before, error.message)
asyncio.run(refused())
"""


@pytest.mark.parametrize("name", LARGE)
def test_what_would_be_much_is_refused_before(name: str) -> None:
    """The library's peak, which is no memory of Python: measured in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", REFUSING, name], capture_output=True, text=True, check=True
    )
    taken, _, message = ended.stdout.partition(" ")
    assert int(taken) < MOST
    assert "over" in message
    assert "raw_input_contents" in message


async def test_what_requests_need_is_read() -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="ids", datatype="INT64", shape=[1, MAX_INTEGERS - 2])
    message.inputs[0].contents.int64_contents.extend([1] * (MAX_INTEGERS - 2))
    decoded = grpc_codec.decode_request(
        await read(pb.ModelInferRequest, message.SerializeToString())
    )
    assert decoded.inputs["ids"].array().sum() == MAX_INTEGERS - 2
    message.inputs[0].contents.int64_contents.extend([1])
    with pytest.raises(InvalidRequest, match=f"over {MAX_INTEGERS} integers"):
        await read(pb.ModelInferRequest, message.SerializeToString())


async def test_floats_and_raw_bytes_are_no_integers() -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(4 * MIB)])
    message.inputs.add(name="a", datatype="FP32", shape=[1])
    message.inputs[0].contents.fp32_contents.extend([1.5] * MIB)
    read_again = await read(pb.ModelInferRequest, message.SerializeToString())
    assert read_again == message


def test_fields_are_counted_exactly() -> None:
    descriptor = pb.ModelInferRequest.DESCRIPTOR
    check_counts(descriptor, field(INPUT, b"") * MAX_FIELDS)
    with pytest.raises(InvalidRequest, match=f"over {MAX_FIELDS} fields"):
        check_counts(descriptor, field(INPUT, b"") * (MAX_FIELDS + 1))


@pytest.mark.parametrize("broken", [b"\xff", b"\x2a\xff", b"\x2a\x05\1", b"\x0b", b"\x0e", b"\x2a"])
async def test_broken_messages_are_refused_by_their_name(broken: bytes) -> None:
    for sent in (broken, bytes(field(0x7A, b"x" * 100_000)) + broken):
        with pytest.raises(InvalidRequest, match="cannot be read as a ModelInferRequest"):
            await read(pb.ModelInferRequest, sent)


def test_a_broken_parameter_of_a_load() -> None:
    request = pb.RepositoryModelLoadRequest.FromString(field(0x0A, b"m") + field(0x1A, b"\xff"))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        repository_change(request)
