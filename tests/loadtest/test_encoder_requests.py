"""An encoder's requests, read by the server's own codecs, and its answers, checked."""

from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from loadtest.bench import v2_messages
from loadtest.bench.answers import AnyAnswer, Checksums, Holds, Probabilities
from loadtest.bench.plan import ClosedLoop, Dialect, EncoderWork, Plan, Protocol
from loadtest.bench.requests import ADDED_TOKENS, DISTINCT_REQUESTS, prepare_requests
from predictor.edge import grpc_codec, http_codec
from predictor.edge.tensors import InferAnswer, InferRequest, Tensor

LABELS = 4
IDS = [EncoderWork(rows=1, labels=LABELS), EncoderWork(rows=8, labels=LABELS)]
FORMS = [
    *((Protocol.HTTP, work) for work in IDS),
    *((Protocol.HTTP, msgspec.structs.replace(work, binary=True)) for work in IDS),
    *((Protocol.GRPC, work) for work in IDS),
]


def plan_of(
    work: EncoderWork, protocol: Protocol = Protocol.HTTP, dialect: Dialect = Dialect.V2
) -> Plan:
    return Plan(
        port=1, model="bert", load=ClosedLoop(), work=work, protocol=protocol, dialect=dialect
    )


def split(wire: bytes) -> tuple[bytes, Mapping[str, str], bytes]:
    """First line, headers and body of an HTTP message."""
    head, _, body = wire.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    return first.encode(), headers, body


def read_by_the_server(protocol: Protocol, wire: bytes) -> InferRequest:
    if protocol is Protocol.GRPC:
        return grpc_codec.decode_request(v2_messages.ModelInferRequest.FromString(wire))
    _, headers, body = split(wire)
    length = headers.get("inference-header-content-length")
    return http_codec.decode_request(body, int(length) if length else None)


def answered_by_the_server(protocol: Protocol, request: InferRequest, rows: int) -> bytes:
    result = np.full((rows, LABELS), 0.25, dtype=np.float32).tobytes()
    output = Tensor("probabilities", "FP32", (rows, LABELS), result)
    answer = InferAnswer(
        model="bert", id="1", outputs=[output], queue_us=1, service_us=2, batch_size=3
    )
    if protocol is Protocol.GRPC:
        return bytes(grpc_codec.encode_answer(answer, request).SerializeToString())
    coded = http_codec.encode_answer(answer, request)
    binary = f"\r\nInference-Header-Content-Length: {coded.json_length}"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(coded.body)}"
    head += binary if coded.json_length is not None else ""
    return head.encode() + b"\r\n\r\n" + coded.body


@pytest.mark.parametrize(("protocol", "work"), FORMS)
def test_the_server_reads_the_rows_that_were_counted(protocol: Protocol, work: EncoderWork) -> None:
    for prepared in prepare_requests(plan_of(work, protocol), 20):
        request = read_by_the_server(protocol, prepared.wire)
        rows, length = request.inputs["input_ids"].shape
        mask = request.inputs.get("attention_mask")
        assert rows == prepared.rows == work.rows
        assert prepared.tokens == (length if mask is None else mask.array().sum())
        assert [wanted.name for wanted in request.wanted] == ["probabilities"]


@pytest.mark.parametrize(("protocol", "work"), FORMS)
def test_the_server_answers_what_is_checked_for(protocol: Protocol, work: EncoderWork) -> None:
    (prepared,) = prepare_requests(plan_of(work, protocol), 1)
    request = read_by_the_server(protocol, prepared.wire)
    for rows in (work.rows, work.rows + 1):
        answer = answered_by_the_server(protocol, request, rows)
        if protocol is Protocol.GRPC:
            right = prepared.check.grpc(answer)
        else:
            right = prepared.check.http(answer, answer.index(b"\r\n\r\n") + 4)
        assert right == (rows == work.rows)


@pytest.mark.parametrize("protocol", Protocol)
def test_texts_are_as_many_words_as_tokens_but_two(protocol: Protocol) -> None:
    work = EncoderWork(rows=3, as_text=True)
    for prepared in prepare_requests(plan_of(work, protocol), 20):
        text = read_by_the_server(protocol, prepared.wire).inputs["text"]
        assert list(text.shape) == [3, 1]
        words = sum(len(str(each).split()) for each in text.data)
        assert words + 3 * ADDED_TOKENS == prepared.tokens


def test_rivals_are_asked_as_they_want_it() -> None:
    work = EncoderWork(as_text=True, labels=LABELS)
    (plain,) = prepare_requests(plan_of(work, dialect=Dialect.PLAIN), 1)
    (infinity,) = prepare_requests(plan_of(work, dialect=Dialect.INFINITY), 1)
    line, _, body = split(plain.wire)
    assert line == b"POST /predict HTTP/1.1"
    assert len(msgspec.json.decode(body)["text"]) == 1
    assert plain.check.http(b"[[0.1,0.2,0.3,0.4]]", 0)
    assert not plain.check.http(b"[[0.1,0.2,0.3]]", 0)
    line, _, body = split(infinity.wire)
    assert line == b"POST /classify HTTP/1.1"
    assert set(msgspec.json.decode(body)) == {"model", "input"}
    assert infinity.check.http(b'{"score":1}' * LABELS, 0)


def test_an_encoder_reuses_its_requests() -> None:
    plan = plan_of(EncoderWork(median_tokens=8, longest_tokens=8))
    requests = prepare_requests(plan, DISTINCT_REQUESTS + 2)
    assert requests[0] == requests[DISTINCT_REQUESTS]
    assert len({request.wire for request in requests}) == DISTINCT_REQUESTS
    assert requests == prepare_requests(plan, DISTINCT_REQUESTS + 2)


def test_what_is_no_right_answer() -> None:
    assert AnyAnswer().http(b"", 0)
    assert Checksums((7,)).http(b'{"data": [7]}', 0)
    assert Checksums((7, -8)).http(b'{"data": [ 7, -8 ]}', 0)
    assert not Checksums((7,)).http(b'{"data": [8]}', 0)
    assert not Checksums((7,)).http(b'{"data": [7,7]}', 0)
    assert not Checksums((7,)).http(b"{}", 0)
    assert not Checksums((7,)).grpc(b"")
    assert not Probabilities(1, 2).http(b'"shape":[1,2],"data":[0.5]', 0)
    assert not Probabilities(1, 2).grpc(b"")
    assert not Holds(b",", 1).http(b"1,2,3", 0)
