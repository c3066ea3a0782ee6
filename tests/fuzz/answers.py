"""Which answers are right: a refusal of the client's fault, or the correct result.

What is correct is worked out here from the input, by other means than the server's.
"""

import json
import math
import re
import struct
from typing import Any

from google.protobuf.message import DecodeError
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.fuzz.inputs import HEAD_LENGTH, Input
from tests.fuzz.sending import Answer

_CLIENTS_FAULT = re.compile(r"4\d\d")
_OF_HEADS = re.compile(r"2\d\d|4\d\d|501|505")
_GRPC_FAULTS = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
# A limit was reached. They are counted: a server that only refuses does not pass.
REFUSALS = {"429", "503", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
_POISON = b"a row has a negative id"  # the simulated model does so for a negative id
_MOST_ERROR = 4096  # bytes


def problem(sent: Input, answer: Answer) -> str:
    """What is wrong with `answer`; empty where nothing is."""
    if sent.kind == "HTTP heads":
        statuses = answer.status.split()
        if answer.status != "closed" and not all(map(_OF_HEADS.fullmatch, statuses)):
            return "a status that is not the client's fault"
        return "refused, though untouched" if sent.untouched and "200" not in statuses else ""
    if answer.status in REFUSALS:
        return "" if answer.retry_after else "a refusal without Retry-After"
    if answer.status in {"500", "INTERNAL"}:
        return "" if _POISON in answer.body else "a fault of the server"
    if answer.status in {"504", "DEADLINE_EXCEEDED"}:
        return "" if b"timeout" in sent.body else "no deadline was asked for"
    if _CLIENTS_FAULT.fullmatch(answer.status) or answer.status in _GRPC_FAULTS:
        if sent.untouched:
            return "refused, though untouched"
        return _problem_of_error(sent, answer)
    if answer.status == "ERROR":  # with a sentence, but no status
        return "refused, though untouched" if sent.untouched else ""
    if answer.status not in {"200", "202", "OK"}:
        return "a status that nobody expects"
    try:
        return "" if _is_correct(sent, answer) else "the wrong result"
    except (ValueError, KeyError, IndexError, TypeError, DecodeError, struct.error) as error:
        return f"an answer that cannot be checked: {error!r}"


def _problem_of_error(sent: Input, answer: Answer) -> str:
    if not 10 < len(answer.body) < _MOST_ERROR:
        return "an error that says nothing, or too much"
    if sent.path.startswith("/inference"):
        return ""
    error = answer.plain.get("error")
    named = error.get("message") if isinstance(error, dict) else error
    return "" if isinstance(named, str) and named else "an error without its sentence"


def _is_correct(sent: Input, answer: Answer) -> bool:
    if sent.kind in {"v2 JSON", "v2 binary"}:
        return _sums_of_answer(answer) == _sums_of_body(sent)
    if sent.kind == "v2 text":
        plain, _ = _head_of(answer)
        (texts,) = (entry["shape"] for entry in json.loads(sent.body)["inputs"])
        return all(output["shape"][0] == math.prod(texts) for output in plain["outputs"])
    if sent.kind == "V1":
        plain = answer.plain
        return bool(plain.get("data", plain)["predictions"])  # in a CloudEvent, or not
    if sent.kind == "jobs":
        return bool(answer.plain["id"])
    if sent.kind == "audio":
        (output,) = answer.plain["outputs"]
        return isinstance(output["data"][0], str)
    if sent.kind in {"OpenAI", "generate"}:
        return _is_generated(answer.body)
    if sent.kind in {"gRPC messages", "gRPC streams"}:
        return _is_correct_message(sent.body, answer.body)
    return True


def _wrapped(total: int) -> int:
    """As INT64 wraps."""
    return (total + (1 << 63)) % (1 << 64) - (1 << 63)


def _flat(data: Any) -> list[int]:
    return [each for part in data for each in _flat(part)] if isinstance(data, list) else [data]


def _rows(values: list[int], shape: list[int]) -> list[int]:
    width = len(values) // shape[0]
    return [_wrapped(sum(values[at : at + width])) for at in range(0, len(values), width)]


def _sums_of_body(sent: Input) -> list[int]:
    head = sent.headers.get(HEAD_LENGTH)
    plain = json.loads(sent.body[: int(head)] if head else sent.body)
    (entry,) = (each for each in plain["inputs"] if each["name"] == "input_ids")
    if "data" in entry:
        return _rows(_flat(entry["data"]), entry["shape"])
    assert head
    raw = sent.body[int(head) :]
    size, code = (8, "q") if entry["datatype"] == "INT64" else (4, "i")
    return _rows(list(struct.unpack(f"<{len(raw) // size}{code}", raw)), entry["shape"])


def _head_of(answer: Answer) -> tuple[Any, bytes]:
    """The JSON, and the raw bytes behind it."""
    plain, end = json.JSONDecoder().raw_decode(answer.body.decode("latin-1"))
    return plain, answer.body[end:]


def _sums_of_answer(answer: Answer) -> list[int]:
    plain, raw = _head_of(answer)
    (output,) = plain["outputs"]
    if "data" in output:
        return _flat(output["data"])
    return list(struct.unpack(f"<{len(raw) // 8}q", raw))


def _is_generated(body: bytes) -> bool:
    """An object, or events of which each is one."""
    if not body.startswith(b"data: "):
        plain = json.loads(body)
        return "text_output" in plain or bool(plain["choices"])
    events = body.decode().removesuffix("\n\n").split("\n\n")
    parts = [event.removeprefix("data: ") for event in events]
    plains = [json.loads(part) for part in parts if part != "[DONE]"]
    return bool(plains) and not any("error" in plain for plain in plains)


def _is_correct_message(sent: bytes, answered: bytes) -> bool:
    request = pb.ModelInferRequest.FromString(sent)
    answer = pb.ModelInferResponse.FromString(answered)
    if request.model_name != "sim":
        return len(answer.outputs) >= 1
    (entry,) = (each for each in request.inputs if each.name == "input_ids")
    size, code = (8, "q") if entry.datatype == "INT64" else (4, "i")
    if request.raw_input_contents:
        (raw,) = request.raw_input_contents
        values = list(struct.unpack(f"<{len(raw) // size}{code}", raw))
    else:
        values = list(entry.contents.int64_contents or entry.contents.int_contents)
    if answer.raw_output_contents:
        (raw,) = answer.raw_output_contents
        sums = list(struct.unpack(f"<{len(raw) // 8}q", raw))
    else:
        sums = list(answer.outputs[0].contents.int64_contents)
    return sums == _rows(values, list(entry.shape))
