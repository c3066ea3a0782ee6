"""Requests as the bytes that go over the wire, built before the clock starts."""

import random
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from loadtest.bench.answers import AnswerCheck, AnyAnswer, Checksums, Holds, Probabilities
from loadtest.bench.errors import BenchError
from loadtest.bench.lengths import lognormal_lengths
from loadtest.bench.plan import Dialect, EncoderWork, Plan, Protocol, SimulatedWork, TextWork
from loadtest.bench.wire import (
    RawTensor,
    Tensor,
    binary_body,
    grpc_message,
    http_post,
    json_body,
)

VOCABULARY_SIZE = 30_000
DISTINCT_REQUESTS = 4096
ADDED_TOKENS = 2  # by the tokenizer, around a text
WANTED = "probabilities"
TIER_HEADER = "X-Headway-Tier"
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
    check: AnswerCheck
    rows: int = 1


def prepare_requests(plan: Plan, count: int) -> Sequence[PreparedRequest]:
    """`count` requests of the plan's work, the same for the same seed.

    All are different, but for those of an encoder, which repeat after DISTINCT_REQUESTS:
    at tens of thousands a second, making them would take longer than the run.

    Raises:
        BenchError: a tier over gRPC, which this generator does not tell there.
    """
    if plan.tier and plan.protocol is not Protocol.HTTP:
        raise BenchError("a tier is told over HTTP only; leave it out for gRPC")
    match plan.work:
        case SimulatedWork():
            return _simulated(plan, plan.work, count)
        case TextWork():
            return _text(plan, plan.work, count)
        case EncoderWork():
            distinct = _encoder(plan, plan.work, min(count, DISTINCT_REQUESTS))
            return [distinct[index % len(distinct)] for index in range(count)]


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
        shape = (work.rows, length)
        ids = source.choices(range(VOCABULARY_SIZE), k=work.rows * length)
        if plan.protocol is Protocol.GRPC:
            raw = struct.pack(f"<{len(ids)}q", *ids)
            wire = grpc_message(plan.model, [RawTensor("input_ids", shape, "INT64", raw)])
        else:
            wire = _infer_post(plan, json_body([Tensor("input_ids", shape, "INT64", ids)]))
        sums = (sum(ids[first : first + length]) for first in range(0, len(ids), length))
        requests.append(PreparedRequest(wire, len(ids), Checksums(tuple(sums)), work.rows))
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
            wire = grpc_message(plan.model, [_raw_texts([text], (1,))])
        else:
            wire = _infer_post(plan, json_body([Tensor("text", (1,), "BYTES", [text])]))
        requests.append(PreparedRequest(wire, length, AnyAnswer()))
    return requests


def _encoder(plan: Plan, work: EncoderWork, count: int) -> Sequence[PreparedRequest]:
    source = random.Random(f"rows {plan.seed}")
    lengths = lognormal_lengths(
        count * work.rows,
        plan.seed,
        median=work.median_tokens,
        sigma=work.sigma,
        shortest=work.shortest_tokens,
        longest=work.longest_tokens,
    )
    check = _encoder_check(plan, work)
    requests = []
    for first in range(0, len(lengths), work.rows):
        of_one = lengths[first : first + work.rows]
        if work.as_text:
            texts = [" ".join(source.choices(WORDS, k=each - ADDED_TOKENS)) for each in of_one]
            wire = _texts_wire(plan, texts)
        else:
            wire = _ids_wire(plan, work, _id_tensors(work, of_one, source))
        requests.append(PreparedRequest(wire, sum(of_one), check, work.rows))
    return requests


def _encoder_check(plan: Plan, work: EncoderWork) -> AnswerCheck:
    match plan.dialect:
        case Dialect.V2:
            return Probabilities(work.rows, work.labels)
        case Dialect.PLAIN:
            return Holds(b",", work.rows * work.labels - 1)
        case Dialect.INFINITY:
            return Holds(b'"score"', work.rows * work.labels)


def _texts_wire(plan: Plan, texts: Sequence[str]) -> bytes:
    shape = (len(texts), 1)  # Triton wants a batch dimension
    match plan.dialect, plan.protocol:
        case Dialect.V2, Protocol.GRPC:
            return grpc_message(plan.model, [_raw_texts(texts, shape)], WANTED)
        case Dialect.V2, Protocol.HTTP:
            return _infer_post(plan, json_body([Tensor("text", shape, "BYTES", texts)], WANTED))
        case Dialect.PLAIN, _:
            path, body = "/predict", msgspec.json.encode({"text": texts})
        case Dialect.INFINITY, _:
            path, body = "/classify", msgspec.json.encode({"model": plan.model, "input": texts})
    return http_post(plan.host, plan.port, path, body)


def _id_tensors(
    work: EncoderWork, lengths: Sequence[int], source: random.Random
) -> Sequence[RawTensor]:
    """`input_ids`, and the mask where rows of several lengths share the tensor."""
    longest = max(lengths)
    shape = (len(lengths), longest)
    ids, mask = array("q"), array("q")
    for length in lengths:
        padding = [0] * (longest - length)
        ids.extend([*source.choices(range(work.vocabulary_size), k=length), *padding])
        mask.extend([*[1] * length, *padding])
    tensors = [RawTensor("input_ids", shape, "INT64", ids.tobytes())]
    if len(lengths) > 1:
        tensors.append(RawTensor("attention_mask", shape, "INT64", mask.tobytes()))
    return tensors


def _ids_wire(plan: Plan, work: EncoderWork, tensors: Sequence[RawTensor]) -> bytes:
    if plan.protocol is Protocol.GRPC:
        return grpc_message(plan.model, tensors, WANTED)
    if work.binary:
        return _infer_post(plan, *binary_body(tensors, WANTED))
    plain = [
        Tensor(each.name, each.shape, each.datatype, array("q", each.raw).tolist())
        for each in tensors
    ]
    return _infer_post(plan, json_body(plain, WANTED))


def _raw_texts(texts: Sequence[str], shape: Sequence[int]) -> RawTensor:
    coded = [text.encode() for text in texts]
    raw = b"".join(struct.pack("<I", len(each)) + each for each in coded)
    return RawTensor("text", shape, "BYTES", raw)


def _infer_post(plan: Plan, body: bytes, tail: bytes = b"") -> bytes:
    headers = {TIER_HEADER: plan.tier} if plan.tier else {}
    path = f"/v2/models/{plan.model}/infer"
    return http_post(plan.host, plan.port, path, body, tail, headers)
