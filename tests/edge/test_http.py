"""The hot path over ASGI: every status, every bad input, limits, hang-ups."""

import asyncio
import json
import math
import uuid
from time import monotonic
from typing import Any

import pytest

from predictor.core import errors
from predictor.edge.http import EdgeApp
from tests.edge.asgi import answered, call, ids_input, infer, text_input
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import EMBEDDING_WIDTH, LABELS, FakeEngine

SIM = "/v2/models/sim/infer"


async def test_answers_with_times_and_the_request_id(app: EdgeApp, engine: FakeEngine) -> None:
    answer = await infer(app, "sim", {"id": "mine", "inputs": [ids_input(1, 2, 3)]})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "model_name": "sim",
        "id": "mine",
        "parameters": {"queue_us": 1000, "service_us": 5000, "batch_size": 1},
        "outputs": [{"name": "checksum", "datatype": "INT64", "shape": [1], "data": [6]}],
    }
    assert [(timed.model, timed.protocol) for timed in engine.reports] == [("sim", "http")]


async def test_a_request_without_id_gets_a_uuid(app: EdgeApp) -> None:
    answer = await infer(app, "sim", {"inputs": [ids_input(1)]})
    assert uuid.UUID(answer.json["id"]).version == 4


async def test_topic_outputs(app: EdgeApp) -> None:
    answer = await infer(app, "topics", {"inputs": [text_input("the bus", "")]})
    label, score, probabilities = answer.json["outputs"]
    assert (label["shape"], label["data"]) == ([2], [LABELS[1]] * 2)
    assert (score["shape"], score["data"]) == ([2], [0.5, 0.5])
    assert (probabilities["shape"], probabilities["data"]) == ([2, 3], [0.25, 0.5, 0.25] * 2)


async def test_only_the_outputs_asked_for_in_their_order(app: EdgeApp) -> None:
    outputs = [{"name": "score"}, {"name": "label"}]
    answer = await infer(app, "topics", {"inputs": [text_input("x")], "outputs": outputs})
    assert [output["name"] for output in answer.json["outputs"]] == ["score", "label"]


async def test_embedding_output(app: EdgeApp) -> None:
    answer = await infer(app, "embed", {"inputs": [text_input("the bus is late")]})
    (embedding,) = answer.json["outputs"]
    assert embedding["shape"] == [1, EMBEDDING_WIDTH]
    assert embedding["data"] == [6.0] * EMBEDDING_WIDTH


STATUSES: list[tuple[Exception, int, str | None]] = [
    (errors.InvalidRequest("wrong"), 400, None),
    (errors.RequestTooLarge("large"), 413, None),
    (errors.UnknownModel("who"), 404, None),
    (errors.QueueFull("full", 2.1), 429, "3"),
    (errors.Shed("late", 0.0), 429, "1"),
    (errors.Shed("never", math.inf), 429, "86400"),
    (errors.DeadlineExceeded("passed"), 504, None),
    (errors.Unavailable("draining", 7.0), 503, "7"),
    (errors.RowFailed("raised"), 500, None),
]


@pytest.mark.parametrize(("error", "status", "seconds"), STATUSES)
async def test_every_status(
    app: EdgeApp, engine: FakeEngine, error: Exception, status: int, seconds: str | None
) -> None:
    engine.refuse = error
    answer = await infer(app, "sim", {"inputs": [ids_input(1)]})
    assert (answer.status, answer.error) == (status, str(error))
    assert answer.headers.get("retry-after") == seconds
    assert not engine.reports


async def test_an_error_that_nobody_expected_shows_no_stack(
    app: EdgeApp, engine: FakeEngine
) -> None:
    engine.refuse = KeyError("secret")
    answer = await infer(app, "sim", {"inputs": [ids_input(1)]})
    assert answer.status == 500
    assert "secret" not in answer.error


async def test_a_row_that_fails_in_the_model(app: EdgeApp) -> None:
    answer = await infer(app, "sim", {"inputs": [ids_input(1, -1)]})
    assert answer.status == 500


async def test_loading_draining_and_unknown_models(app: EdgeApp, engine: FakeEngine) -> None:
    request = {"inputs": [ids_input(1)]}
    loading = await infer(app, "later", request)
    assert (loading.status, loading.headers["retry-after"]) == (503, "1")
    unknown = await infer(app, "nobody", request)
    assert unknown.status == 404
    assert "'nobody'" in unknown.error
    engine.draining = True
    draining = await infer(app, "sim", request)
    assert draining.status == 503
    assert not engine.submissions


def _ids(**changes: Any) -> dict[str, Any]:
    return {"inputs": [ids_input(1, 2) | changes]}


BAD_SIM: dict[str, tuple[object, str]] = {
    "not an object": ([], "body: Expected `object`"),
    "no inputs": ({}, "missing required field `inputs`"),
    "inputs null": ({"inputs": None}, "inputs"),
    "inputs empty": ({"inputs": []}, "inputs"),
    "many inputs": ({"inputs": [ids_input(1)] * 17}, "inputs"),
    "id number": (_ids() | {"id": 7}, "id: "),
    "no shape": ({"inputs": [{"name": "a", "datatype": "INT64", "data": [1]}]}, "inputs[0]"),
    "shape text": (_ids(shape="1,2"), "inputs[0].shape"),
    "shape negative": (_ids(shape=[-1, 2]), "inputs[0].shape"),
    "shape float": (_ids(shape=[1.5, 2]), "inputs[0].shape"),
    "shape huge": (_ids(shape=[1 << 62, 1 << 62]), "shape"),
    "shape beyond int64": (_ids(shape=[1 << 80, 1]), "shape"),
    "shape other than data": (_ids(shape=[1, 3]), "2 elements"),
    "shape one dimension": (_ids(shape=[2]), "shape must be [rows, length]"),
    "shape no dimension": (_ids(shape=[], data=[1]), "shape must be [rows, length]"),
    "shape nine dimensions": (_ids(shape=[1] * 8 + [2]), "shape"),
    "no rows": (_ids(shape=[0, 2], data=[]), "0 rows"),
    "empty row": (_ids(shape=[1, 0], data=[]), "input_ids[0] has 0 ids"),
    "too many rows": (_ids(shape=[9, 1], data=[1] * 9), f"1 to {MAX_ROWS}"),
    "no data": ({"inputs": [{k: v for k, v in ids_input(1).items() if k != "data"}]}, "no data"),
    "data null": (_ids(data=None), "inputs[0].data"),
    "data text": (_ids(data="12"), "inputs[0].data"),
    "data of texts": (_ids(data=["1", "2"]), "inputs[0].data[0]"),
    "data of floats": (_ids(data=[1, 2.5]), "inputs[0].data[1]"),
    "data of booleans": (_ids(data=[1, True]), "inputs[0].data[1]"),
    "data beyond int64": (_ids(data=[1, 1 << 63]), "does not fit INT64"),
    "data beyond int32": (_ids(datatype="INT32", data=[1, 1 << 31]), "does not fit INT32"),
    "data nested too deep": (_ids(data=[[[1, 2]]]), "inputs[0].data"),
    "data nested unevenly": (_ids(data=[[1, 2], 3]), "inputs[0].data"),
    "datatype unknown": (_ids(datatype="INT65"), "'INT65'"),
    "datatype FP32": (_ids(datatype="FP32"), "FP32"),
    "datatype BYTES": (_ids(datatype="BYTES", data=["a", "b"]), "not BYTES"),
    "input unknown": (_ids(name="ids"), "input 'ids' is unknown; use: input_ids"),
    "input twice": ({"inputs": [ids_input(1), ids_input(1)]}, "twice"),
    "text for ids": ({"inputs": [text_input("x")]}, "input 'text' is unknown"),
    "output unknown": (_ids() | {"outputs": [{"name": "label"}]}, "output 'label' is unknown"),
    "outputs not a list": (_ids() | {"outputs": "checksum"}, "outputs"),
    "parameters list": (_ids() | {"parameters": []}, "parameters"),
    "priority text": (_ids() | {"parameters": {"priority": "1"}}, "parameters.priority"),
    "priority boolean": (_ids() | {"parameters": {"priority": True}}, "parameters.priority"),
    "priority negative": (_ids() | {"parameters": {"priority": -1}}, "parameters.priority"),
    "priority huge": (_ids() | {"parameters": {"priority": 1 << 70}}, "parameters.priority"),
    "timeout float": (_ids() | {"parameters": {"timeout": 1.5}}, "parameters.timeout"),
    "timeout negative": (_ids() | {"parameters": {"timeout": -1}}, "parameters.timeout"),
    "mask alone": ({"inputs": [ids_input(1) | {"name": "attention_mask"}]}, "send one of"),
}


@pytest.mark.parametrize(("plain", "part"), BAD_SIM.values(), ids=BAD_SIM)
async def test_bad_input(app: EdgeApp, engine: FakeEngine, plain: object, part: str) -> None:
    answer = await infer(app, "sim", plain)
    assert answer.status == 400
    assert part in answer.error
    assert not engine.submissions


BAD_BODIES = {
    "empty": b"",
    "cut off": b'{"inputs": [',
    "not UTF-8": b'{"id":"\xff\xfe"}',
    "trailing": json.dumps(_ids()).encode() + b"x",
    "deep": b'{"inputs":' + b"[" * 2000,
    "deep data": b'{"inputs":[{"name":"a","datatype":"INT64","shape":[1],"data":' + b"[" * 2000,
    "lone surrogate": json.dumps({"inputs": [text_input("\ud800")]}).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_bad_bytes(app: EdgeApp, body: bytes) -> None:
    answer = await answered(app, SIM, body)
    assert answer.status == 400
    assert answer.error


BAD_TEXT: dict[str, tuple[object, str]] = {
    "shape [1, 2]": ({"inputs": [text_input("a", "b") | {"shape": [1, 2]}]}, "[n] or [n, 1]"),
    "numbers": ({"inputs": [text_input("a") | {"datatype": "INT64", "data": [1]}]}, "BYTES"),
    "data of numbers": ({"inputs": [text_input("a") | {"data": [1]}]}, "inputs[0].data[0]"),
    "no rows": ({"inputs": [text_input()]}, "0 rows"),
    "too many rows": ({"inputs": [text_input(*["a"] * 9)]}, "9 rows"),
    "both": ({"inputs": [text_input("a"), ids_input(1)]}, "either text, or input_ids"),
    "id out of range": ({"inputs": [ids_input(1, 9)]}, "id 9"),
    "id negative": ({"inputs": [ids_input(1, -1)]}, "id -1"),
    "too long": ({"inputs": [ids_input(*[1] * 9)]}, "1 to 8"),
    "mask shape": (
        {"inputs": [ids_input(1, 2), ids_input(1) | {"name": "attention_mask"}]},
        "attention_mask: shape [1, 1]",
    ),
    "mask values": (
        {"inputs": [ids_input(1, 2), ids_input(1, 2) | {"name": "attention_mask"}]},
        "0 or 1",
    ),
    "mask all 0": (
        {"inputs": [ids_input(1, 2), ids_input(0, 0) | {"name": "attention_mask"}]},
        "has 0 ids",
    ),
}


@pytest.mark.parametrize(("plain", "part"), BAD_TEXT.values(), ids=BAD_TEXT)
async def test_bad_text_input(app: EdgeApp, plain: object, part: str) -> None:
    answer = await infer(app, "topics", plain)
    assert answer.status == 400
    assert part in answer.error


HEADERS: list[tuple[dict[str, str], str]] = [
    ({"x-headway-timeout-ms": "soon"}, "x-headway-timeout-ms"),
    ({"x-headway-timeout-ms": "0"}, "x-headway-timeout-ms"),
    ({"x-headway-timeout-ms": "-5"}, "x-headway-timeout-ms"),
    ({"x-headway-timeout-ms": "nan"}, "x-headway-timeout-ms"),
    ({"x-headway-timeout-ms": "1e99"}, "x-headway-timeout-ms"),
    ({"inference-header-content-length": "many"}, "Inference-Header-Content-Length"),
    ({"inference-header-content-length": "9" * 30}, "Inference-Header-Content-Length"),
    ({"inference-header-content-length": "99999"}, "Inference-Header-Content-Length"),
    ({"content-encoding": "gzip"}, "uncompressed"),
]


@pytest.mark.parametrize(("headers", "part"), HEADERS)
async def test_bad_headers(app: EdgeApp, headers: dict[str, str], part: str) -> None:
    answer = await infer(app, "sim", _ids(), headers=headers)
    assert answer.status == 400
    assert part in answer.error


async def test_tier_and_the_shortest_timeout_reach_the_engine(
    app: EdgeApp, engine: FakeEngine
) -> None:
    parameters = {"priority": 2, "timeout": 60_000_000, "sequence_id": 0}
    headers = {"x-headway-tier": "bulk", "x-headway-timeout-ms": "90000"}
    await infer(app, "sim", _ids() | {"parameters": parameters}, headers=headers)
    await infer(app, "sim", _ids(), headers=headers)
    await infer(app, "sim", _ids() | {"parameters": {"priority": 0, "timeout": 0}})
    first, second, third = engine.submissions
    assert (first.tier, first.priority) == ("bulk", 2)
    assert (first.timeout_s, second.timeout_s) == (60, 90)
    assert first.arrived_s is not None
    assert second.arrived_s is not None
    assert first.arrived_s < second.arrived_s < monotonic()
    assert (third.tier, third.priority, third.timeout_s) == (None, None, None)


async def test_a_timeout_that_is_over_already(app: EdgeApp, engine: FakeEngine) -> None:
    answer = await infer(app, "sim", _ids(), headers={"x-headway-timeout-ms": "1e-9"})
    assert answer.status == 504
    assert not engine.submissions


async def test_content_type_does_not_matter(app: EdgeApp) -> None:
    for content_type in ("text/plain", "application/octet-stream", "application/json; charset=x"):
        answer = await infer(app, "sim", _ids(), headers={"content-type": content_type})
        assert answer.status == 200


@pytest.mark.parametrize("path", [SIM, "/v1/models/sim:predict"])
async def test_a_body_over_the_limit_that_says_so(app: EdgeApp, path: str) -> None:
    headers = {"content-length": str(MAX_BODY_BYTES + 1)}
    answer = await answered(app, path, b"", headers=headers)
    assert answer.status == 413


async def test_a_body_over_the_limit_in_chunks(app: EdgeApp) -> None:
    for path in (SIM, "/v1/models/sim:predict"):
        assert (await answered(app, path, [b" " * 1024] * 8)).status == 413


async def test_a_body_in_chunks(app: EdgeApp) -> None:
    body = json.dumps(_ids()).encode()
    answer = await answered(app, SIM, [body[:10], b"", body[10:]])
    assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_infer_takes_post_only(app: EdgeApp, method: str) -> None:
    answer = await answered(app, SIM, b"", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_metrics(app: EdgeApp) -> None:
    answer = await answered(app, "/metrics", b"", method="GET")
    assert (answer.status, answer.body) == (200, b"headway_up 1\n")
    assert (await answered(app, "/metrics", b"")).status == 405


async def test_the_rest_is_handed_on(app: EdgeApp) -> None:
    for path in ("/", "/v2/models/sim", "/v2/models/sim/versions/1", "/v2/models/infer"):
        answer = await answered(app, path, b"{}")
        assert answer.error == "the app behind"


async def test_a_client_that_hangs_up_takes_its_rows_along(
    app: EdgeApp, engine: FakeEngine
) -> None:
    engine.hold = True
    hang_up = asyncio.Event()
    body = json.dumps(_ids()).encode()
    requests = [asyncio.create_task(call(app, SIM, body, hang_up=hang_up))]
    requests += [asyncio.create_task(call(app, SIM, body)) for _ in range(3)]
    while len(engine.held) < 4:
        engine.submitted.clear()
        await engine.submitted.wait()
    hang_up.set()
    assert await requests[0] is None
    assert [future.cancelled() for _, future in engine.held] == [True, False, False, False]
    engine.release()
    answers = await asyncio.gather(*requests[1:])
    assert [answer.status for answer in answers if answer] == [200] * 3


async def test_a_client_that_hangs_up_while_sending(app: EdgeApp, engine: FakeEngine) -> None:
    sent: list[object] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: object) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": SIM, "headers": []}, receive, send)
    assert not sent
    assert not engine.submissions


async def test_a_server_that_stops_answers_what_it_gives_up(
    app: EdgeApp, engine: FakeEngine
) -> None:
    engine.hold = True
    request = asyncio.create_task(infer(app, "sim", _ids()))
    await engine.submitted.wait()
    request.cancel()
    answer = await request
    assert answer.status == 503
    assert engine.held[0][1].cancelled()


async def test_what_the_edge_refuses_is_told(app: EdgeApp, engine: FakeEngine) -> None:
    await infer(app, "sim", {"inputs": []})
    await infer(app, "nobody", {"inputs": [ids_input(1)]})
    engine.refuse = errors.Shed("late", 1.0)  # the engine counts its own
    await infer(app, "sim", {"inputs": [ids_input(1)]})
    assert [(each.model, each.outcome.value) for each in engine.refusals] == [
        ("sim", "invalid"),
        ("nobody", "invalid"),
    ]
