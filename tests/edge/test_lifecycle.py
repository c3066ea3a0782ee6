"""One table of what can become of a request, over all four transports.

Whatever carried it, a request ends with the same status, and is accounted the same.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import msgspec
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.core import errors
from predictor.core.facts import EdgeRefused, EdgeTimed
from predictor.core.rows import Outcome
from predictor.edge.grpc import EdgeServicer
from predictor.edge.http import EdgeApp
from predictor.edge.job_lines import EdgeLineRunner
from predictor.edge.service import InferService
from predictor.edge.statuses import status_of
from predictor.engine.port import Submission
from tests.edge.asgi import call, ids_input, nothing_here
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import SIMULATED, FakeEngine
from tests.edge.test_grpc import AbortedError, Context

Answer = TypeVar("Answer")
HTTP_OF_GRPC = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True)
class Ask:
    """The sum of some ids. `gone` is set when the client leaves."""

    model: str = "sim"
    ids: tuple[int, ...] = (1, 2)
    headers: Mapping[str, str] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class End:
    """What the client sees: a status in HTTP's numbers, the sum or the sentence."""

    status: int
    text: str

    def __post_init__(self) -> None:
        assert self.text


async def over_http(service: InferService, ask: Ask) -> End | None:
    body = json.dumps({"inputs": [ids_input(*ask.ids)]}).encode()
    return await _over_asgi(service, f"/v2/models/{ask.model}/infer", body, ask)


async def over_v1(service: InferService, ask: Ask) -> End | None:
    body = json.dumps({"instances": [ask.ids]}).encode()
    return await _over_asgi(service, f"/v1/models/{ask.model}:predict", body, ask)


async def _over_asgi(service: InferService, path: str, body: bytes, ask: Ask) -> End | None:
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES)
    answer = await call(app, path, body, headers=ask.headers, hang_up=ask.gone)
    if answer is None:
        return None
    if answer.status != 200:
        return End(answer.status, answer.error)
    plain = answer.json
    if "predictions" in plain:
        return End(200, str(plain["predictions"][0]["checksum"]))
    return End(200, str(plain["outputs"][0]["data"][0]))


async def over_grpc(service: InferService, ask: Ask) -> End | None:
    request = pb.ModelInferRequest(model_name=ask.model)
    request.inputs.add(name="input_ids", datatype="INT64", shape=[1, len(ask.ids)])
    request.inputs[0].contents.int64_contents.extend(ask.ids)
    context = Context(tuple(ask.headers.items()))
    try:
        response = await _cancelled_when_gone(
            EdgeServicer(service, None, None).ModelInfer(request, context), ask
        )
    except AbortedError:
        assert context.code is not None
        return End(HTTP_OF_GRPC[context.code], context.details)
    if response is None:
        return None
    return End(200, str(response.outputs[0].contents.int64_contents[0]))


async def over_jobs(service: InferService, ask: Ask) -> End | None:
    line = json.dumps({"inputs": [ids_input(*ask.ids)]}).encode()
    try:
        answer = await _cancelled_when_gone(
            EdgeLineRunner(service).run(ask.model, "bulk", line), ask
        )
    except errors.HeadwayError as error:
        return End(status_of(error).http, error.message)
    return None if answer is None else End(200, str(json.loads(answer)["outputs"][0]["data"][0]))


async def _cancelled_when_gone(work: Coroutine[Any, Any, Answer], ask: Ask) -> Answer | None:
    """As gRPC does when a client leaves, and a worker when it must give its lines back."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(ask.gone.wait())
    await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if ask.gone.is_set():
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        return None
    return task.result()


class TickingEngine(FakeEngine):
    """It has a clock, which stands still but for what a test adds, and for submissions."""

    now_s = 1000.0
    takes_s = 0.0
    tightest_slo_s = 3600.0

    def note(self, submission: Submission) -> None:
        super().note(submission)
        self.now_s += self.takes_s


Over = Callable[[InferService, Ask], Awaitable[End | None]]
OVER: dict[str, Over] = {
    "http": over_http,
    "v1": over_v1,
    "grpc": over_grpc,
    "jobs": over_jobs,
}


@pytest.fixture
def engine() -> TickingEngine:
    broken = msgspec.structs.replace(SIMULATED, name="broken", tokenizer_file="/nothing/there.json")
    return TickingEngine({"sim": SIMULATED, "broken": broken})


@pytest.fixture
def service(engine: TickingEngine) -> InferService:
    return InferService(engine, ("sim", "later", "broken"), MAX_ROWS, lambda: engine.now_s)


@pytest.fixture(params=OVER)
def over(request: pytest.FixtureRequest) -> str:
    protocol: str = request.param
    return protocol


def moving(engine: TickingEngine) -> Callable[[], float]:
    """A clock that moves with each look at it."""

    def clock() -> float:
        engine.now_s += 0.1
        return engine.now_s

    return clock


def refused(outcome: Outcome, model: str = "sim") -> Callable[[str], list[EdgeRefused]]:
    return lambda protocol: [EdgeRefused(model, protocol, outcome)]


def nobody(_: str) -> list[EdgeRefused]:
    """The engine had it, and counts its own."""
    return []


@dataclass(frozen=True)
class Situation:
    """What is asked of an engine in some state, how it ends, and what edges then report."""

    status: int
    says: str
    reports: Callable[[str], list[EdgeRefused]]
    ask: Ask = field(default_factory=Ask)
    engine_says: Exception | None = None
    draining: bool = False


SITUATIONS = {
    "bad input": Situation(400, "0 ids", refused(Outcome.INVALID), Ask(ids=())),
    "unknown model": Situation(
        404, "'nobody'", refused(Outcome.INVALID, "nobody"), Ask(model="nobody")
    ),
    "loading": Situation(503, "loading", refused(Outcome.UNAVAILABLE, "later"), Ask(model="later")),
    "draining": Situation(503, "draining", refused(Outcome.UNAVAILABLE), draining=True),
    "unknown tier": Situation(
        400, "express", nobody, engine_says=errors.InvalidRequest("tier 'express' is unknown")
    ),
    "queue full": Situation(429, "full", nobody, engine_says=errors.QueueFull("full")),
    "shed": Situation(429, "late", nobody, engine_says=errors.Shed("it would be late")),
    "expired": Situation(504, "passed", nobody, engine_says=errors.DeadlineExceeded("passed")),
    "engine gone": Situation(503, "ended", nobody, engine_says=errors.Unavailable("ended")),
    "a row fails": Situation(500, "raised for this row", nobody, Ask(ids=(1, -1))),
    "a fault of ours behind": Situation(
        500, "the server's log says more", nobody, engine_says=KeyError("secret")
    ),
    "a fault of ours before": Situation(
        500, "cannot read tokenizer", refused(Outcome.FAILED, "broken"), Ask(model="broken")
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
async def test_every_end_that_is_no_answer(
    service: InferService, engine: TickingEngine, over: str, situation: Situation
) -> None:
    engine.refuse, engine.draining = situation.engine_says, situation.draining
    end = await OVER[over](service, situation.ask)
    assert end is not None
    assert (end.status, situation.says in end.text) == (situation.status, True), end
    assert "secret" not in end.text
    assert engine.refusals == situation.reports(over)
    assert not engine.reports


async def test_an_answer(service: InferService, engine: TickingEngine, over: str) -> None:
    assert await OVER[over](service, Ask()) == End(200, "3")
    assert engine.reports == [EdgeTimed("sim", over, 0.0, 0.0, 0.0)]
    assert not engine.refusals
    assert engine.submissions[0].arrived_s == engine.now_s


async def test_a_client_that_leaves(
    service: InferService, engine: TickingEngine, over: str
) -> None:
    """Its rows leave the queue, where the engine counts them, and nothing else is reported."""
    engine.hold = True
    ask = Ask()
    asking = asyncio.ensure_future(OVER[over](service, ask))
    await engine.submitted.wait()
    ask.gone.set()
    assert await asking is None
    assert engine.held[0][1].cancelled()
    assert not engine.refusals
    assert not engine.reports


async def test_a_refusal_holds_the_next_of_its_kind(
    service: InferService, engine: TickingEngine, over: str
) -> None:
    """For about as long as it took, which is a second here, nobody asks the engine again."""
    engine.refuse, engine.takes_s = errors.Shed("it would be late"), 1.0
    await OVER[over](service, Ask())
    engine.refuse = None
    held = await OVER[over](service, Ask())
    assert held is not None
    assert (held.status, "as those before it" in held.text) == (429, True)
    assert engine.refusals == [EdgeRefused("sim", over, Outcome.SHED)]
    assert len(engine.submissions) == 1
    engine.now_s += 2.0
    assert await OVER[over](service, Ask()) == End(200, "3")


@pytest.mark.parametrize("over", ["http", "v1", "grpc"], indirect=True)
async def test_a_timeout_that_is_over_before_the_engine_is_reached(
    engine: TickingEngine, over: str
) -> None:
    service = InferService(engine, ("sim",), MAX_ROWS, moving(engine))
    end = await OVER[over](service, Ask(headers={"x-headway-timeout-ms": "50"}))
    assert end is not None
    assert (end.status, "before the request was queued" in end.text) == (504, True)
    assert engine.refusals == [EdgeRefused("sim", over, Outcome.EXPIRED)]
    assert not engine.submissions


async def test_an_edge_that_cannot_keep_up_refuses_all_but_lines_of_jobs(
    engine: TickingEngine, over: str
) -> None:
    """Every turn of the loop is far too long for the SLO."""
    engine.tightest_slo_s = 0.1
    service = InferService(engine, ("sim",), MAX_ROWS, moving(engine))
    asked = []
    for _ in range(6):
        asked.append(asyncio.ensure_future(OVER[over](service, Ask())))
        await asyncio.sleep(0)  # one turn
    statuses = [end.status for end in await asyncio.gather(*asked) if end is not None]
    if over == "jobs":
        assert statuses == [200] * 6
        assert not engine.refusals
        assert {each.return_s for each in engine.submissions} == {0.0}
        return
    assert statuses[0] == 200
    late = statuses.count(429)
    assert late == len(statuses) - statuses.count(200) > 0
    assert engine.refusals == [EdgeRefused("sim", over, Outcome.SHED)] * late


HELD = 16  # bytes of two ids


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
async def test_whatever_ends_gives_its_bytes_back(
    service: InferService, engine: TickingEngine, over: str, situation: Situation
) -> None:
    engine.refuse, engine.draining = situation.engine_says, situation.draining
    await OVER[over](service, situation.ask)
    assert service.lifecycle.budget.held == 0


async def test_what_waits_holds_its_bytes_until_it_ends(
    service: InferService, engine: TickingEngine, over: str
) -> None:
    budget = service.lifecycle.budget
    engine.hold = True
    ask = Ask()
    answered, leaving = (asyncio.ensure_future(OVER[over](service, each)) for each in (Ask(), ask))
    for _ in range(50):  # turns; it takes about five
        await asyncio.sleep(0)
    assert budget.held == 2 * HELD
    ask.gone.set()
    assert await leaving is None
    assert budget.held == HELD
    engine.release()
    assert await answered == End(200, "3")
    assert budget.held == 0


async def test_without_room_clients_are_refused_and_lines_wait(
    engine: TickingEngine, over: str
) -> None:
    service = InferService(
        engine, ("sim",), MAX_ROWS, lambda: engine.now_s, max_decoded_bytes=2 * HELD
    )
    other = service.lifecycle.budget.reservation()
    other.take(2 * HELD)
    asking = asyncio.ensure_future(OVER[over](service, Ask()))
    if over == "jobs":
        await asyncio.wait((asking,), timeout=0.01)
        assert not asking.done()
        other.release()
        assert await asking == End(200, "3")
        return
    refused_end = await asking
    assert refused_end is not None
    assert (refused_end.status, "decoded input" in refused_end.text) == (503, True)
    assert engine.refusals == [EdgeRefused("sim", over, Outcome.UNAVAILABLE)]
    other.release()
    assert await OVER[over](service, Ask()) == End(200, "3")
    too_large = await OVER[over](service, Ask(ids=(1,) * 5))
    assert too_large is not None
    assert "40 bytes" in too_large.text
    assert service.lifecycle.budget.held == 0
