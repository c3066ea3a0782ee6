"""The engine with a runner under the test's control: every way a request can end."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    QueueFull,
    RowFailed,
    Shed,
    Unavailable,
    UnknownModel,
)
from predictor.core.facts import (
    Completed,
    Dispatched,
    MemoryExhausted,
    Offered,
    ParametersInForce,
    Settled,
)
from predictor.core.rows import Outcome, Packing
from predictor.engine.local import LocalEngine
from predictor.engine.port import DeviceLost, Reply, Submission
from predictor.engine.ticket import Ticket
from tests.engine.fakes import Memory, Sums, parameters, row, running, submission, total


async def held(engine: LocalEngine, runner: Sums) -> asyncio.Future[Reply]:
    """Occupies the device: returns the request that it is busy with."""
    runner.hold()
    busy = engine.submit(submission(row(1000)))
    await asyncio.to_thread(runner.wait_until_running)
    return busy


async def test_rows_are_joined_in_order() -> None:
    async with running(Sums()) as (engine, memory):
        reply = await engine.submit(submission(row(1, 2), row(3), row(4, 5, 6)))
        assert [total(result) for result in reply.results] == [3, 3, 15]
        assert reply.batch_size == 3
        assert reply.service_s > 0
        assert memory.outcomes == [Outcome.OK]
        (settled,) = memory.of(Settled)
        assert settled.rows == 3
        assert settled.deadline_met


async def test_what_comes_in_one_turn_rides_together() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        replies = await asyncio.gather(*(engine.submit(submission(row(n))) for n in range(5)))
        assert [reply.batch_size for reply in replies] == [5] * 5
        assert runner.ran == [[0, 1, 2, 3, 4]]
        (completed,) = memory.of(Completed)
        assert completed.failed_rows == 0


async def test_a_bad_row_fails_alone() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        futures = [engine.submit(submission(row(n))) for n in (1, 2, -3, 4, 5)]
        settled = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(settled.pop(2), RowFailed)
        assert [total(reply.results[0]) for reply in settled if isinstance(reply, Reply)] == [
            *(1, 2, 4, 5)
        ]
        assert sorted(memory.outcomes) == [Outcome.FAILED, *[Outcome.OK] * 4]


async def test_one_bad_row_fails_its_whole_request() -> None:
    async with running(Sums()) as (engine, memory):
        with pytest.raises(RowFailed, match="a negative id"):
            await engine.submit(submission(row(1), row(-1), row(2)))
        assert memory.outcomes == [Outcome.FAILED]


async def test_what_does_not_fit_into_memory_is_split_and_remembered() -> None:
    runner = Sums()
    long = tuple(range(40))
    async with running(runner) as (engine, memory):
        runner.room = 100
        replies = await asyncio.gather(*(engine.submit(submission(row(*long))) for _ in range(4)))
        assert {total(reply.results[0]) for reply in replies} == {sum(long)}
        assert memory.of(MemoryExhausted)[0].tokens == 160
        runner.ran.clear()
        await asyncio.gather(*(engine.submit(submission(row(*long))) for _ in range(4)))
        assert max(map(len, runner.ran)) <= 3  # 4 x 40 is never tried again


async def test_a_shortage_of_memory_closes_no_model() -> None:
    """Another process takes the memory for a while: 503 meanwhile, then all is as before."""
    runner = Sums()
    async with running(runner) as (engine, memory):
        assert (await engine.submit(submission(row(*range(50))))).batch_size == 1
        runner.room = 3
        for _ in range(3):
            pair = [engine.submit(submission(row(1, 2, 3, 4))) for _ in range(2)]
            for each in await asyncio.gather(*pair, return_exceptions=True):
                assert isinstance(each, Unavailable)
                assert "4 tokens" in each.message
                assert each.retry_after_s > 0
        assert total((await engine.submit(submission(row(1, 2)))).results[0]) == 3
        assert set(memory.outcomes) == {Outcome.OK, Outcome.UNAVAILABLE}
        runner.room = 1 << 30
        for tokens in (4, 5, 50, 16_384):
            reply = await engine.submit(submission(row(*range(tokens))))
            assert total(reply.results[0]) == sum(range(tokens))
        with pytest.raises(InvalidRequest, match="over max_batch_tokens 16384"):
            await engine.submit(submission(row(*range(16_385))))


async def test_a_row_too_long_for_the_memory_is_told_so_and_the_others_are_served() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        runner.room = 1000
        assert (await engine.submit(submission(row(*range(900))))).batch_size == 1
        for _ in range(3):
            with pytest.raises(RowFailed, match="2000 tokens does not fit into device memory"):
                await engine.submit(submission(row(*range(2000))))
            assert (await engine.submit(submission(row(*range(900))))).batch_size == 1
        assert memory.outcomes.count(Outcome.OK) == 4


async def test_cancel_one_of_four_in_flight() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        runner.hold()
        futures = [engine.submit(submission(row(n))) for n in range(4)]
        await asyncio.to_thread(runner.wait_until_running)
        futures[1].cancel()
        runner.release()
        settled = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(settled[1], asyncio.CancelledError)
        assert [total(each.results[0]) for each in settled if isinstance(each, Reply)] == [0, 2, 3]
        assert sorted(memory.outcomes) == [Outcome.CANCELLED, *[Outcome.OK] * 3]


async def test_cancelled_while_it_waits_it_never_runs() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        busy = await held(engine, runner)
        prepared = engine.submit(submission(row(1)))  # goes behind the running one at once
        await asyncio.sleep(0)
        waiting = engine.submit(submission(row(2), row(3)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        runner.release()
        await asyncio.gather(busy, prepared)
        assert [2, 3] not in runner.ran
        assert not {2, 3}.intersection(first for run in runner.ran for first in run)
        assert memory.outcomes.count(Outcome.CANCELLED) == 1


async def test_a_deadline_that_passes_while_the_device_is_busy() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        busy = await held(engine, runner)
        prepared = engine.submit(submission(row(1)))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="passed while the request waited"):
            await engine.submit(submission(row(2), timeout_s=0.05))
        runner.release()
        await asyncio.gather(busy, prepared)
        assert [2] not in runner.ran
        assert Outcome.EXPIRED in memory.outcomes


async def test_refusals() -> None:
    runner = Sums()
    async with running(runner, given=parameters(max_queue_size=2)) as (engine, memory):
        for bad, kind, text in (
            (submission(row(1), tier="express"), InvalidRequest, "express"),
            (submission(row(1), priority=9), InvalidRequest, "priority 9"),
            (submission(row(1), model="nothing"), UnknownModel, "nothing"),
            (submission(), InvalidRequest, "no rows"),
            (submission(row(*range(20_000))), InvalidRequest, "max_batch_tokens"),
            (submission(row(1), row(2), row(3)), QueueFull, "full"),
        ):
            with pytest.raises(kind, match=text):
                await engine.submit(bad)
        assert set(memory.outcomes) == {Outcome.INVALID, Outcome.QUEUE_FULL}
        assert len(memory.of(Offered)) == 1  # the one that was too many, but valid
        assert (await engine.submit(submission(row(7)))).results


async def test_draining_refuses_the_new_and_answers_the_old() -> None:
    runner = Sums()
    async with running(runner) as (engine, _):
        busy = await held(engine, runner)
        waiting = engine.submit(submission(row(1)))
        engine.drain()
        assert engine.status().draining
        with pytest.raises(Unavailable, match="draining"):
            await engine.submit(submission(row(2)))
        runner.release()
        assert [total((await each).results[0]) for each in (busy, waiting)] == [1000, 1]


async def test_bytes_that_wait_are_bounded_and_given_back() -> None:
    runner = Sums()
    async with running(runner, max_queued_bytes=24) as (engine, _):
        runner.hold()
        answered, cancelled, third = (engine.submit(submission(row(n))) for n in range(3))
        with pytest.raises(QueueFull, match=r"\(24\); try"):
            await engine.submit(submission(row(4)))
        cancelled.cancel()
        await asyncio.wait((cancelled,))
        again = engine.submit(submission(row(5)))
        with pytest.raises(QueueFull):
            await engine.submit(submission(row(6)))
        runner.release()
        assert [total((await each).results[0]) for each in (answered, third, again)] == [0, 2, 5]
        await asyncio.sleep(0)  # a future tells of its end in the next turn
        all_three = [engine.submit(submission(row(n))) for n in range(3)]
        assert [total((await each).results[0]) for each in all_three] == [0, 1, 2]


async def test_a_loading_model_is_unavailable() -> None:
    engine = LocalEngine(["sums"], parameters(), Memory(), exposition=lambda _: (b"", ""))
    assert engine.status().loading == ("sums",)
    with pytest.raises(Unavailable, match="loading"):
        await engine.submit(submission(row(1)))


async def test_a_hung_device_settles_everybody_and_ends() -> None:
    runner = Sums()
    async with running(runner, batch_timeout_s=0.05) as (engine, memory):
        runner.hold()
        futures = [engine.submit(submission(row(n))) for n in range(3)]
        with pytest.raises(RuntimeError, match="one batch"):
            await engine.failure()
        for future in futures:
            with pytest.raises(Unavailable, match="hangs"):
                await future
        assert set(memory.outcomes) == {Outcome.UNAVAILABLE}


class Lost(Sums):
    """A device that fails for good at the first batch in traffic."""

    lost = False

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        results = super().run(rows, packing)
        if self.lost:
            raise DeviceLost("CUDA error: device-side assert triggered")
        return results


async def test_a_lost_device_settles_everybody_and_ends() -> None:
    runner = Lost()
    async with running(runner) as (engine, memory):
        runner.lost = True
        runner.ran.clear()
        futures = [engine.submit(submission(row(n))) for n in range(3)]
        with pytest.raises(RuntimeError, match="lost: CUDA error: device-side"):
            await engine.failure()
        for future in futures:
            with pytest.raises(Unavailable, match="failed; the server restarts"):
                await future
        assert set(memory.outcomes) == {Outcome.UNAVAILABLE}
        assert len(runner.ran) == 1


async def test_models_share_the_device_and_keep_their_queues() -> None:
    one, other = Sums("one"), Sums("other")
    async with running(one, other) as (engine, _):
        replies = await asyncio.gather(
            *(engine.submit(submission(row(n), model=("one", "other")[n % 2])) for n in range(8))
        )
        assert [total(reply.results[0]) for reply in replies] == list(range(8))
        assert {first % 2 for run in one.ran for first in run} == {0}
        assert {first % 2 for run in other.ran for first in run} == {1}


class Standing:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def deadlines_of(*asked: Submission) -> list[float]:
    """Of their rows, in seconds from the arrival, where the SLO is 100 s."""
    runner, given = Sums(), parameters(slo_ms=100_000)
    async with running(runner, given=given, clock=Standing()) as (engine, memory):
        for each in asked:
            await engine.submit(each)
        batches = [fact.batch for fact in memory.of(Dispatched)]
        return [row.deadline_s - row.arrival_s for batch in batches for row in batch.rows]


async def test_the_way_back_is_taken_off_the_slo_and_not_off_a_timeout() -> None:
    assert await deadlines_of(
        submission(row(1)),
        submission(row(1), return_s=10.0),
        submission(row(1), return_s=10.0, timeout_s=95.0),
        submission(row(1), return_s=10.0, timeout_s=80.0),
        submission(row(1), return_s=1000.0),  # an edge that slow still gets half
    ) == [100.0, 90.0, 90.0, 80.0, 50.0]


async def test_a_request_that_waited_too_long_to_be_looked_at_is_refused_unseen() -> None:
    async with running(Sums(), given=parameters(slo_ms=60_000)) as (engine, memory):
        looked_at, unseen, bulk = Ticket(), Ticket(), Ticket()
        engine.take(submission(row(1)), looked_at, waited_s=9.9)
        engine.take(submission(row(1)), unseen, waited_s=10.1)
        engine.take(submission(row(1), tier="bulk"), bulk, waited_s=1000.0)
        assert isinstance(unseen.exception(), Shed)
        assert not looked_at.done()
        assert not bulk.done()
        assert memory.outcomes == [Outcome.SHED]
        assert sum(queue.offered_load for queue in engine.snapshot().queues) > 0


async def test_live_parameters() -> None:
    runner = Sums()
    async with running(runner) as (engine, memory):
        busy = await held(engine, runner)
        waiting = engine.submit(submission(row(1), tier="bulk"))
        await asyncio.sleep(0)
        edited = parameters(generation=2, max_queue_size=1)
        without_bulk = type(edited)(
            generation=2, models={}, tiers={"interactive": edited.tiers["interactive"]}
        )
        engine.set_parameters(without_bulk)
        assert engine.status().generation == 2
        assert [fact.generation for fact in memory.of(ParametersInForce)] == [1, 2]
        with pytest.raises(InvalidRequest, match="bulk"):
            await engine.submit(submission(row(2), tier="bulk"))
        with pytest.raises(QueueFull):
            await engine.submit(submission(row(2), row(3)))
        runner.release()
        assert [total((await each).results[0]) for each in (busy, waiting)] == [1000, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_every_request_settles_exactly_once(seed: int) -> None:
    asyncio.run(_storm(random.Random(seed)))


async def _storm(rng: random.Random) -> None:
    runner = Sums()
    async with running(runner, given=parameters(slo_ms=200, max_queue_size=30)) as (engine, memory):
        futures = []
        for _ in range(60):
            rows = [row(rng.choice([-1, 1, 2, 3]), 1) for _ in range(rng.randint(1, 4))]
            tier = rng.choice([None, "interactive", "bulk"])
            futures.append(engine.submit(submission(*rows, tier=tier)))
            if rng.random() < 0.2:
                rng.choice(futures).cancel()
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            settled = await asyncio.gather(*futures, return_exceptions=True)
        assert len(memory.of(Settled)) == len(futures)
        answered = sum(isinstance(each, Reply) for each in settled)
        assert memory.outcomes.count(Outcome.OK) == answered
        cancelled = sum(isinstance(each, asyncio.CancelledError) for each in settled)
        assert memory.outcomes.count(Outcome.CANCELLED) == cancelled


async def test_a_tier_that_relegates_answers_late() -> None:
    relegating = parameters(slo_ms=1e-3, overload="relegate")
    async with running(Sums(), given=relegating) as (engine, memory):
        late = await engine.submit(submission(row(1), row(2)))
        assert len(late.results) == 2
        (settled,) = memory.of(Settled)
        assert (settled.outcome, settled.deadline_met) == (Outcome.OK, False)
        timed = engine.submit(submission(row(1), timeout_s=1e-9))
        with pytest.raises(DeadlineExceeded):
            await timed
