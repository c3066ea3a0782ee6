"""Texts that are cut say so, and may be refused instead, over all four transports."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core.errors import InvalidRequest
from predictor.core.facts import EdgeRefused
from predictor.core.rows import Outcome
from predictor.edge.grpc import EdgeServicer
from predictor.edge.http import EdgeApp
from predictor.edge.job_lines import EdgeLineRunner
from predictor.edge.service import InferService
from predictor.edge.tasks import TaskRows
from predictor.edge.tensors import Tensor
from predictor.edge.text import TextCodec
from tests.edge.asgi import answered, nothing_here, text_input
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import FakeEngine
from tests.edge.test_grpc import AbortedError, Context


class Cutting(TextCodec):
    """Has cut one row, unless it must not."""

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        if not truncate:
            raise InvalidRequest("text[0] has 9 tokens; this model takes 8")
        return TaskRows(super().rows(inputs).rows, truncated=1)


@pytest.fixture
def service(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> InferService:
    codec = Cutting(engine.models["topics"], MAX_ROWS)
    monkeypatch.setattr("predictor.edge.service.codec_for", lambda *_: codec)
    return InferService(engine, ("topics",), MAX_ROWS)


@pytest.mark.parametrize("path", ["/v2/models/topics/infer", "/v1/models/topics:predict"])
async def test_over_http(service: InferService, engine: FakeEngine, path: str) -> None:
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES)
    plain: dict[str, Any] = {"inputs": [text_input("a")]}
    if "v1" in path:
        plain = {"instances": ["a"]}
    cut = await answered(app, path, json.dumps(plain).encode())
    assert (cut.status, cut.json["parameters"]["truncated_rows"]) == (200, 1)
    plain["parameters"] = {"truncate": False}
    refused = await answered(app, path, json.dumps(plain).encode())
    assert (refused.status, "9 tokens" in refused.error) == (400, True)
    assert [each.outcome for each in engine.refusals] == [Outcome.INVALID]


async def test_over_grpc(service: InferService, engine: FakeEngine) -> None:
    request = pb.ModelInferRequest(model_name="topics")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        b"a"
    )
    servicer = EdgeServicer(service, None, None)
    response = await servicer.ModelInfer(request, Context())
    assert response.parameters["truncated_rows"].int64_param == 1
    request.parameters["truncate"].bool_param = False
    context = Context()
    with pytest.raises(AbortedError):
        await servicer.ModelInfer(request, context)
    assert "9 tokens" in context.details
    assert engine.refusals == [EdgeRefused("topics", "grpc", Outcome.INVALID)]


async def test_in_lines_of_jobs(service: InferService, engine: FakeEngine) -> None:
    runner = EdgeLineRunner(service)
    plain: dict[str, Any] = {"inputs": [text_input("a")]}
    cut = json.loads(await runner.run("topics", "bulk", json.dumps(plain).encode()))
    assert cut["parameters"]["truncated_rows"] == 1
    plain["parameters"] = {"truncate": False}
    with pytest.raises(InvalidRequest, match="9 tokens"):
        await runner.run("topics", "bulk", json.dumps(plain).encode())
    assert engine.refusals == [EdgeRefused("topics", "jobs", Outcome.INVALID)]
