"""Places for streams of jobs: clients that move a byte now and then do not keep them."""

import asyncio
import json

import pytest

from predictor.core.errors import QueueFull
from predictor.edge import jobs as routes
from predictor.edge.asgi import Message, Scope
from predictor.edge.http import EdgeApp
from predictor.edge.job_streams import LEAST_BYTES_PER_S, PATIENCE_S, JobStream, JobStreams
from predictor.edge.service import InferService
from tests.edge.asgi import answered, ids_input, nothing_here
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import FakeEngine
from tests.edge.fake_jobs import FakeJobs

SUBMIT = "/v2/models/sim/jobs"
LINE = json.dumps({"inputs": [ids_input(1, 2)]}).encode()
DRIPPING = 64


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Dripping:
    """A client whose upload began, and never ends."""

    def __init__(self, app: EdgeApp) -> None:
        self.status = 0
        self._begun = asyncio.Event()
        self._parts = [LINE[:5]]
        self.task = asyncio.ensure_future(self._submit(app))

    async def _submit(self, app: EdgeApp) -> None:
        scope: Scope = {"type": "http", "method": "POST", "path": SUBMIT, "headers": []}
        await app(scope, self._receive, self._send)

    async def waits(self) -> None:
        await self._begun.wait()

    async def _receive(self) -> Message:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(), "more_body": True}
        self._begun.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it never comes")

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)


async def test_64_dripping_uploads_do_not_keep_the_65th_out(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(routes, "monotonic", clock)
    assert routes.MAX_STREAMS == DRIPPING
    jobs = FakeJobs()
    app = EdgeApp(InferService(engine, ("sim",), MAX_ROWS), nothing_here, MAX_BODY_BYTES, jobs)
    clients = [Dripping(app) for _ in range(DRIPPING)]
    for client in clients:
        await client.waits()
    early = await answered(app, SUBMIT, LINE)
    assert early.status == 429  # nobody was slow for long enough
    clock.now_s = PATIENCE_S
    for number in range(3):
        answer = await answered(app, SUBMIT, LINE)
        assert answer.status == 202, answer.body
        assert len(jobs.kept) == number + 1
        await asyncio.wait([c.task for c in clients], return_when=asyncio.FIRST_COMPLETED)
        # The place that was given up is free again when the job is done.
        assert sum(client.status == 408 for client in clients) == 1
    for client in clients:
        client.task.cancel()
    await asyncio.gather(*(client.task for client in clients), return_exceptions=True)


async def _at_pace(
    streams: JobStreams, clock: Clock, size: int, waits_s: float, opened: asyncio.Event
) -> str:
    try:
        with streams.open(2) as stream:
            await _wait(stream, clock, waits_s)
            stream.moved(size)
            opened.set()
            await asyncio.get_running_loop().create_future()
    except Exception as error:
        return type(error).__name__
    return ""


async def _wait(stream: JobStream, clock: Clock, seconds: float) -> None:
    async def later() -> None:
        clock.now_s += seconds

    await stream.waiting(later())


@pytest.mark.parametrize(
    ("sizes", "given_up"),
    [
        ((LEAST_BYTES_PER_S * 10, LEAST_BYTES_PER_S * 10), None),  # both are fast enough
        ((LEAST_BYTES_PER_S * 10 - 1, LEAST_BYTES_PER_S * 10), 0),
        ((1000, 999), 1),  # the slower of two slow ones
    ],
)
async def test_the_slowest_below_the_least_pace_gives_way(
    sizes: tuple[int, int], given_up: int | None
) -> None:
    clock = Clock()
    streams = JobStreams(clock)
    tasks = []
    for size in sizes:
        opened = asyncio.Event()
        tasks.append(asyncio.ensure_future(_at_pace(streams, clock, size, 10.0, opened)))
        await opened.wait()
    if given_up is None:
        with pytest.raises(QueueFull), streams.open(2):
            pass
    else:
        with streams.open(2):
            assert await tasks[given_up] == "BodyTimeout"
            assert not tasks[1 - given_up].done()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_time_that_the_server_takes_is_not_the_clients() -> None:
    clock = Clock()
    streams = JobStreams(clock)
    with streams.open(1) as stream:
        await _wait(stream, clock, PATIENCE_S / 2)
        clock.now_s += 1000  # Redis is slow
        assert stream.bytes_per_s() is None
        with pytest.raises(QueueFull), streams.open(1):
            pass
