"""Requests as the bytes that go over the wire, built before the clock starts."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from loadtest.bench.lengths import lognormal_lengths
from loadtest.bench.plan import Plan, Protocol, SimulatedWork, TextWork

VOCABULARY_SIZE = 30_000
_VOCABULARY = """
the a of to in for and on with after over new first last world market bank shares rise fall
profit team coach final goal season match win lose player minister vote law court election
talks border treaty protest city police fire storm rain heat flood river energy oil gas wind
solar price cost budget tax trade deal firm factory jobs workers strike union school student
science study cell virus vaccine doctor hospital patient heart brain drug trial planet moon
orbit rocket launch engine car train road bridge airport phone chip software network data cloud
robot film music song book prize actor director festival museum painting
"""
WORDS = tuple(_VOCABULARY.split())


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """`wire` is the whole HTTP request, or the serialized gRPC message."""

    wire: bytes
    tokens: int
    checksum: int | None  # what a right answer holds; None: not verified


def prepare_requests(plan: Plan, count: int) -> Sequence[PreparedRequest]:
    """`count` requests of the plan's work, all different, the same for the same seed."""
    match plan.work:
        case SimulatedWork():
            return _simulated(plan, plan.work, count)
        case TextWork():
            return _text(plan, plan.work, count)


def _simulated(plan: Plan, work: SimulatedWork, count: int) -> Sequence[PreparedRequest]:
    source = random.Random(f"ids {plan.seed}")
    lengths = lognormal_lengths(
        count,
        plan.seed,
        median=work.median_tokens,
        sigma=work.sigma,
        shortest=work.shortest_tokens,
        longest=work.longest_tokens,
    )
    requests = []
    for length in lengths:
        ids = source.choices(range(VOCABULARY_SIZE), k=length)
        if plan.protocol is Protocol.GRPC:
            raw = struct.pack(f"<{length}q", *ids)
            wire = _grpc_message(plan.model, "input_ids", "INT64", (1, length), raw)
        else:
            wire = _http_request(plan, "input_ids", "INT64", (1, length), ids)
        requests.append(PreparedRequest(wire, length, sum(ids)))
    return requests


def _text(plan: Plan, work: TextWork, count: int) -> Sequence[PreparedRequest]:
    source = random.Random(f"words {plan.seed}")
    lengths = lognormal_lengths(
        count,
        plan.seed,
        median=work.median_words,
        sigma=work.sigma,
        shortest=work.shortest_words,
        longest=work.longest_words,
    )
    requests = []
    for length in lengths:
        text = " ".join(source.choices(WORDS, k=length))
        if plan.protocol is Protocol.GRPC:
            coded = text.encode()
            raw = struct.pack("<I", len(coded)) + coded
            wire = _grpc_message(plan.model, "text", "BYTES", (1,), raw)
        else:
            wire = _http_request(plan, "text", "BYTES", (1,), [text])
        requests.append(PreparedRequest(wire, length, None))
    return requests


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    shape: Sequence[int]
    datatype: str
    data: Sequence[int] | Sequence[str]


class _InferBody(msgspec.Struct, frozen=True):
    inputs: Sequence[_Tensor]


def _http_request(
    plan: Plan,
    name: str,
    datatype: str,
    shape: Sequence[int],
    data: Sequence[int] | Sequence[str],
) -> bytes:
    body = msgspec.json.encode(_InferBody([_Tensor(name, shape, datatype, data)]))
    head = (
        f"POST /v2/models/{plan.model}/infer HTTP/1.1\r\n"
        f"Host: {plan.host}:{plan.port}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _grpc_message(model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> bytes:
    # Imported here because an HTTP run has no need of its 0.3 s.
    from loadtest.bench import v2_messages

    message = v2_messages.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    wire: bytes = message.SerializeToString()
    return wire
