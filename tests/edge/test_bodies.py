"""Bodies that come slowly, and such that stop: the client's time, and its limit."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import pytest

from predictor.core.facts import EdgeRefused, EdgeTimed
from predictor.core.rows import Outcome
from predictor.edge.asgi import Message, Scope
from predictor.edge.http import EdgeApp
from predictor.edge.service import InferService
from tests.edge.asgi import Answer, ids_input, infer, nothing_here
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import SIMULATED, FakeEngine
from tests.edge.fake_jobs import FakeJobs

UPLOAD_S = 30.0  # for each part of a body
IDLE_S = 0.02
SIM = "/v2/models/sim/infer"
V1 = "/v1/models/sim:predict"
BODIES = {
    SIM: json.dumps({"inputs": [ids_input(1, 2)]}).encode(),
    V1: json.dumps({"instances": [[1, 2]]}).encode(),
}


class SlowClient:
    """Sends a body in parts. Each takes so much of a clock that stands still otherwise."""

    def __init__(self, parts: Iterable[bytes], part_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.part_s = part_s
        self._parts = iter(parts)
        self._next = next(self._parts)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.sleep(0)  # it waits for the socket
        self.now_s += self.part_s
        part, self._next = self._next, next(self._parts, b"")
        return {"type": "http.request", "body": part, "more_body": bool(self._next)}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def ask(self, app: EdgeApp, path: str, **headers: str) -> Answer:
        encoded = [(name.replace("_", "-").encode(), it.encode()) for name, it in headers.items()]
        scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": encoded}
        await app(scope, self.receive, self.send)
        start, body = self.sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, body["body"])


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine({"sim": SIMULATED})


@pytest.mark.parametrize("path", BODIES)
async def test_an_upload_is_no_part_of_a_request_s_time(engine: FakeEngine, path: str) -> None:
    """It takes minutes, the SLO is a tenth of a second and the client's own timeout a second."""
    engine.tightest_slo_s = 0.1
    body = BODIES[path]
    client = SlowClient([body[at : at + 8] for at in range(0, len(body), 8)], UPLOAD_S)
    service = InferService(engine, ("sim",), MAX_ROWS, lambda: client.now_s)
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES)
    answer = await client.ask(app, path, x_headway_timeout_ms="1000")
    assert answer.status == 200
    (submission,) = engine.submissions
    assert submission.arrived_s == client.now_s >= 100.0 + 3 * UPLOAD_S
    assert submission.timeout_s == 1.0
    assert engine.reports == [EdgeTimed("sim", "v1" if path == V1 else "http", 0.0, 0.0, 0.0)]


async def _stops(*parts: bytes) -> AsyncIterator[Message]:
    for part in parts:
        yield {"type": "http.request", "body": part, "more_body": True}
    await asyncio.get_running_loop().create_future()


async def _endless() -> AsyncIterator[Message]:
    """A byte now and then, for ever."""
    while True:
        await asyncio.sleep(0)
        yield {"type": "http.request", "body": b"", "more_body": True}


async def _given_up(
    app: EdgeApp, path: str, messages: AsyncIterator[Message], size: int = 0
) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return await anext(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"%d" % size)] if size else []
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, sent[1]["body"])


@pytest.fixture
def hasty(engine: FakeEngine) -> EdgeApp:
    service = InferService(engine, ("sim",), MAX_ROWS)
    return EdgeApp(service, nothing_here, MAX_BODY_BYTES, FakeJobs(), body_idle_s=IDLE_S)


PATHS = (SIM, V1, "/v2/models/sim/versions/1/infer", "/v2/models/sim/jobs", "/v2/repository/index")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("parts", [(), (b'{"inputs"',)], ids=["nothing", "a part"])
async def test_a_body_that_stops_coming(
    hasty: EdgeApp, engine: FakeEngine, path: str, parts: tuple[bytes, ...]
) -> None:
    answer = await _given_up(hasty, path, _stops(*parts))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert f"nothing came for {IDLE_S:g} s" in answer.error
    assert not engine.submissions
    if path in BODIES:
        protocol = "v1" if path == V1 else "http"
        assert engine.refusals == [EdgeRefused("sim", protocol, Outcome.INVALID)]


@pytest.mark.parametrize("path", [SIM, V1, "/v2/repository/index"])
async def test_a_body_that_never_ends(hasty: EdgeApp, path: str) -> None:
    answer = await _given_up(hasty, path, _endless())
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "it took over 0.2 s" in answer.error


async def test_a_body_that_is_too_large_and_stops_coming(hasty: EdgeApp) -> None:
    """It is read to its end before it is refused, which must not take for ever."""
    answer = await _given_up(hasty, SIM, _stops(b"{"), size=MAX_BODY_BYTES + 1)
    assert answer.status == 408


async def test_others_are_served_while_some_stop(hasty: EdgeApp) -> None:
    """One timer serves all bodies, also when it was set for another."""
    first = asyncio.ensure_future(_given_up(hasty, SIM, _stops()))
    assert (await infer(hasty, "sim", {"inputs": [ids_input(1)]})).status == 200
    second = asyncio.ensure_future(_given_up(hasty, V1, _stops(b"{")))
    ends = await asyncio.gather(first, second)
    assert [end.status for end in ends] == [408, 408]
    assert (await infer(hasty, "sim", {"inputs": [ids_input(1)]})).status == 200


async def test_a_server_that_stops_is_not_taken_for_a_timeout(engine: FakeEngine) -> None:
    app = EdgeApp(InferService(engine, ("sim",), MAX_ROWS), nothing_here, MAX_BODY_BYTES)
    coming = asyncio.ensure_future(_given_up(app, SIM, _stops(b"{")))
    await asyncio.sleep(0)
    coming.cancel()
    stopped = await coming
    assert (stopped.status, stopped.error) == (503, "the server stopped; try another replica")
    assert not engine.refusals
