"""ModelInfer on the servicer itself: every status, tiers and deadlines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core import errors
from predictor.edge.grpc import EdgeServicer
from predictor.edge.service import InferService
from tests.edge.conftest import MAX_ROWS
from tests.edge.fake_engine import FakeEngine


class AbortedError(Exception):
    pass


@dataclass
class Context:
    """What the servicer asks of a call's context."""

    metadata: Sequence[tuple[str, str]] = ()
    remaining_s: float | None = None
    code: grpc.StatusCode | None = None
    details: str = ""
    trailing: dict[str, str] = field(default_factory=dict)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self.metadata

    def time_remaining(self) -> float | None:
        return self.remaining_s

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str]] = ()
    ) -> NoReturn:
        self.code, self.details, self.trailing = code, details, dict(trailing)
        raise AbortedError


@pytest.fixture
def servicer(engine: FakeEngine) -> EdgeServicer:
    return EdgeServicer(InferService(engine, ("sim", "later"), MAX_ROWS), None, None)


def message(model: str = "sim") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id="7")
    tensor = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 2])
    tensor.contents.int64_contents.extend([1, 2])
    return request


async def aborted(servicer: EdgeServicer, request: pb.ModelInferRequest) -> Context:
    context = Context()
    with pytest.raises(AbortedError):
        await servicer.ModelInfer(request, context)
    return context


async def test_answers(servicer: EdgeServicer, engine: FakeEngine) -> None:
    response = await servicer.ModelInfer(message(), Context())
    assert (response.model_name, response.id) == ("sim", "7")
    assert list(response.outputs[0].contents.int64_contents) == [3]
    assert [timed.protocol for timed in engine.reports] == ["grpc"]


@pytest.mark.parametrize(
    ("error", "code", "seconds"),
    [
        (errors.InvalidRequest("wrong"), "INVALID_ARGUMENT", None),
        (errors.UnknownModel("who"), "NOT_FOUND", None),
        (errors.QueueFull("full", 2.1), "RESOURCE_EXHAUSTED", "3"),
        (errors.Shed("late", 0.1), "RESOURCE_EXHAUSTED", "1"),
        (errors.DeadlineExceeded("passed"), "DEADLINE_EXCEEDED", None),
        (errors.Unavailable("draining", 7), "UNAVAILABLE", "7"),
        (errors.RowFailed("raised"), "INTERNAL", None),
    ],
)
async def test_every_status(
    servicer: EdgeServicer, engine: FakeEngine, error: Exception, code: str, seconds: str | None
) -> None:
    engine.refuse = error
    context = await aborted(servicer, message())
    assert context.code is grpc.StatusCode[code]
    assert context.details == str(error)
    assert context.trailing.get("retry-after") == seconds


async def test_models_that_are_not_there(servicer: EdgeServicer, engine: FakeEngine) -> None:
    assert (await aborted(servicer, message("later"))).code is grpc.StatusCode.UNAVAILABLE
    assert (await aborted(servicer, message("nobody"))).code is grpc.StatusCode.NOT_FOUND
    engine.draining = True
    assert (await aborted(servicer, message())).code is grpc.StatusCode.UNAVAILABLE


async def test_an_error_that_nobody_expected(servicer: EdgeServicer, engine: FakeEngine) -> None:
    engine.refuse = KeyError("secret")
    context = await aborted(servicer, message())
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.details


@pytest.mark.parametrize(
    ("header_ms", "remaining_s", "timeout_us", "shortest_s"),
    [
        ("90000", None, None, 90),
        ("90000", 60.0, None, 60),
        ("90000", 60.0, 30_000_000, 30),
        ("20000", 60.0, 30_000_000, 20),
        (None, 60.0, 0, 60),
    ],
)
async def test_the_shortest_deadline_wins(
    *,
    servicer: EdgeServicer,
    engine: FakeEngine,
    header_ms: str | None,
    remaining_s: float | None,
    timeout_us: int | None,
    shortest_s: float,
) -> None:
    request = message()
    if timeout_us is not None:
        request.parameters["timeout"].int64_param = timeout_us
    metadata = [("x-headway-tier", "bulk")]
    if header_ms is not None:
        metadata.append(("x-headway-timeout-ms", header_ms))
    await servicer.ModelInfer(request, Context(metadata, remaining_s))
    (submission,) = engine.submissions
    assert submission.tier == "bulk"
    assert submission.timeout_s == shortest_s
