"""The lease protocol, step by step, with the clock in the test's hand."""

import msgspec
import pytest

from predictor.core.facts import JobsSeen
from predictor.core.jobs import JobStart, JobState
from predictor.jobs import leases as leases_module
from predictor.jobs.connection import Connection
from predictor.jobs.leases import Ending, Leases
from predictor.jobs.store import RedisJobs
from tests.jobs.conftest import Clock
from tests.jobs.jobs import MODEL, START, answer, answered, back, each, failure, numbered, results

LEASE_MS = 10_000


@pytest.fixture
def jobs(connection: Connection) -> RedisJobs:
    return RedisJobs(connection)


@pytest.fixture
def leases(connection: Connection) -> Leases:
    return Leases(connection, LEASE_MS / 1000)


async def indices(leases: Leases, lines: int = 100) -> list[int]:
    return [lease.index for lease in (await leases.claim(MODEL, lines)).leases]


async def test_jobs_are_served_in_the_order_in_which_they_were_queued(
    jobs: RedisJobs, leases: Leases
) -> None:
    first = await jobs.submit(START, numbered(3))
    second = await jobs.submit(JobStart(model=MODEL, tier="urgent"), numbered(3))
    other = await jobs.submit(JobStart(model="other", tier="bulk"), numbered(1))
    claimed = (await leases.claim(MODEL, 5)).leases
    assert [(lease.job_id, lease.index, lease.tier) for lease in claimed] == [
        *((first.id, index, "bulk") for index in range(3)),
        *((second.id, index, "urgent") for index in range(2)),
    ]
    assert (await leases.claim("other", 5)).leases[0].job_id == other.id
    await leases.settle(MODEL, [back(claimed[4]), back(claimed[1])])
    again = (await leases.claim(MODEL, 2)).leases
    assert [(lease.job_id, lease.index) for lease in again] == [(first.id, 1), (second.id, 1)]


async def test_a_claim_is_bounded_in_bytes(
    jobs: RedisJobs, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "CLAIM_BYTES", 250)
    await jobs.submit(START, each([b"x" * 100] * 5))
    assert await indices(leases) == [0, 1, 2]
    assert await indices(leases) == [3, 4]


async def test_a_lease_that_ran_out_is_taken_back_and_counts_as_an_attempt(
    jobs: RedisJobs, leases: Leases, clock: Clock
) -> None:
    job = await jobs.submit(START, numbered(1))
    assert (await leases.claim(MODEL, 1)).leases[0].failures == 0
    clock.ms += LEASE_MS - 1
    assert (await leases.claim(MODEL, 1)) == leases_module.Claim([], 0.001)
    clock.ms += 1
    assert (await leases.claim(MODEL, 1)).leases[0].failures == 1
    clock.ms += LEASE_MS
    assert (await leases.claim(MODEL, 1)).leases[0].failures == 2
    clock.ms += LEASE_MS
    assert (await leases.claim(MODEL, 1)) == leases_module.Claim([], None)
    status = await jobs.status(job.id)
    assert (status.state, status.parked) == (JobState.DONE, 1)
    assert "replica" in (await results(jobs, job.id))[0]["error"]


async def test_a_renewed_lease_holds(jobs: RedisJobs, leases: Leases, clock: Clock) -> None:
    await jobs.submit(START, numbered(2))
    kept, lost = (await leases.claim(MODEL, 2)).leases
    clock.ms += LEASE_MS - 1
    assert await leases.renew(MODEL, [kept]) == 1
    clock.ms += LEASE_MS - 1
    assert await indices(leases) == [lost.index]
    assert await leases.renew(MODEL, [kept, lost]) == 1  # what is lost stays lost


async def test_a_late_answer_counts_once(jobs: RedisJobs, leases: Leases, clock: Clock) -> None:
    job = await jobs.submit(START, numbered(2))
    late = (await leases.claim(MODEL, 2)).leases
    clock.ms += LEASE_MS
    (again,) = (await leases.claim(MODEL, 1)).leases
    # One line waits, the other is leased to somebody else: both answers are as good as any.
    assert await leases.settle(MODEL, map(answer, late)) == 2
    assert await leases.settle(MODEL, [answer(again)]) == 0
    assert await leases.settle(MODEL, [failure(again)]) == 0
    status = await jobs.status(job.id)
    assert (status.done, status.parked, status.waiting, status.leased) == (2, 0, 0, 0)
    assert await results(jobs, job.id) == answered(0, 1)
    assert await leases.beat(MODEL, "a", 10) == JobsSeen(MODEL, 0, 0, 0, 1)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.REFUSED, Ending.RETURNED])
async def test_a_late_word_on_an_old_lease_changes_nothing(
    jobs: RedisJobs, leases: Leases, clock: Clock, ending: Ending
) -> None:
    job = await jobs.submit(START, numbered(1))
    (old,) = (await leases.claim(MODEL, 1)).leases
    clock.ms += LEASE_MS
    (new,) = (await leases.claim(MODEL, 1)).leases
    await leases.settle(MODEL, [failure(old, ending)])
    assert (await jobs.status(job.id)).leased == 1
    assert await leases.settle(MODEL, [answer(new)]) == 1


async def test_a_line_that_keeps_failing_is_parked_with_its_error(
    jobs: RedisJobs, leases: Leases
) -> None:
    job = await jobs.submit(START, numbered(1))
    for failures in range(leases_module.MOST_ATTEMPTS):
        (lease,) = (await leases.claim(MODEL, 1)).leases
        assert lease.failures == failures
        await leases.settle(MODEL, [failure(lease)])
        await leases.settle(MODEL, [failure(lease)])  # said twice, it counts once
    assert await results(jobs, job.id) == [{"index": 0, "error": "it broke"}]
    assert (await jobs.status(job.id)).state is JobState.DONE


async def test_giving_back_is_no_attempt(jobs: RedisJobs, leases: Leases) -> None:
    await jobs.submit(START, numbered(1))
    for _ in range(2 * leases_module.MOST_ATTEMPTS):
        (lease,) = (await leases.claim(MODEL, 1)).leases
        assert lease.failures == 0
        await leases.settle(MODEL, [back(lease)])


async def test_the_lease_of_a_cancelled_line_may_run_out(
    jobs: RedisJobs, leases: Leases, clock: Clock
) -> None:
    job = await jobs.submit(START, numbered(3))
    await leases.claim(MODEL, 2)
    await jobs.cancel(job.id)
    clock.ms += LEASE_MS
    assert await indices(leases) == []
    status = await jobs.status(job.id)
    assert (status.state, status.leased, status.waiting, status.total) == ("cancelled", 0, 0, 3)


async def test_a_beat_tells_what_there_is(
    connection: Connection, leases: Leases, clock: Clock
) -> None:
    jobs = RedisJobs(connection, keep_s=60)
    await jobs.submit(START, numbered(5))
    await jobs.submit(START, numbered(4))
    claimed = (await leases.claim(MODEL, 6)).leases
    await leases.settle(MODEL, [failure(claimed[0], Ending.REFUSED), back(claimed[1])])
    assert await leases.beat(MODEL, "a", 5) == JobsSeen(MODEL, 4, 4, 1, 1)
    clock.ms += 4000
    assert (await leases.beat(MODEL, "b", 5)).replicas == 2
    clock.ms += 4000
    assert (await leases.beat(MODEL, "b", 5)).replicas == 1  # a is not heard of any more
    assert (await leases.beat(MODEL, "a", 5)).replicas == 2
    await leases.leave(MODEL, "a")
    assert (await leases.beat(MODEL, "b", 5)).replicas == 1
    assert (await leases.beat("other", "b", 5)) == JobsSeen("other", 0, 0, 0, 1)


async def test_parked_lines_are_counted_while_their_job_is_kept(
    connection: Connection, leases: Leases, clock: Clock
) -> None:
    jobs = RedisJobs(connection, keep_s=60)
    await jobs.submit(START, numbered(2))
    cancelled = await jobs.submit(START, numbered(2))
    claimed = (await leases.claim(MODEL, 3)).leases
    await leases.settle(MODEL, [failure(lease, Ending.REFUSED) for lease in claimed])
    await jobs.cancel(cancelled.id)
    assert (await leases.beat(MODEL, "a", 100)).parked == 3
    clock.ms += 60_000
    assert (await leases.beat(MODEL, "a", 100)).parked == 0


async def test_results_are_plain_json(jobs: RedisJobs, leases: Leases) -> None:
    job = await jobs.submit(START, each([b'{"id":"\xc3\xa4","x":[1]}']))
    (lease,) = (await leases.claim(MODEL, 1)).leases
    await leases.settle(MODEL, [answer(lease)])
    (line,) = [line async for line in jobs.results(job.id)]
    assert line == b'{"index":0,"was":{"id":"\xc3\xa4","x":[1]}}'
    assert msgspec.json.decode(line)["was"]["id"] == "ä"
