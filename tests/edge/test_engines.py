"""Several engines as one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from predictor.core.errors import Unavailable
from predictor.core.facts import EdgeTimed, JobsSeen
from predictor.edge.engines import EngineGroup
from predictor.edge.remote import RemoteEngine
from tests.edge.sockets import Place, connected
from tests.engine.fakes import MODEL, Sums, row, submission, total


def joined(bodies: Mapping[str, bytes]) -> bytes:
    return b" ".join(engine.encode() + b":" + body for engine, body in bodies.items())


class Pair:
    """Two places for engines, and a group that is connected to both."""

    def __init__(self, folder: Path) -> None:
        self.places = [Place(folder / name) for name in ("a", "b")]
        self.remotes = [RemoteEngine(n, place.path, [MODEL]) for n, place in enumerate(self.places)]
        self.group = EngineGroup(self.remotes, joined)
        self._refresh = self.group._refresh
        self._changed = asyncio.Event()
        for remote in self.remotes:
            remote.watch(self._on_change)

    async def connected_are(self, count: int) -> None:
        while sum(remote.connected for remote in self.remotes) != count:
            self._changed.clear()
            await self._changed.wait()

    def _on_change(self) -> None:
        self._refresh()
        self._changed.set()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    async with connected(*pair.remotes):
        yield pair
    for place in pair.places:
        place.listener.close()


async def test_each_engine_is_told_of_jobs(pair: Pair) -> None:
    """A sum over engines means nothing there, and each one's policy asks for the replicas."""
    seen = JobsSeen(MODEL, waiting=5, leased=2, parked=1, replicas=3)
    async with pair.places[0].engine(Sums()) as first, pair.places[1].engine(Sums()) as second:
        await pair.connected_are(2)
        pair.group.report(seen)
        pair.group.report(EdgeTimed(MODEL, "http", 1.0, 2.0, 3.0))
        await pair.group.metrics("")
        told = [[type(fact) for fact in each.memory.facts] for each in (first, second)]
    assert [kinds.count(JobsSeen) for kinds in told] == [1, 1]
    assert [kinds.count(EdgeTimed) for kinds in told] == [1, 0]


async def test_the_least_loaded_works_and_one_is_enough(pair: Pair) -> None:
    group = pair.group
    first, second = Sums(), Sums()
    async with pair.places[1].engine(second):
        async with pair.places[0].engine(first) as behind:
            await pair.connected_are(2)
            first.hold()
            long = group.submit(submission(row(*range(100))))
            await asyncio.to_thread(first.wait_until_running)
            others = [await group.submit(submission(row(n))) for n in range(4)]
            assert [total(reply.results[0]) for reply in others] == [0, 1, 2, 3]
            assert second.ran == [[0], [1], [2], [3]]
            assert await group.metrics("") == (b"0: 1:", "")
            behind.die()
            with pytest.raises(Unavailable):
                await long
            first.release()
        assert MODEL in group.status().models
        assert group.status().loading == ()
        assert total((await group.submit(submission(row(9)))).results[0]) == 9
        assert await group.metrics("") == (b"1:", "")
        group.drain()
        assert group.status().draining
        with pytest.raises(Unavailable, match="draining"):
            await group.submit(submission(row(1)))


async def test_idle_engines_take_turns(pair: Pair) -> None:
    first, second = Sums(), Sums()
    async with pair.places[0].engine(first), pair.places[1].engine(second):
        await pair.connected_are(2)
        for number in range(4):
            await pair.group.submit(submission(row(number)))
    assert (first.ran, second.ran) == ([[0], [2]], [[1], [3]])


async def test_without_any_engine_the_models_are_loading(pair: Pair) -> None:
    assert pair.group.status().loading == (MODEL,)
    with pytest.raises(Unavailable, match="loading"):
        await pair.group.submit(submission(row(1)))
    with pytest.raises(Unavailable):
        await pair.group.metrics("")
