"""Byte order marks, halves of characters, and brackets beyond what rows need."""

import json
import threading
from codecs import BOM_UTF8
from typing import Any

import pytest

from predictor.core.errors import InvalidRequest
from predictor.edge import http_codec
from predictor.edge.http import EdgeApp
from predictor.edge.json_text import check_brackets
from predictor.edge.service import InferService
from predictor.edge.tensors import InferRequest
from tests.edge.asgi import answered, ids_input, nothing_here, text_input
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import FakeEngine
from tests.edge.fake_jobs import FakeJobs

V2 = "/v2/models/sim/infer"
V1 = "/v1/models/sim:predict"
BODIES = {
    V2: json.dumps({"inputs": [ids_input(1, 2)]}).encode(),
    V1: json.dumps({"instances": [[1, 2]]}).encode(),
    "/v2/repository/index": b"{}",
}
_MIB = 1 << 20


@pytest.mark.parametrize("path", BODIES)
async def test_a_byte_order_mark_does_no_harm(app: EdgeApp, path: str) -> None:
    plain = await answered(app, path, BODIES[path])
    marked = await answered(app, path, BOM_UTF8 + BODIES[path])
    assert (plain.status, marked.status) == (200, 200)
    for name in ("outputs", "predictions"):
        assert (name in marked.json) == (name in plain.json)
        if name in plain.json:
            assert marked.json[name] == plain.json[name]


async def test_a_byte_order_mark_before_the_first_line_of_a_job(engine: FakeEngine) -> None:
    jobs = FakeJobs()
    app = EdgeApp(InferService(engine, ("sim",), MAX_ROWS), nothing_here, MAX_BODY_BYTES, jobs)
    body = BOM_UTF8 + BODIES[V2] + b"\n" + BODIES[V2]
    assert (await answered(app, "/v2/models/sim/jobs", body)).status == 202
    assert jobs.kept["job-0"].status.total == 2


def _v2(text: str, name: str = '"text"') -> bytes:
    plain = json.dumps({"id": "ID", "inputs": [text_input("well", "TEXT")]})
    return plain.replace('"TEXT"', text).replace('"text"', name).encode()


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v2/models/topics/infer", _v2(r'"ab \ud83d"'), "inputs[0].data[1]"),
        ("/v2/models/topics/infer", _v2(r'"\ud83d more"'), "inputs[0].data[1]"),
        ("/v2/models/topics/infer", _v2(r'"\uDE00"'), "inputs[0].data[1]"),
        ("/v2/models/topics/infer", _v2(r'"\ud83d\ud83d\ude00"'), "inputs[0].data[1]"),
        ("/v2/models/topics/infer", _v2(r'"\\\ud83d"'), "inputs[0].data[1]"),
        ("/v2/models/topics/infer", _v2('"a"', r'"\ud800"'), "inputs[0].name"),
        ("/v1/models/topics:predict", rb'{"instances":["a","\ud83d"]}', "instances[1]"),
    ],
)
async def test_half_of_a_character_is_named(
    app: EdgeApp, path: str, body: bytes, field: str
) -> None:
    answer = await answered(app, path, body)
    assert answer.status == 400
    assert answer.error.startswith(f"{field}: half of a character")
    assert "truncated" not in answer.error


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud83d"', '"\\u00e9"'])
async def test_whole_characters_are_read(app: EdgeApp, text: str) -> None:
    answer = await answered(app, "/v2/models/topics/infer", _v2(text))
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("head", [b'{"inputs":[{"name":"input_ids","data":[', b'{"instances":['])
def test_16_mib_of_empty_lists_are_refused_before_they_are_read(head: bytes) -> None:
    body = head + b"[]," * (16 * _MIB // 3) + b"[]"
    with pytest.raises(InvalidRequest, match="over 262144 lists and objects"):
        check_brackets(body)
    with pytest.raises(InvalidRequest, match="over 262144 lists and objects"):
        http_codec.decode_request(body)


def test_brackets_in_texts_are_text() -> None:
    texts = ['[x] \\" {y} [[[[' * 100] * 2000
    body = json.dumps({"inputs": [text_input(*texts)]}).encode()
    assert body.count(b"[") > 1 << 18
    assert http_codec.decode_request(body).inputs["text"].data == texts


@pytest.mark.parametrize(("ids", "on_loop"), [(10, True), (40_000, False)])
async def test_large_bodies_are_decoded_off_the_loop(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, ids: int, on_loop: bool
) -> None:
    decoded_on = []
    decode = http_codec.decode_request

    def noted(*args: Any) -> InferRequest:
        decoded_on.append(threading.current_thread())
        return decode(*args)

    monkeypatch.setattr(http_codec, "decode_request", noted)
    app = EdgeApp(InferService(engine, ("sim",), MAX_ROWS), nothing_here, _MIB)
    body = json.dumps({"inputs": [ids_input(*range(ids))]}).encode()
    await answered(app, V2, body)
    assert [thread is threading.current_thread() for thread in decoded_on] == [on_loop]
