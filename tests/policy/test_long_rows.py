"""Bulk rows that alone take longer than urgent ones can wait, which no slice can hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.errors import Shed
from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import NO_DEADLINE, Outcome, Packing, Row
from predictor.policy.arbiter import IN_USE_S, LATE_FOR_LONG_ROWS
from predictor.policy.scheduler import Dispatch, Scheduler, WaitUntil
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Execution, Run, Simulator, merged
from predictor.simulation.traffic import poisson_traffic
from tests.policy.worlds import MODEL, PACKINGS, truth

FIXED_S, TOKEN_S = 2e-3, 2e-5
SLO_S = 0.2
LONG = 16_384  # tokens: 330 ms
SECONDS = 100.0
PAUSE_S = 20.0  # without urgent requests, after that


def document(relegate: bool = False, **bulk: Any) -> Parameters:
    overload = "relegate" if relegate else "shed"
    urgent = {"priority": 1, "slo_ms": 1e3 * SLO_S, "overload": overload}
    patient = {"priority": 2, "slo_ms": None, "max_queue_size": 100_000}
    return parse_plain({"generation": 1, "tiers": {"interactive": urgent, "bulk": patient | bulk}})


def scheduler(given: Parameters, packing: Packing = Packing.PACKED) -> Scheduler:
    made = Scheduler(given)
    packed = packing is Packing.PACKED
    weights = (FIXED_S, 0.0, TOKEN_S, 0.0) if packed else (FIXED_S, TOKEN_S, 0.0)
    made.add_model(MODEL, [ServiceTimeModel(packing, weights)])
    return made


@dataclass(frozen=True)
class Shared:
    run: Run

    def in_time(self) -> float:
        ended = [each for each in self.run.settlements if each.row.tier == "interactive"]
        return sum(each.in_time for each in ended) / len(ended)

    def long(self, from_s: float, until_s: float) -> list[Execution]:
        return [
            each
            for each in self.run.executions
            if from_s <= each.started_s < until_s and each.batch.rows[0].tokens == LONG
        ]


def shared(
    rate: float,
    bulk: Sequence[int] = (LONG,) * 400,
    packing: Packing = Packing.PACKED,
    **tier: Any,
) -> Shared:
    """Urgent traffic for a while, then none; bulk comes when it is under way."""
    rows = [Arrival(1.0, tokens, MODEL, "bulk") for tokens in bulk]
    device = Simulator(scheduler(document(**tier), packing), truth(FIXED_S, TOKEN_S))
    arrivals = merged(poisson_traffic(rate, SECONDS, 1), rows)
    return Shared(device.simulate(arrivals, until_s=SECONDS + PAUSE_S))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("rate", [3.0, 7.0, 60.0])
def test_urgent_rows_stay_in_time_and_a_pause_is_used(rate: float, packing: Packing) -> None:
    both = shared(rate, packing=packing)
    assert both.in_time() >= 0.99
    assert len(both.long(1.0 + IN_USE_S, SECONDS)) <= 1  # a long gap may look like a pause
    pause_s = PAUSE_S - IN_USE_S - 1.0
    assert len(both.long(SECONDS, SECONDS + PAUSE_S)) >= 0.95 * pause_s / 0.33


@pytest.mark.parametrize("rate", [7.0, 60.0])
@pytest.mark.parametrize("tier", [{"min_share": 0.05}, {"min_share": 0.3}, {"max_age_s": 5}])
def test_a_share_moves_them_at_a_bounded_price(rate: float, tier: dict[str, Any]) -> None:
    both = shared(rate, **tier)
    assert both.in_time() >= 0.99
    ran = both.long(1.0, SECONDS)
    late_s = FIXED_S + TOKEN_S * LONG - 0.75 * SLO_S
    assert len(ran) >= math.floor((SECONDS - 6.0) / (late_s / LATE_FOR_LONG_ROWS))


@pytest.mark.parametrize("packing", PACKINGS)
def test_shorter_rows_go_on_behind_them(packing: Packing) -> None:
    bulk = [LONG] * 600 + [1000] * 2000
    both = shared(7.0, bulk, packing)
    short = [each for each in both.run.answered if each.row.tokens == 1000]
    assert len(short) == 2000
    assert max(each.started_s for each in short) < 60
    assert both.in_time() >= 0.99


def test_alone_they_run_at_once_and_in_order() -> None:
    rows = [Arrival(0.0, tokens, MODEL, "bulk") for tokens in (LONG, 10, LONG, 20)]
    device = Simulator(scheduler(document()), truth(FIXED_S, TOKEN_S))
    assert len(device.simulate(rows).answered) == 4
    assert device.run.ended_s == pytest.approx(2 * 0.33, rel=0.02)


def beside_urgent(*bulk: Row) -> Scheduler:
    """These rows wait, 10 ms after an urgent one came, which has been answered."""
    made = scheduler(document())
    made.submit([Row(MODEL, "interactive", 10, 0.0, SLO_S)], 0.0)
    urgent = made.next_action(0.0).action
    assert isinstance(urgent, Dispatch)
    made.submit(bulk, 0.0)
    made.completed(urgent.batch, 0.01)
    return made


def test_without_a_pause_they_wait_until_the_driver_is_told_to_ask_again() -> None:
    made = beside_urgent(Row(MODEL, "bulk", LONG, 0.0))
    waits = made.next_action(0.01).action
    assert isinstance(waits, WaitUntil)
    assert waits.time_s == pytest.approx(IN_USE_S)
    assert isinstance(made.next_action(waits.time_s).action, Dispatch)


def test_a_row_held_back_can_be_cancelled_and_is_counted() -> None:
    rows = [Row(MODEL, "bulk", LONG, 0.0) for _ in range(3)]
    made = beside_urgent(*rows)
    made.next_action(0.01)
    assert [row.held_back for row in rows] == [True] * 3
    (bulk,) = [each for each in made.snapshot(0.01).queues if each.tier == "bulk"]
    assert (bulk.depth, bulk.tokens) == (3, 3 * LONG)
    assert bulk.backlog_s == pytest.approx(0.33 * 3, rel=0.02)
    assert made.cancel(rows[1])
    assert not made.cancel(rows[1])
    assert made.waiting == 2


def test_an_edit_that_takes_the_slo_away_lets_them_run() -> None:
    made = beside_urgent(Row(MODEL, "bulk", LONG, 0.0))
    assert isinstance(made.next_action(0.01).action, WaitUntil)
    plain = {"interactive": {"priority": 1, "slo_ms": None}, "bulk": {"priority": 2}}
    made.apply(parse_plain({"generation": 2, "tiers": plain}))
    assert isinstance(made.next_action(0.02).action, Dispatch)


def test_an_urgent_row_that_can_never_be_in_time_is_told_why() -> None:
    refusal = scheduler(document()).submit([Row(MODEL, "interactive", LONG, 0.0, SLO_S)], 0.0)
    assert isinstance(refusal.refusal, Shed)
    assert "16384 tokens takes about 330 ms" in refusal.refusal.message
    assert "200 ms" in refusal.refusal.message


def test_a_relegated_row_is_held_back_as_well() -> None:
    long = [
        replace(each, tokens=LONG) if index % 10 == 5 else each
        for index, each in enumerate(poisson_traffic(7.0, SECONDS, 1))
    ]
    device = Simulator(scheduler(document(relegate=True)), truth(FIXED_S, TOKEN_S))
    ran = device.simulate(long)
    assert {each.outcome for each in ran.settlements} == {Outcome.OK}
    usual = [each for each in ran.settlements if each.row.tokens != LONG]
    assert sum(each.in_time for each in usual) >= 0.99 * len(usual)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1.0, 7.0, 60.0]),
    st.lists(st.sampled_from([8, 500, 6000, 9000, 12_000, LONG]), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([None, 0.5, 5.0]),
    st.sampled_from(PACKINGS),
    st.booleans(),
)
def test_every_row_settles_once(
    seed: int,
    rate: float,
    bulk: list[int],
    share: float,
    age_s: float | None,
    packing: Packing,
    relegate: bool,
) -> None:
    made = scheduler(document(relegate, min_share=share, max_age_s=age_s), packing)
    device = Simulator(made, truth(FIXED_S, TOKEN_S))
    rows = [Arrival(0.1 * index, each, MODEL, "bulk") for index, each in enumerate(bulk)]
    arrivals = merged(poisson_traffic(rate, 15.0, seed), rows)
    ran = device.simulate(arrivals)
    assert len({id(each.row) for each in ran.settlements}) == len(arrivals)
    assert len(ran.settlements) == len(arrivals)
    assert all(
        each.row.deadline_s < NO_DEADLINE or each.outcome is Outcome.OK for each in ran.settlements
    )
    for each in ran.executions:
        batch = each.batch
        assert batch.size == 1 or batch.computed_tokens <= 16_384
