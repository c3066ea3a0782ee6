"""An engine that keeps its socket open and says nothing, in front of an edge."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predictor.core.errors import DeadlineExceeded, Unavailable
from predictor.core.facts import EdgeRefused
from predictor.core.rows import Outcome
from predictor.edge import remote as remote_module
from predictor.edge.engines import EngineGroup
from predictor.edge.remote import RemoteEngine
from predictor.edge.service import InferService
from predictor.engine.gateway import Gateway
from predictor.engine.port import Engine
from predictor.engine.pulse import BEAT_S, DEAD_S, SILENT_S
from predictor.engine.wire import Ping
from tests.edge.sockets import Place, connected, ready, status_where
from tests.engine.fakes import MODEL, Sums, parameters, row, running, submission, total


class Clock:
    """Set by hand, for all edges."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(remote_module, "monotonic", clock)
    return clock


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "engine.sock")
    yield place
    place.listener.close()


def beats(clock: Clock, remote: RemoteEngine, seconds: float) -> None:
    """So much time, in which the engine, on this same event loop, has no turn."""
    for _ in range(int(seconds / BEAT_S)):
        clock.now_s += BEAT_S
        assert remote._beats is not None
        remote._beats.cancel()
        remote._beat()


def serves(engine: Engine) -> tuple[bool, bool]:
    """Ready, live."""
    service = InferService(engine, [MODEL], 10)
    return service.is_ready(MODEL), service.is_live()


async def test_what_waits_fails_and_all_recovers(place: Place, clock: Clock) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        runner.hold()
        busy = remote.submit(submission(row(1000)))
        await asyncio.to_thread(runner.wait_until_running)
        waiting = [remote.submit(submission(row(1), tier="bulk"))]
        await remote.metrics("")  # a round trip: one batch runs, one is prepared
        waiting += [remote.submit(submission(row(n), tier="bulk")) for n in (2, 3)]
        await remote.metrics("")
        scrape = asyncio.ensure_future(remote.metrics(""))
        await asyncio.sleep(0)
        beats(clock, remote, SILENT_S - BEAT_S)
        assert serves(remote) == (True, True)
        beats(clock, remote, 2 * BEAT_S)
        assert serves(remote) == (False, True)
        for future in (busy, *waiting):
            assert isinstance(future.exception(), Unavailable)
        refused = remote.submit(submission(row(5)))
        assert isinstance(refused.exception(), Unavailable)
        assert "does not answer" in str(refused.exception())
        assert remote.outstanding_tokens == 0
        ended = await asyncio.gather(scrape, remote.metrics(""), return_exceptions=True)
        assert [type(each) for each in ended] == [Unavailable] * 2
        # It goes on: what it has to say was ended here, and nobody hears it twice.
        await status_where(remote, lambda status: not status.silent)
        assert serves(remote) == (True, True)
        runner.release()
        again = await remote.submit(submission(row(7)))
        assert total(again.results[0]) == 7
        assert runner.ran == [[1000], [1], [7]]
        told = behind.memory.of(EdgeRefused)
        assert [fact.outcome for fact in told] == [Outcome.UNAVAILABLE] * 5
        outcomes = behind.memory.outcomes
        assert (outcomes.count(Outcome.OK), outcomes.count(Outcome.CANCELLED)) == (1, 4)


async def test_liveness_turns_false_later_and_true_again(place: Place, clock: Clock) -> None:
    async with place.engine(Sums()), place.edge() as remote:
        await ready(remote)
        beats(clock, remote, DEAD_S)
        assert serves(remote) == (False, True)  # the supervisor has its turn first
        beats(clock, remote, DEAD_S)
        assert serves(remote) == (False, False)
        remote._send(Ping())
        await status_where(remote, lambda status: status.alive)
        assert serves(remote) == (True, True)


async def test_an_edge_that_stood_still_itself_blames_nobody(place: Place, clock: Clock) -> None:
    async with place.engine(Sums()), place.edge() as remote:
        await ready(remote)
        clock.now_s += 100 * DEAD_S
        remote._beat()
        assert serves(remote) == (True, True)


async def test_another_engine_goes_on(tmp_path: Path, clock: Clock) -> None:
    places = [Place(tmp_path / f"engine-{index}.sock") for index in range(2)]
    remotes = [RemoteEngine(index, place.path, [MODEL]) for index, place in enumerate(places)]
    group = EngineGroup(remotes, lambda bodies: b"".join(bodies.values()))
    async with (
        places[0].engine(Sums()),
        places[1].engine(Sums()),
        connected(*remotes),
    ):
        for remote in remotes:
            await ready(remote)
            remote.watch(group._refresh)
        group._refresh()
        beats(clock, remotes[0], 2 * SILENT_S)
        assert serves(group) == (True, True)
        assert not group.status().silent
        beats(clock, remotes[1], 2 * SILENT_S)
        assert serves(group) == (False, True)
        assert group.status().silent
    for place in places:
        place.listener.close()


async def test_the_edge_ends_what_the_engine_should_have_ended(place: Place) -> None:
    """Batches that run go on in the engine, and its late answers are dropped."""
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        runner.hold()
        late = remote.submit(submission(row(1), timeout_s=0.01))
        patient = remote.submit(submission(row(2), tier="bulk"))
        with pytest.raises(DeadlineExceeded, match="the engine gave no answer"):
            await late
        assert not patient.done()
        await remote.metrics("")  # the engine has read the cancellation by then
        runner.release()
        assert total((await patient).results[0]) == 2
        await remote.metrics("")
        assert behind.memory.outcomes.count(Outcome.CANCELLED) == 1
        assert not len(remote._deadlines)


@pytest.mark.parametrize(
    ("asked", "due_s"),
    [
        ({}, 0.2 + 1.0),
        ({"priority": 1}, 1.2),
        ({"tier": "interactive"}, 1.2),
        ({"timeout_s": 0.3}, 0.55),
        ({"timeout_s": 30.0}, 1.2),
        ({"tier": "bulk"}, float("inf")),
        ({"priority": 2, "timeout_s": 2.0}, 2.25),
        ({"arrived_s": 999.0}, 0.2),
    ],
)
async def test_when_the_edge_ends_a_request(
    place: Place, clock: Clock, asked: dict[str, Any], due_s: float
) -> None:
    async with running(Sums(), given=parameters(slo_ms=200)) as (engine, memory):
        gateway = Gateway(engine, memory)
        await gateway.open(place.listener.dup())
        async with place.edge() as remote:
            await ready(remote)
            due = remote._due_s(submission(row(1), **asked), clock.now_s)
            assert due == pytest.approx(clock.now_s + due_s)
        gateway.close()


async def test_a_tier_that_answers_late_has_no_end_at_its_slo(place: Place, clock: Clock) -> None:
    given = parameters(slo_ms=200, overload="relegate")
    async with running(Sums(), given=given) as (engine, memory):
        gateway = Gateway(engine, memory)
        await gateway.open(place.listener.dup())
        async with place.edge() as remote:
            await ready(remote)
            assert remote._due_s(submission(row(1)), clock.now_s) == float("inf")
        gateway.close()


async def test_ready_when_all_edges_are_there(place: Place) -> None:
    async with running(Sums()) as (engine, memory):
        gateway = Gateway(engine, memory, edges=2)
        await gateway.open(place.listener.dup())
        async with place.edge() as first:
            await ready(first)
            assert serves(first) == (False, True)
            async with place.edge() as second:
                for remote in (first, second):
                    await status_where(remote, lambda status: not status.edges_missing)
                    assert serves(remote) == (True, True)
            await status_where(first, lambda status: status.edges_missing == 1)
            assert serves(first) == (False, True)
            # What comes on connections that there are is served all the same.
            assert total((await first.submit(submission(row(3)))).results[0]) == 3
        gateway.close()


async def test_abandoned_requests_end_at_once(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner), place.edge() as remote:
        await ready(remote)
        runner.hold()
        waiting = [remote.submit(submission(row(n))) for n in range(4)]
        await asyncio.to_thread(runner.wait_until_running)
        remote.drain()
        remote.abandon()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in ended] == [Unavailable] * 4
        runner.release()


async def test_a_local_engine_abandons_requests_too() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        runner.hold()
        waiting = [engine.submit(submission(row(n))) for n in range(4)]
        await asyncio.to_thread(runner.wait_until_running)
        engine.drain()
        engine.abandon()
        engine.abandon()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in ended] == [Unavailable] * 4
        assert memory.outcomes == [Outcome.UNAVAILABLE] * 4
        runner.release()
