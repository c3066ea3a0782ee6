"""What the engine tells and keeps: times by a clock of the test's, lessons, and nothing left."""

import asyncio
import gc
import logging
import weakref

import msgspec
import pytest

from predictor.core.errors import DeadlineExceeded, QueueFull, RowFailed
from predictor.core.facts import Completed, Settled
from predictor.core.parameters import ModelParameters, Policy
from predictor.core.rows import Outcome
from predictor.engine.local import LocalEngine
from predictor.engine.port import Reply
from tests.engine.fakes import MODEL, Sums, parameters, row, running, submission, total


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_times_are_those_of_the_clock() -> None:
    runner, clock = Sums(), Hands()
    async with running(runner, clock=clock) as (engine, memory):
        runner.hold()
        late = engine.submit(submission(row(1), timeout_s=3.0))
        await asyncio.to_thread(runner.wait_until_running)
        clock.now_s = 102.0
        patient = engine.submit(submission(row(2), timeout_s=60.0))
        clock.now_s = 105.0
        runner.release()
        first, second = await asyncio.gather(late, patient)
        assert (first.queue_s, first.service_s) == (0.0, 5.0)
        assert (second.queue_s, second.service_s) == (3.0, 0.0)
        told = [
            (fact.queue_s, fact.service_s, fact.latency_s, fact.deadline_met)
            for fact in memory.of(Settled)
        ]
        assert told == [(0.0, 5.0, 5.0, False), (3.0, 0.0, 3.0, True)]
        assert [fact.service_s for fact in memory.of(Completed)] == [5.0, 0.0]


async def test_the_way_to_the_engine_counts() -> None:
    runner = Sums()
    async with running(runner, clock=Hands()) as (engine, memory):
        reply = await engine.submit(submission(row(1), arrived_s=97.0))
        assert (reply.queue_s, reply.service_s) == (3.0, 0.0)
        with pytest.raises(DeadlineExceeded, match="before the request was queued"):
            await engine.submit(submission(row(2), arrived_s=97.0, timeout_s=2.0))
        early = await engine.submit(submission(row(3), arrived_s=101.0))  # by a clock that lies
        assert early.queue_s == 0.0
        assert [(fact.outcome, fact.latency_s) for fact in memory.of(Settled)] == [
            *((Outcome.OK, 3.0), (Outcome.EXPIRED, 0.0), (Outcome.OK, 0.0))
        ]
        assert runner.ran == [[1], [3]]


def lessons(engine: LocalEngine) -> int:
    (service,) = engine.snapshot().service_models
    return service.batches


async def answers_are_written() -> None:
    """Two turns of the loop, after which a batch has taught what it teaches."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_batch_that_ran_in_pieces_teaches_nothing() -> None:
    async with running(Sums()) as (engine, memory):
        before = lessons(engine)
        futures = [engine.submit(submission(row(n))) for n in (1, -2, 3)]
        await asyncio.gather(*futures, return_exceptions=True)
        assert [fact.failed_rows for fact in memory.of(Completed)] == [1]
        await answers_are_written()
        assert lessons(engine) == before
        await engine.submit(submission(row(4)))
        await answers_are_written()
        assert lessons(engine) == before + 1


async def test_an_edit_reaches_rows_that_wait_for_their_window() -> None:
    waits = ModelParameters(policy=Policy.CONSTANT, max_wait_ms=60_000)
    windowed = msgspec.structs.replace(parameters(), models={MODEL: waits})
    runner = Sums()
    async with running(runner, given=windowed) as (engine, _):
        waiting = engine.submit(submission(row(7)))
        await asyncio.sleep(0)
        assert runner.ran == []
        engine.set_parameters(parameters(generation=2))
        async with asyncio.timeout(30):
            assert total((await waiting).results[0]) == 7


async def test_nothing_is_kept_of_a_request_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Least of all of a refused one: under overload they are the many."""
    caplog.set_level(logging.CRITICAL, "headway")  # what is captured would be kept
    ended: weakref.WeakSet[asyncio.Future[Reply]] = weakref.WeakSet()
    async with running(Sums(), given=parameters(max_queue_size=4)) as (engine, memory):
        for bad in (submission(row(1), tier="express"), submission(model="nothing")):
            ended.add(engine.submit(bad))
        await _submit_and_leave(engine, ended)
        await engine.submit(submission(row(6)))  # the device lets go of the batch before
        memory.facts.clear()
        gc.collect()
        assert not list(ended)


async def _submit_and_leave(
    engine: LocalEngine, ended: "weakref.WeakSet[asyncio.Future[Reply]]"
) -> None:
    """One is answered, one fails, one is cancelled, and the last two find the queue full."""
    futures = [engine.submit(submission(row(n))) for n in (1, -2, 3, 4, 5, 6)]
    ended.update(futures)
    futures[2].cancel()
    settled = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(each) for each in settled] == [
        *(Reply, RowFailed, asyncio.CancelledError, Reply, QueueFull, QueueFull)
    ]


async def test_an_answered_request_leaves_no_cycle() -> None:
    """The collector's pauses grow with what only it can free."""
    async with running(Sums(), given=parameters()) as (engine, memory):
        await engine.submit(submission(row(1), row(2)))
        gc.collect()
        gc.disable()
        try:
            for n in range(10):
                await engine.submit(submission(row(n), row(n + 1)))
            memory.facts.clear()
            found = gc.collect()
        finally:
            gc.enable()
    assert found == 0
