"""An engine behind a socket: answers, errors, cancels, limits, and its death."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from predictor.core.errors import (
    InvalidRequest,
    QueueFull,
    RequestTooLarge,
    RowFailed,
    Unavailable,
    UnknownModel,
)
from predictor.core.facts import EdgeRefused, EdgesConnected, EdgeTimed, JobsSeen
from predictor.core.rows import Outcome
from predictor.edge import remote as remote_module
from predictor.edge.remote import RemoteEngine
from predictor.engine import gateway as gateway_module
from predictor.engine.port import Reply
from tests.edge.sockets import Place, ready, status_where
from tests.engine.fakes import MODEL, Sums, parameters, row, submission, total


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "engine.sock")
    yield place
    place.listener.close()


async def held(remote: RemoteEngine, runner: Sums) -> asyncio.Future[Reply]:
    """Occupies the device: returns the request that it is busy with."""
    runner.hold()
    busy = remote.submit(submission(row(1000)))
    await asyncio.to_thread(runner.wait_until_running)
    return busy


async def test_answers_and_errors_cross(place: Place) -> None:
    async with place.engine(Sums()) as behind, place.edge() as remote:
        await ready(remote)
        assert remote.status() == behind.engine.status()
        reply = await remote.submit(submission(row(1, 2), row(3)))
        assert [total(result) for result in reply.results] == [3, 3]
        assert reply.batch_size == 2
        for wrong, error in (
            (submission(row(-1)), RowFailed),
            (submission(), InvalidRequest),
            (submission(row(1), tier="none"), InvalidRequest),
            (submission(row(1), model="nobody"), UnknownModel),
        ):
            with pytest.raises(error):
                await remote.submit(wrong)
        assert remote.outstanding_tokens == 0


async def test_what_is_said_in_one_turn_rides_together(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner), place.edge() as remote:
        await ready(remote)
        replies = await asyncio.gather(*(remote.submit(submission(row(n))) for n in range(5)))
        assert [total(reply.results[0]) for reply in replies] == [0, 1, 2, 3, 4]
        assert runner.ran == [[0, 1, 2, 3, 4]]


async def test_a_cancelled_request_never_runs(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        busy = [await held(remote, runner), remote.submit(submission(row(1)))]
        await remote.metrics("")  # a round trip: one batch runs, one is prepared
        given_up = remote.submit(submission(row(2)))
        patient = remote.submit(submission(row(3)))
        await remote.metrics("")
        given_up.cancel()
        await remote.metrics("")
        assert behind.memory.outcomes == [Outcome.CANCELLED]
        assert remote.outstanding_tokens == 3
        runner.release()
        await asyncio.gather(*busy, patient)
        assert runner.ran == [[1000], [1], [3]]


async def test_when_the_engine_dies_all_fail_at_once_and_nothing_is_sent_again(
    place: Place,
) -> None:
    runner, successor = Sums(), Sums()
    async with place.edge() as remote:
        assert remote.status().loading == (MODEL,)
        with pytest.raises(Unavailable, match="loading"):
            await remote.submit(submission(row(1)))
        async with place.engine(runner) as behind:
            await ready(remote)
            waiting = [await held(remote, runner), remote.submit(submission(row(2)))]
            scrape = asyncio.ensure_future(remote.metrics(""))
            await asyncio.sleep(0)
            behind.die()
            ended = await asyncio.gather(*waiting, scrape, return_exceptions=True)
            assert [type(each) for each in ended] == [Unavailable] * 3
            assert remote.status().models == {}
            assert remote.status().loading == (MODEL,)
            assert remote.outstanding_tokens == 0
            with pytest.raises(Unavailable):
                await remote.submit(submission(row(3)))
            with pytest.raises(Unavailable):
                await remote.metrics("")
            runner.release()
        async with place.engine(successor) as behind:
            await ready(remote)
            assert total((await remote.submit(submission(row(4)))).results[0]) == 4
            assert successor.ran == [[4]]
            # What was refused meanwhile is counted by the engine that came.
            assert len(behind.memory.of(EdgeRefused)) == 3


async def test_when_an_edge_dies_its_rows_leave_the_queue(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as other:
        await ready(other)
        async with place.edge() as remote:
            await ready(remote)
            assert behind.memory.of(EdgesConnected)[-1] == EdgesConnected(2)
            busy = [await held(other, runner), other.submit(submission(row(1)))]
            await other.metrics("")  # a round trip: one batch runs, one is prepared
            lost = remote.submit(submission(row(2)))
            await remote.metrics("")
            assert remote._link is not None
            remote._link.abort()
            with pytest.raises(Unavailable):
                await lost
            await other.metrics("")
        runner.release()
        await asyncio.gather(*busy)
        assert behind.memory.outcomes == [Outcome.CANCELLED, Outcome.OK, Outcome.OK]
        assert runner.ran == [[1000], [1]]


async def test_a_drain_answers_what_was_sent_and_then_the_edge_leaves(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        waiting = [await held(remote, runner)]
        behind.gateway.drain()
        waiting.append(remote.submit(submission(row(2))))  # the edge has not heard of it yet
        await status_where(remote, lambda status: status.draining)
        runner.release()
        replies = await asyncio.gather(*waiting)
        assert [total(reply.results[0]) for reply in replies] == [1000, 2]
        await behind.gateway.deserted()
        await status_where(remote, lambda status: status.loading == (MODEL,))


async def test_an_edge_that_drains_takes_nothing_new(place: Place) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        busy = await held(remote, runner)
        remote.drain()
        with pytest.raises(Unavailable, match="draining"):
            await remote.submit(submission(row(2)))
        runner.release()
        assert total((await busy).results[0]) == 1000
        await behind.gateway.deserted()
        assert remote.status().draining


async def test_edits_and_reports_cross(place: Place) -> None:
    async with place.engine(Sums()) as behind, place.edge() as remote:
        await ready(remote)
        behind.engine.set_parameters(parameters(generation=7))
        await status_where(remote, lambda status: status.generation == 7)
        timed = EdgeTimed(MODEL, "http", 1.0, 2.0, 3.0)
        refused = EdgeRefused("x", "v1", Outcome.INVALID)
        remote.report(timed)
        remote.report(refused)
        await remote.metrics("")
        assert behind.memory.facts[-2:] == [timed, refused]


async def test_an_engine_that_comes_back_hears_of_jobs_again(place: Place) -> None:
    seen = JobsSeen(MODEL, waiting=5, leased=2, parked=1, replicas=3)
    async with place.edge() as remote:
        async with place.engine(Sums()) as behind:
            await ready(remote)
            remote.report(msgspec.structs.replace(seen, waiting=9))
            remote.report(seen)
            await remote.metrics("")
            assert behind.memory.facts[-1] == seen
        await status_where(remote, lambda status: bool(status.loading))
        async with place.engine(Sums()) as behind:
            await ready(remote)
            await remote.metrics("")
            assert behind.memory.facts.count(seen) == 1


async def test_metrics_that_cannot_be_rendered(place: Place) -> None:
    def broken(accept: str) -> tuple[bytes, str]:
        raise ValueError(accept)

    async with place.engine(Sums()) as behind, place.edge() as remote:
        await ready(remote)
        behind.engine.exposition = lambda accept: (accept.encode(), "text/plain")
        assert await remote.metrics("all") == (b"all", "text/plain")
        behind.engine.exposition = broken
        with pytest.raises(Exception, match="all"):
            await remote.metrics("all")


async def test_limits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Sums()
    async with place.engine(runner) as behind, place.edge() as remote:
        await ready(remote)
        busy = await held(remote, runner)
        with monkeypatch.context() as patch:
            patch.setattr(remote_module, "MAX_OUTSTANDING", 1)
            with pytest.raises(QueueFull):
                await remote.submit(submission(row(2)))
        with monkeypatch.context() as patch:
            patch.setattr(remote_module, "MAX_UNSENT_BYTES", 8)
            waits = remote.submit(submission(row(1, 2)))  # alone it may be over
            with pytest.raises(QueueFull):
                await remote.submit(submission(row(2)))
        with monkeypatch.context() as patch:
            patch.setattr(remote_module, "MAX_REQUEST_BYTES", 8)
            with pytest.raises(RequestTooLarge):
                await remote.submit(submission(row(1, 2)))
        with monkeypatch.context() as patch:
            patch.setattr(gateway_module, "MAX_OUTSTANDING", 2)
            with pytest.raises(QueueFull):
                await remote.submit(submission(row(2)))
        runner.release()
        await asyncio.gather(busy, waits)
        assert len(behind.memory.of(EdgeRefused)) == 3


async def test_an_edge_that_speaks_nonsense_loses_its_connection_alone(place: Place) -> None:
    async with place.engine(Sums()) as behind, place.edge() as remote:
        await ready(remote)
        reader, writer = await asyncio.open_unix_connection(place.path)
        writer.write(b"\x05\x00\x00\x00hello")
        await reader.read()
        assert reader.at_eof()
        writer.close()
        assert total((await remote.submit(submission(row(4)))).results[0]) == 4
        assert behind.memory.of(EdgesConnected)[-1] == EdgesConnected(1)


async def test_a_flood_is_worked_on_over_many_turns(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "TURN_S", 0.0)  # a turn ends after its first messages
    monkeypatch.setattr(gateway_module, "LOOK_EVERY", 1)
    monkeypatch.setattr(gateway_module, "MAX_UNREAD", 20)  # and sockets are left alone meanwhile
    async with place.engine(Sums()) as behind, place.edge() as remote:
        await ready(remote)
        replies = await asyncio.gather(*(remote.submit(submission(row(n))) for n in range(200)))
        assert [total(reply.results[0]) for reply in replies] == list(range(200))
        again = await remote.submit(submission(row(7)))
        assert total(again.results[0]) == 7
        assert behind.memory.outcomes == [Outcome.OK] * 201


async def test_what_an_edge_told_before_it_left_is_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "TURN_S", 0.0)
    monkeypatch.setattr(gateway_module, "LOOK_EVERY", 1)
    async with place.engine(Sums()) as behind:
        async with place.edge() as remote:
            await ready(remote)
            for _ in range(50):
                remote.report(EdgeRefused(MODEL, "http", Outcome.INVALID))
        await behind.gateway.deserted()
        assert len(behind.memory.of(EdgeRefused)) == 50
