"""V1 bodies: what is asked for is done or refused by its name, also in CloudEvents."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from predictor.edge.http import EdgeApp
from tests.edge.asgi import Answer, answered
from tests.edge.fake_engine import FakeEngine

SIM = "/v1/models/sim:predict"
TOPICS = "/v1/models/topics:predict"
SUMS = {"predictions": [{"checksum": 3}, {"checksum": 3}]}
INSTANCES = {"instances": [[1, 2], [3]]}
EVENT = {"specversion": "1.0", "id": "1", "source": "here", "type": "rows"}
IN_HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}
STRUCTURED = EVENT | {"time": "2026-01-01T00:00:00Z", "data": INSTANCES}
STRUCTURED_TYPE = {"content-type": "application/cloudevents+json"}


async def predict(app: EdgeApp, path: str, plain: object, **more: Any) -> Answer:
    return await answered(app, path, json.dumps(plain).encode(), **more)


async def test_what_clients_of_tensorflow_serving_send(app: EdgeApp) -> None:
    for signature in ("serving_default", "", None):
        answer = await predict(app, SIM, INSTANCES | {"signature_name": signature})
        assert (answer.status, answer.json) == (200, SUMS)


async def test_parameters_are_those_of_v2(app: EdgeApp, engine: FakeEngine) -> None:
    parameters = {"priority": 2, "timeout": 60_000_000}
    assert (await predict(app, SIM, INSTANCES | {"parameters": parameters})).status == 200
    (submission,) = engine.submissions
    assert (submission.priority, submission.timeout_s) == (2, 60)


BAD: dict[str, tuple[object, str]] = {
    "columns": ({"inputs": {"a": [1]}}, "inputs: columns are not read in V1"),
    "unknown": (INSTANCES | {"top_k": 2}, "top_k: not known here"),
    "signature": (INSTANCES | {"signature_name": "other"}, "signature_name: models here have one"),
    "parameters": (INSTANCES | {"parameters": [1]}, "parameters: must be an object"),
    "parameter": (INSTANCES | {"parameters": {"t": 1}}, "parameters.t: not known here"),
    "priority": (INSTANCES | {"parameters": {"priority": "1"}}, "parameters.priority: "),
    "binary": (
        INSTANCES | {"parameters": {"binary_data_output": True}},
        "parameters.binary_data_output: V1 answers in JSON",
    ),
    "half an event": (EVENT | {"data": INSTANCES}, "a CloudEvent takes specversion, id"),
    "an event of nothing": (STRUCTURED | {"data": 7}, "body: must be an object"),
    "a list": ([[1]], "body: must be an object"),
}


@pytest.mark.parametrize(("plain", "part"), BAD.values(), ids=BAD)
async def test_bad_bodies(app: EdgeApp, engine: FakeEngine, plain: object, part: str) -> None:
    answer = await predict(app, SIM, plain)
    assert (answer.status, part in answer.error) == (400, True), answer.error
    assert not engine.submissions
    assert [each.protocol for each in engine.refusals] == ["v1"]


async def test_an_instance_is_not_read_in_part(app: EdgeApp) -> None:
    answer = await predict(app, TOPICS, {"instances": ["a", {"text": "b", "title": "c"}]})
    assert (answer.status, "instances[1].title: not known here" in answer.error) == (400, True)


async def test_predict_takes_post_only(app: EdgeApp) -> None:
    answer = await answered(app, SIM, b"", method="GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("plain", "headers", "is_event"),
    [
        (INSTANCES, IN_HEADERS | {"content-type": "application/json"}, "binary"),
        (STRUCTURED, STRUCTURED_TYPE, "structured"),
        (STRUCTURED, {"content-type": "application/json"}, ""),
        (INSTANCES, STRUCTURED_TYPE, "structured"),
        (INSTANCES, {"content-type": "application/json; charset=utf-8"}, ""),
        (INSTANCES, {}, ""),
    ],
)
async def test_cloud_events(
    app: EdgeApp, plain: object, headers: Mapping[str, str], is_event: str
) -> None:
    """An event is answered with an event of the same form."""
    answer = await predict(app, SIM, plain, headers=headers)
    assert answer.status == 200
    if is_event == "structured":
        event = answer.json
        assert answer.headers["content-type"] == "application/cloudevents+json"
        assert (event["source"], event["data"]) == ("io.kserve.inference.sim", SUMS)
        return
    assert answer.json == SUMS
    assert answer.headers["content-type"] == "application/json"
    kind = "io.kserve.inference.response" if is_event else None
    assert answer.headers.get("ce-type") == kind


@pytest.mark.parametrize("body", [b"\xff{", b"{", b""])
async def test_an_event_of_anything(app: EdgeApp, engine: FakeEngine, body: bytes) -> None:
    answer = await answered(app, SIM, body, headers=IN_HEADERS)
    assert (answer.status, answer.error.startswith("body: ")) == (400, True)
    assert len(engine.refusals) == 1
