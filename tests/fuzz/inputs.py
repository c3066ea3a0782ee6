"""The inputs of a storm, kind by kind: the same for the same seed."""

import base64
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import yaml
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.audio.clips import file_of, noise
from tests.fuzz import bodies
from tests.fuzz.mutations import FORGED, TOKENS, changed, mutated

SIM, TOPICS, WORDS, EARS = (f"/v2/models/{name}" for name in ("sim", "topics", "words", "ears"))
GRPC = "/inference.GRPCInferenceService/"
CLIP_S = 0.2
HEAD_LENGTH = "inference-header-content-length"
UNTOUCHED = 0.05  # of all inputs: they must be answered
STORM_TOKENS = (*TOKENS, f"x\n{FORGED}\r\n".encode(), b"\\n" + FORGED.encode(), "é\u2028".encode())
METHODS = (
    *("ModelInfer", "ModelReady", "ModelMetadata", "ServerMetadata", "ServerReady", "ServerLive"),
    *("RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex", "ModelConfig"),
    *("ModelStatistics", "TraceSetting", "SystemSharedMemoryStatus"),
)
_SHARED = b"POST /v2/models/sim/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_RAW = [
    _SHARED + b"Content-Length: %d\r\n\r\n%b" % (len(bodies.FLAT), bodies.FLAT),
    _SHARED
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-T: 1\r\n\r\n"
    % (len(bodies.FLAT), bodies.FLAT),
    _SHARED + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nX-Headway-Tier: bulk\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(bodies.FLAT), bodies.FLAT),
    b"GET /v2/models/sim/ready HTTP/1.1\r\nHost: x\r\n\r\nGET /v2 HTTP/1.0\r\n\r\n",
]


@dataclass(frozen=True)
class Input:
    """`path` is that of HTTP, or the method of gRPC; `untouched`: it must be answered."""

    kind: str
    number: int
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    untouched: bool = False

    def __str__(self) -> str:
        return (
            f"{self.kind} number {self.number}: {self.path} {self.headers} body (hex)"
            f" {self.body.hex()}"
        )


Make = Callable[[random.Random], tuple[str, bytes, dict[str, str]]]
Mutate = Callable[[bytes, random.Random], bytes]


def _v2(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return f"{SIM}/infer", chance.choice((bodies.FLAT, bodies.NESTED)), {}


def _binary(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    length = len(bodies.HEAD)
    return f"{SIM}/infer", bodies.BINARY, {HEAD_LENGTH: str(length)}


def _texts(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return f"{TOPICS}/infer", bodies.TEXT, {}


def _v1(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    path = "/v1/models/sim:predict"
    event = {"content-type": "application/cloudevents+json"}
    body = chance.choice(bodies.V1)
    return path, body, event if body.startswith(b'{"spec') else {}


def _openai(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    chats = chance.random() < 0.6
    route = "chat/completions" if chats else "completions"
    return f"/openai/v1/{route}", chance.choice(bodies.CHATS if chats else bodies.COMPLETIONS), {}


def _generate(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    route = chance.choice(("generate", "generate_stream"))
    return f"{WORDS}/{route}", chance.choice(bodies.GENERATES), {}


def _jobs(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return f"{SIM}/jobs", bodies.JOB, {"content-type": "application/x-ndjson"}


def _raw(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return "", chance.choice(_RAW), {}


CLIPS = tuple(file_of(noise(CLIP_S), kind=kind) for kind in ("WAV", "FLAC"))


def _audio(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Before base64: the file is mutated, not its letters."""
    return f"{EARS}/infer", chance.choice(CLIPS), {}


def in_base64(file: bytes) -> bytes:
    data = [base64.b64encode(file).decode()]
    entry = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": data}
    return json.dumps({"inputs": [entry]}).encode()


def _message(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """ModelInfer: typed, raw, and text, each with parameters."""
    request = pb.ModelInferRequest(model_name="sim", id="7")
    request.parameters["priority"].int64_param = 1
    form = chance.randrange(3)
    if form == 2:
        request.model_name = "topics"
        request.inputs.add(name="text", datatype="BYTES", shape=[1])
        request.inputs[0].contents.bytes_contents.append(b"the bus is late")
    else:
        request.inputs.add(name="input_ids", datatype="INT64", shape=[2, 2])
        if form:
            request.raw_input_contents.append(struct.pack("<4q", 1, 2, 3, 4))
        else:
            request.inputs[0].contents.int64_contents.extend((1, 2, 3, 4))
    return f"{GRPC}ModelInfer", request.SerializeToString(deterministic=True), {}


def _stream(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    _, body, headers = _message(chance)
    return f"{GRPC}ModelStreamInfer", body, headers


def _any_method(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return GRPC + chance.choice(METHODS), b"\x0a\x03sim", {}


def _parameters(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    return "", bodies.PARAMETERS, {}


def _document(body: bytes, chance: random.Random) -> bytes:
    """YAML: every second document is JSON, which it can be."""
    if chance.random() < 0.5:
        return _bytes(body, chance)
    return changed(json.dumps(yaml.safe_load(body)).encode(), chance)


def _bytes(body: bytes, chance: random.Random) -> bytes:
    return mutated(body, chance, STORM_TOKENS)


def _random_or_mutated(body: bytes, chance: random.Random) -> bytes:
    return (
        chance.randbytes(chance.randrange(200)) if chance.random() < 0.5 else _bytes(body, chance)
    )


def _json(body: bytes, chance: random.Random) -> bytes:
    return changed(body, chance) if chance.random() < 0.6 else _bytes(body, chance)


def _lines(body: bytes, chance: random.Random) -> bytes:
    lines = body.splitlines(keepends=True)
    number = chance.randrange(len(lines))
    lines[number] = _json(lines[number].rstrip(b"\n"), chance) + chance.choice(
        (b"\n", b"\r\n", b"")
    )
    return b"".join(lines)


def _head(body: bytes, chance: random.Random) -> bytes:
    """What stands before the raw bytes, or they themselves."""
    head, raw = body[: len(bodies.HEAD)], body[len(bodies.HEAD) :]
    return head + _bytes(raw, chance) if chance.random() < 0.3 else _json(head, chance) + raw


def _fields(body: bytes, chance: random.Random) -> bytes:
    """A message that is still one, with other values; or its bytes mutated."""
    if chance.random() < 0.4:
        return _bytes(body, chance)
    request = pb.ModelInferRequest.FromString(body)
    entry = request.inputs[0]
    number = chance.choice((-1, 0, 1, 2, 3, 1 << 31, (1 << 63) - 1))
    text = chance.choice(("", "x", "INT64", "FP32", "BYTES", "é\u2028", f"x\n{FORGED}", "y" * 5000))
    changes: Sequence[Callable[[], object]] = (
        lambda: entry.shape.append(number),
        lambda: entry.shape.__setitem__(0, number),
        lambda: entry.contents.int64_contents.append(number),
        lambda: entry.contents.int_contents.append(7),
        lambda: entry.contents.fp64_contents.append(0.5),
        lambda: entry.contents.bytes_contents.append(text.encode()),
        lambda: setattr(entry, "name", text),
        lambda: setattr(entry, "datatype", text),
        lambda: setattr(request, "model_name", text),
        lambda: setattr(request, "model_version", text),
        lambda: setattr(request, "id", text),
        lambda: request.inputs.append(entry),
        lambda: request.outputs.add(name=text),
        lambda: request.raw_input_contents.append(text.encode()),
        lambda: setattr(request.parameters[text], "int64_param", number),
        lambda: setattr(request.parameters["timeout"], "int64_param", number),
        lambda: setattr(request.parameters["priority"], "string_param", text),
        lambda: setattr(entry.parameters["binary_data_size"], "int64_param", number),
    )
    for change in chance.sample(changes, chance.randint(1, 2)):
        change()
    return bytes(request.SerializeToString(deterministic=True))


# How many of each, how one is made, and how it is mutated.
KINDS: dict[str, tuple[int, Make, Mutate]] = {
    "v2 JSON": (12_000, _v2, _json),
    "v2 binary": (6000, _binary, _head),
    "v2 text": (1000, _texts, _json),
    "V1": (5000, _v1, _json),
    "OpenAI": (5000, _openai, _json),
    "generate": (3000, _generate, _json),
    "jobs": (1000, _jobs, _lines),
    "HTTP heads": (4000, _raw, _bytes),
    "audio": (1500, _audio, _bytes),
    "gRPC bytes": (4000, _any_method, _random_or_mutated),
    "gRPC messages": (6000, _message, _fields),
    "gRPC streams": (1000, _stream, _fields),
    "parameters": (150, _parameters, _document),
}


def inputs(kind: str, seed: int, share: float = 1.0) -> Iterator[Input]:
    """`share` of the kind's number, never none."""
    count, make, mutate = KINDS[kind]
    chance = random.Random(f"{seed} {kind}")
    for number in range(max(1, round(share * count))):
        path, body, headers = make(chance)
        untouched = kind != "gRPC bytes" and chance.random() < UNTOUCHED
        if not untouched:
            before = len(body)
            body = mutate(body, chance)
            if kind == "v2 binary" and chance.random() < 0.9:  # else the head ends elsewhere
                length = int(headers[HEAD_LENGTH]) + len(body) - before
                headers = {HEAD_LENGTH: str(length)}
        if kind == "audio":
            body = in_base64(body)
        yield Input(kind, number, path, body, headers, untouched)
