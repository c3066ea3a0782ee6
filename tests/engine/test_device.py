"""Batches run in the order in which they were handed in, and end on the loop in that order."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from predictor.core.rows import Batch, DispatchReason, Packing, Row
from predictor.engine.device import Device, Finished
from predictor.engine.port import PipelinedRunner, Runner
from tests.engine.fakes import MODEL, Pipeline, Sums, row, total


def batch_of(*values: int) -> Batch:
    rows = [Row(MODEL, "tier", 1, 0.0, payload=row(value).payload) for value in values]
    return Batch(MODEL, rows, Packing.PADDED, DispatchReason.IDLE, 0.0, len(rows))


class Ticks:
    """A clock that is one second further each time it is read, by whatever thread."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1)

    def __call__(self) -> float:
        return float(next(self._seconds))


class World:
    """A device, and what it tells the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        before = set(threading.enumerate())
        self.device = Device(loop, self._finished, Ticks())
        self.threads = set(threading.enumerate()) - before
        self._loop_thread = threading.get_ident()
        self._ended: asyncio.Queue[Finished] = asyncio.Queue()

    def _finished(self, done: Finished) -> None:
        assert threading.get_ident() == self._loop_thread
        self._ended.put_nowait(done)

    async def ended(self, batch: Batch) -> Finished:
        """The next batch that ended, which must be this one."""
        async with asyncio.timeout(30):
            done = await self._ended.get()
        assert done.batch is batch
        assert done.started_s < done.finished_s
        return done

    async def answers(self, batch: Batch) -> list[int]:
        results = (await self.ended(batch)).ran.results
        return [total(each) if isinstance(each, bytes) else -1 for each in results]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(asyncio.get_running_loop())
    yield made
    made.device.close()


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """Up to two rows are launched; it is held."""
    runner = Pipeline(most=2)
    runner.hold()
    yield runner
    runner.release()


def test_the_fakes_are_what_they_stand_for() -> None:
    assert isinstance(Pipeline(), PipelinedRunner)
    assert not isinstance(Sums(), PipelinedRunner)


async def test_the_next_batch_is_launched_before_the_first_has_results(
    world: World, pipeline: Pipeline
) -> None:
    first, second = batch_of(1, 2), batch_of(3)
    world.device.start(pipeline, first)
    world.device.start(pipeline, second)
    assert pipeline.launched == [[1, 2], [3]]
    pipeline.release()
    assert await world.answers(first) == [1, 2]
    assert await world.answers(second) == [3]
    assert pipeline.ran == []


async def test_many_batches_end_in_order(world: World) -> None:
    runner = Pipeline()
    batches = [batch_of(*range(index, index + 3)) for index in range(50)]
    for batch in batches:
        world.device.start(runner, batch)
    for index, batch in enumerate(batches):
        assert await world.answers(batch) == [index, index + 1, index + 2]


async def test_a_batch_launched_early_begins_when_the_one_before_ends(
    world: World, pipeline: Pipeline
) -> None:
    first, second = batch_of(1), batch_of(2)
    world.device.start(pipeline, first)
    world.device.start(pipeline, second)
    pipeline.release()
    ended_s = (await world.ended(first)).finished_s
    assert (await world.ended(second)).started_s == ended_s
    third = batch_of(3)
    world.device.start(pipeline, third)  # and one launched late, when it is launched
    assert (await world.ended(third)).started_s > ended_s + 1


async def test_a_launch_that_fails_finds_the_row_at_fault(world: World) -> None:
    runner = Pipeline()
    bad, good = batch_of(1, -2, 3, 4), batch_of(5)
    world.device.start(runner, bad)
    world.device.start(runner, good)
    done = await world.ended(bad)
    assert [isinstance(each, ValueError) for each in done.ran.results] == [
        False,
        True,
        False,
        False,
    ]
    assert not done.ran.at_once
    assert runner.ran[0] == [1, -2]  # the whole of it was tried by the launch
    assert await world.answers(good) == [5]


async def test_what_cannot_be_launched_runs_on_the_thread_of_the_device(world: World) -> None:
    runner = Pipeline(most=2)
    large = batch_of(1, 2, 3)
    world.device.start(runner, large)
    assert await world.answers(large) == [1, 2, 3]
    assert runner.launched == []
    assert runner.ran_on == ["device"]


@pytest.mark.parametrize("other", [Pipeline(most=0), Sums()])
async def test_what_is_not_launched_runs_after_what_was_launched_before(
    world: World, pipeline: Pipeline, other: Runner
) -> None:
    """Else it ends first, or its time has that of the batch before in it."""
    first, second, third = batch_of(1), batch_of(2), batch_of(3)
    world.device.start(pipeline, first)
    world.device.start(other, second)
    world.device.start(pipeline, third)
    pipeline.release()
    ends = [await world.ended(each) for each in (first, second, third)]
    for before, after in itertools.pairwise(ends):
        assert before.finished_s <= after.started_s


async def test_close_ends_its_threads_after_what_they_have_been_given(world: World) -> None:
    assert world.threads
    runner, plain = Pipeline(), Sums()
    launched, run = batch_of(1), batch_of(2)
    world.device.start(runner, launched)
    world.device.start(plain, run)
    world.device.close()
    for thread in world.threads:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
    assert await world.answers(launched) == [1]
    assert await world.answers(run) == [2]


async def test_a_loop_that_is_gone_ends_the_threads() -> None:
    gone = asyncio.new_event_loop()
    world = World(gone)
    gone.close()
    world.device.start(Pipeline(), batch_of(1))
    for thread in world.threads:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
