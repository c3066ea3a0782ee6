"""How an edge tells when requests arrived, and that it cannot keep up."""

import asyncio
import math
from collections.abc import Callable

import pytest

from predictor.core.facts import EdgeRefused
from predictor.core.rows import Outcome
from predictor.edge.http import EdgeApp
from predictor.edge.turns import MAX_SHARE_OF_SLO, Turns
from tests.edge.asgi import ids_input, infer
from tests.edge.fake_engine import FakeEngine

SLO_S = 0.02


class Loop:
    """A loop that works in turns of a given length, and the edge's view of it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.due: list[Callable[[], None]] = []
        self.turns = Turns(self.due.append, lambda: self.now_s)

    def turn(self, requests: int, each_s: float) -> list[tuple[float, bool]]:
        """What a turn with so many requests makes of them: how old, and whether overrun."""
        due, self.due[:] = list(self.due), []
        for function in due:
            function()
        seen = []
        for _ in range(requests):
            arrived_s = self.turns.arrival(self.now_s)
            overrun = self.turns.overrun(arrived_s, self.now_s, SLO_S)
            seen.append((self.now_s - arrived_s, overrun))
            self.now_s += each_s * (0.2 if overrun else 1.0)
        return seen


def test_a_request_that_comes_alone_arrived_now() -> None:
    loop = Loop()
    assert loop.turn(1, 0.001) == [(0.0, False)]
    loop.turn(0, 0.0)
    loop.now_s += 60.0
    assert loop.turn(1, 0.001) == [(0.0, False)]


def test_nothing_runs_while_nothing_comes() -> None:
    loop = Loop()
    loop.turn(1, 0.001)
    loop.turn(0, 0.0)
    loop.turn(0, 0.0)
    assert loop.due == []


def test_waiting_is_counted_from_the_middle_of_the_turn_before() -> None:
    loop = Loop()
    loop.turn(4, 0.001)
    ages = [age for age, _ in loop.turn(3, 0.001)]
    assert ages == pytest.approx([0.002, 0.003, 0.004])


def test_one_long_turn_is_a_hiccup() -> None:
    loop = Loop()
    loop.turn(1, 0.5)
    assert not any(overrun for _, overrun in loop.turn(3, 0.0001))


@pytest.mark.parametrize("load", [0.2, 0.5, 0.7])
def test_what_came_during_a_hiccup_is_worked_off(load: float) -> None:
    loop = Loop()
    each_s = 0.0002
    loop.turn(1, each_s)
    loop.turn(1, each_s)
    loop.turn(1, 0.03)  # the machine stood still
    length_s = 0.03
    for _ in range(10):
        began_s = loop.now_s
        seen = loop.turn(max(1, round(load * length_s / each_s)), each_s)
        length_s = loop.now_s - began_s
        assert not any(overrun for _, overrun in seen)


def test_an_edge_that_cannot_keep_up_refuses_the_rest_and_stays_near_its_limit() -> None:
    loop = Loop()
    came = 200.0
    ages: list[float] = []
    refused = 0
    for turn in range(200):
        began_s = loop.now_s
        seen = loop.turn(round(came), 0.0003)
        came = 6000 * (loop.now_s - began_s)  # 1.8 times what it can work on
        if turn > 10:
            ages += [age_s for age_s, overrun in seen if not overrun]
            refused += sum(overrun for _, overrun in seen)
    # Of 6000 a second, 2667 served in 0.3 ms and the rest refused in 0.06 ms fill a second.
    assert len(ages) / (len(ages) + refused) == pytest.approx(2667 / 6000, abs=0.03)
    assert max(ages) <= 1.5 * MAX_SHARE_OF_SLO * SLO_S


def test_the_way_back_is_a_turn_and_a_half() -> None:
    loop = Loop()
    assert loop.turns.return_s == 0.0
    loop.turn(1, 0.002)
    loop.turn(1, 0.002)
    assert loop.turns.return_s == 0.0  # one turn tells nothing yet
    loop.turn(1, 0.002)
    assert loop.turns.return_s == pytest.approx(1.5 * 0.002)
    loop.turn(0, 0.0)
    loop.turn(0, 0.0)
    assert loop.turns.return_s == 0.0


def test_a_hiccup_makes_no_way_long() -> None:
    loop = Loop()
    for each_s in (0.001, 0.001, 0.5, 0.001):
        loop.turn(1, each_s)
    assert loop.turns.return_s == pytest.approx(1.5 * 0.001)


def test_without_an_slo_nothing_is_overrun() -> None:
    loop = Loop()
    loop.turn(1, 5.0)
    loop.turn(1, 5.0)
    loop.turn(1, 5.0)
    arrived_s = loop.turns.arrival(loop.now_s)
    assert not loop.turns.overrun(arrived_s, loop.now_s + 60.0, math.inf)


async def test_an_overrun_edge_answers_429_and_tells_the_engine(
    app: EdgeApp, engine: FakeEngine
) -> None:
    engine.tightest_slo_s = 1e-9  # whatever the loop does is too slow for that
    asked = []
    for _ in range(6):
        asked.append(asyncio.create_task(infer(app, "sim", {"inputs": [ids_input(1)]})))
        await asyncio.sleep(0)  # one turn
    statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert statuses[0] == 200
    assert 429 in statuses
    assert EdgeRefused("sim", "http", Outcome.SHED) in engine.refusals
