"""Batches run in the order in which they were handed in, and end on the loop in that order."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from predictor.core.generation import Sampled
from predictor.core.rows import AT_ITS_END, Batch, DispatchReason, Packing, Piece, Row
from predictor.engine.device import Device, Finished
from predictor.engine.port import PipelinedRunner, PipelinedStepRunner, Runner
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


class PipelinedSteps:
    """Each piece samples its slot. Launching a step with a slot in `refused` raises, and so does
    running several pieces of which one is in `bad`."""

    def __init__(self) -> None:
        self.spec = Sums().spec
        self.launched: list[list[int]] = []
        self.ran: list[list[int]] = []  # by the thread
        self.refused: set[int] = set()
        self.bad: set[int] = set()
        self.opened = threading.Event()

    def launch_step(self, pieces: Sequence[Piece]) -> "StepInPipeline":
        slots = [piece.slot for piece in pieces]
        if self.refused & set(slots):
            raise RuntimeError("cannot be launched")
        self.launched.append(slots)
        return StepInPipeline(self.opened, slots)

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        assert self.opened.wait(30)
        assert threading.current_thread().name == "device"
        slots = [piece.slot for piece in pieces]
        self.ran.append(slots)
        if self.bad & set(slots):
            raise ValueError("a bad piece")
        return [Sampled(slot) for slot in slots]


class StepInPipeline:
    def __init__(self, opened: threading.Event, slots: Sequence[int]) -> None:
        self._opened = opened
        self._slots = slots

    def results(self) -> Sequence[Sampled | Exception | None]:
        assert self._opened.wait(30)
        return [Sampled(slot) for slot in self._slots]


def step_of(*slots: int) -> Batch:
    rows = [Row(MODEL, "tier", 1, 0.0) for _ in slots]
    pieces = [
        Piece(row, slot, AT_ITS_END, 1, (), fresh=False, samples=True)
        for row, slot in zip(rows, slots, strict=True)
    ]
    reason = DispatchReason.IDLE
    return Batch(MODEL, rows, Packing.PAGED, reason, 0.0, len(rows), pieces=pieces)


def sampled(done: Finished) -> list[int]:
    return [each.id if isinstance(each, Sampled) else -1 for each in done.ran.results]


@pytest.fixture
def steps() -> Iterator[PipelinedSteps]:
    runner = PipelinedSteps()
    assert isinstance(runner, PipelinedStepRunner)
    yield runner
    runner.opened.set()


async def test_the_next_step_is_launched_before_the_first_has_results(
    world: World, steps: PipelinedSteps
) -> None:
    first, second = step_of(1, 2), step_of(1, 2)
    world.device.start(steps, first)
    world.device.start(steps, second)
    assert steps.launched == [[1, 2], [1, 2]]
    steps.opened.set()
    assert sampled(await world.ended(first)) == [1, 2]
    assert sampled(await world.ended(second)) == [1, 2]
    assert steps.ran == []


async def test_behind_a_step_that_could_not_be_launched_none_is_until_it_has_run(
    world: World, steps: PipelinedSteps
) -> None:
    """Steps go on from one another: one that was launched would overtake it."""
    steps.refused = {2}
    before, refused, behind, last = step_of(1, 3), step_of(1, 2), step_of(1, 4), step_of(4)
    for each in (before, refused, behind, last):
        world.device.start(steps, each)
    assert steps.launched == [[1, 3]]
    steps.opened.set()
    assert sampled(await world.ended(before)) == [1, 3]
    done = await world.ended(refused)
    assert sampled(done) == [1, 2]
    assert not done.ran.at_once
    assert sampled(await world.ended(behind)) == [1, 4]
    assert sampled(await world.ended(last)) == [4]
    assert steps.ran == [[1], [2], [1, 4], [4]]
    assert steps.launched == [[1, 3]]
    after = step_of(1, 3)  # the thread is behind no longer
    world.device.start(steps, after)
    assert steps.launched == [[1, 3], [1, 3]]
    assert sampled(await world.ended(after)) == [1, 3]


async def test_steps_are_launched_again_whatever_became_of_the_one_that_was_not(
    world: World, steps: PipelinedSteps
) -> None:
    steps.refused = steps.bad = {2}
    steps.opened.set()
    for number in range(3):
        refused, after = step_of(1, 2), step_of(1)
        world.device.start(steps, refused)
        assert sampled(await world.ended(refused)) == [1, -1]
        world.device.start(steps, after)
        assert steps.launched == [[1]] * (number + 1)
        assert sampled(await world.ended(after)) == [1]


async def test_whole_rows_are_launched_behind_a_step_that_was_not(
    world: World, steps: PipelinedSteps, pipeline: Pipeline
) -> None:
    """They do not go on from it."""
    steps.refused = {2}
    refused, whole = step_of(2), batch_of(5)
    world.device.start(steps, refused)
    world.device.start(pipeline, whole)
    assert pipeline.launched == [[5]]
    steps.opened.set()
    pipeline.release()
    assert sampled(await world.ended(refused)) == [-1]  # alone, so it was tried already
    assert await world.answers(whole) == [5]
