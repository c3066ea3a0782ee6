"""The budget of decoded bytes: never exceeded, given back once, and lines of jobs wait for it."""

import asyncio

import pytest

from predictor.core.errors import RequestTooLarge, Unavailable
from predictor.edge.budget import DecodedBytes, Reservation

LIMIT = 100


@pytest.fixture
def budget() -> DecodedBytes:
    return DecodedBytes(LIMIT)


def taken(budget: DecodedBytes, size: int) -> Reservation:
    held = budget.reservation()
    held.take(size)
    return held


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_there_is_room_up_to_the_limit(budget: DecodedBytes) -> None:
    first = taken(budget, 60)
    with pytest.raises(Unavailable, match=r"\(100 bytes\); try again") as refusal:
        taken(budget, 41)
    assert refusal.value.retry_after_s == 1.0
    second = taken(budget, 40)
    assert budget.held == LIMIT
    first.release()
    first.release()  # gives back once
    assert budget.held == 40
    second.release()
    assert budget.held == 0


def test_what_never_fits_is_refused_for_good(budget: DecodedBytes) -> None:
    with pytest.raises(RequestTooLarge, match="up to 101 bytes"):
        taken(budget, LIMIT + 1)
    assert budget.held == 0


def test_a_bound_is_corrected(budget: DecodedBytes) -> None:
    held = taken(budget, 90)
    held.correct(10)
    assert (budget.held, held.size) == (10, 10)
    held.correct(110)  # it is held, whatever was thought before
    assert budget.held == 110
    held.release()
    assert budget.held == 0


async def test_a_line_waits_for_room_in_order(budget: DecodedBytes) -> None:
    request = taken(budget, 80)
    order = []

    async def run(name: str, size: int) -> None:
        held = budget.reservation(of_line=True)
        try:
            await held.wait(size)
            order.append(name)
            await turns()
        finally:
            held.release()

    lines = [asyncio.ensure_future(run(*line)) for line in (("a", 30), ("b", 10), ("c", 45))]
    await turns()
    assert order == []
    request.release()
    await asyncio.gather(*lines)
    assert (order, budget.held) == (["a", "b", "c"], 0)


async def test_lines_leave_half_to_requests(budget: DecodedBytes) -> None:
    first, second, third = (budget.reservation(of_line=True) for _ in range(3))
    await first.wait(30)
    waiting = asyncio.ensure_future(second.wait(30))
    await turns()
    assert not waiting.done()
    request = taken(budget, 70)
    first.release()
    await waiting
    assert budget.held == LIMIT
    request.release()
    second.release()
    await third.wait(90)  # alone, a larger one may
    assert budget.held == 90


@pytest.mark.parametrize("granted", [False, True])
async def test_a_line_that_is_given_up_holds_nothing(
    budget: DecodedBytes, *, granted: bool
) -> None:
    request = taken(budget, 90)
    given_up, behind = budget.reservation(of_line=True), budget.reservation(of_line=True)
    waiting = asyncio.ensure_future(given_up.wait(50))
    last = asyncio.ensure_future(behind.wait(10))
    await turns()
    if granted:
        request.release()  # and cancelled in the same turn
    waiting.cancel()
    await asyncio.wait((waiting,))
    given_up.release()
    await last
    behind.release()
    request.release()
    assert budget.held == 0


async def test_one_line_is_read_at_a_time(budget: DecodedBytes) -> None:
    request = taken(budget, 95)
    first, second = (budget.reservation(of_line=True) for _ in range(2))
    await first.turn()
    waiting = asyncio.ensure_future(first.wait(10))
    turn = asyncio.ensure_future(second.turn())
    await turns()
    assert not turn.done()
    request.release()
    await asyncio.gather(waiting, turn)
    second.release()  # also one that got no further
    await first.turn()
