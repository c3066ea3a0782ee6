"""Urgent and bulk work on one device, in virtual time: what each is promised, and what it costs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Outcome, Packing, Row
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.simulation.simulator import Arrival, Execution, Run, Simulator, merged
from predictor.simulation.traffic import lognormal_lengths, poisson_traffic
from tests.policy.worlds import MODEL, truth

FIXED_S, TOKEN_S = 2e-3, 1e-5
MAX_TOKENS = 4096
BEST_TOKENS_PER_S = MAX_TOKENS / (FIXED_S + TOKEN_S * MAX_TOKENS)
MEAN_TOKENS = 87.4
CAPACITY = BEST_TOKENS_PER_S / MEAN_TOKENS
SLO_S = 0.1
SECONDS = 8.0
WARM_S = 1.0


def document(bulk: dict[str, Any] | None = None, **interactive: Any) -> Parameters:
    urgent = {"priority": 1, "slo_ms": SLO_S * 1e3, "max_queue_size": 100_000}
    patient = {"priority": 2, "slo_ms": None, "max_queue_size": 1_000_000}
    return parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 512, "max_batch_tokens": MAX_TOKENS}},
            "tiers": {"interactive": urgent | interactive, "bulk": patient | (bulk or {})},
        }
    )


def device(given: Parameters, models: Sequence[str] = (MODEL,)) -> Simulator:
    made = Scheduler(given)
    for model in models:
        made.add_model(model, [ServiceTimeModel(Packing.PACKED, (FIXED_S, 0.0, TOKEN_S, 0.0))])
    return Simulator(made, truth(FIXED_S, TOKEN_S))


def interactive(load: float, seed: int = 1, model: str = MODEL) -> list[Arrival]:
    return poisson_traffic(load * CAPACITY, SECONDS, seed, model=model)


def backlog(rows: int) -> list[Arrival]:
    """More than can be done, all there from the start."""
    lengths = lognormal_lengths(random.Random(9))
    return [Arrival(0.0, next(lengths), MODEL, "bulk") for _ in range(rows)]


@dataclass(frozen=True)
class Shared:
    """What the two tiers got of the device while both were there."""

    run: Run

    def p99_s(self) -> float:
        latencies = sorted(
            each.latency_s
            for each in self.run.answered
            if each.row.tier == "interactive" and each.row.arrival_s > WARM_S
        )
        return latencies[int(0.99 * len(latencies))]

    def in_time(self) -> float:
        ended = [each for each in self.run.settlements if each.row.tier == "interactive"]
        return sum(each.in_time for each in ended) / len(ended)

    def bulk_tokens_per_s(self) -> float:
        return sum(row.tokens for run in self.batches() for row in bulk_of(run)) / (
            SECONDS - WARM_S
        )

    def batches(self) -> list[Execution]:
        return [each for each in self.run.executions if WARM_S <= each.started_s < SECONDS]

    def longest_slice_s(self) -> float:
        """The longest that bulk rows had the device, alone or in the room of an urgent batch."""
        return max(
            (each.finished_s - each.started_s for each in self.batches() if bulk_of(each)),
            default=0.0,
        )

    def top_up_s(self) -> float:
        """The most that bulk rows added to an urgent batch."""
        return max(
            (
                each.finished_s - each.started_s - taken_s(urgent)
                for each in self.batches()
                if (urgent := [row for row in each.batch.rows if row.tier == "interactive"])
            ),
            default=0.0,
        )

    def bulk_share(self) -> float:
        """Of device time, by tokens."""
        used_s = sum(
            (each.finished_s - each.started_s)
            * sum(row.tokens for row in bulk_of(each))
            / each.batch.tokens
            for each in self.batches()
        )
        return used_s / (SECONDS - WARM_S)


def bulk_of(execution: Execution) -> list[Row]:
    return [row for row in execution.batch.rows if row.tier == "bulk"]


def taken_s(rows: Sequence[Row]) -> float:
    return FIXED_S + TOKEN_S * Work.of(rows).tokens


@cache
def alone(load: float) -> Shared:
    return Shared(device(document()).simulate(interactive(load)))


@cache
def shared(load: float, max_slice_ms: float | None = None, min_share: float = 0.0) -> Shared:
    given = document({"max_slice_ms": max_slice_ms, "min_share": min_share})
    rows = round(1.2 * CAPACITY * SECONDS)
    return Shared(device(given).simulate(merged(backlog(rows), interactive(load))))


@pytest.mark.parametrize("load", [0.1, 0.3, 0.5, 0.7])
def test_bulk_saturates_and_urgent_rows_stay_in_time(load: float) -> None:
    """A row waits for at most one batch with bulk rows in it, then rides in one that they fill."""
    both = shared(load)
    allowed_s = alone(load).p99_s() + both.longest_slice_s() + both.top_up_s()
    assert both.p99_s() <= min(SLO_S, allowed_s)
    assert both.in_time() >= 0.99
    assert both.bulk_tokens_per_s() >= 0.85 * (1.0 - load) * BEST_TOKENS_PER_S


@pytest.mark.parametrize("load", [0.1, 0.5])
def test_shorter_slices_buy_latency_with_throughput(load: float) -> None:
    curve = [shared(load, slice_ms) for slice_ms in (5.0, 10.0, 20.0, None)]
    for shorter, longer in pairwise(curve):
        assert shorter.p99_s() < 1.02 * longer.p99_s()
        assert shorter.bulk_tokens_per_s() < 1.02 * longer.bulk_tokens_per_s()
    assert curve[0].p99_s() < 0.5 * curve[-1].p99_s()
    assert curve[0].p99_s() <= 2 * alone(load).p99_s()


@pytest.mark.parametrize("max_slice_ms", [5.0, 12.0])
def test_no_slice_is_longer_than_its_tier_allows(max_slice_ms: float) -> None:
    both = shared(0.3, max_slice_ms)
    assert both.longest_slice_s() <= max_slice_ms / 1e3 + 1e-9


@pytest.mark.parametrize("min_share", [0.05, 0.2])
def test_under_overload_bulk_has_its_share(min_share: float) -> None:
    both = shared(1.5, min_share=min_share)
    assert both.bulk_share() >= 0.95 * min_share
    assert both.bulk_share() <= 1.3 * min_share
    goodput = both.in_time() / alone(1.5).in_time()
    assert goodput >= 0.95 * (1.0 - min_share)


def test_under_overload_no_bulk_row_is_older_than_its_share_allows() -> None:
    """Rows come faster than the share serves them: each waits for those ahead, at that share."""
    min_share = 0.1
    bulk = poisson_traffic(0.15 * CAPACITY, SECONDS, 3, tier="bulk")
    given = document({"min_share": min_share})
    ran = device(given).simulate(merged(interactive(1.5), bulk))
    both = Shared(ran)
    slice_s = both.longest_slice_s()
    capacity = (slice_s - FIXED_S) / TOKEN_S / slice_s  # tokens a second, in such slices
    ahead = {id(arrival): 0.0 for arrival in bulk}
    waiting: list[Row] = []
    rows = sorted((each.row for each in ran.settlements), key=lambda row: row.arrival_s)
    bulk_rows = [row for row in rows if row.tier == "bulk"]
    assert len(bulk_rows) == len(ahead)
    started_s = {id(each.row): each.started_s for each in ran.settlements}
    for row in bulk_rows:
        waiting = [other for other in waiting if started_s[id(other)] > row.arrival_s]
        ahead_tokens = sum(other.tokens for other in waiting)
        waiting.append(row)
        # Short rows may overtake, each by at most the time that its length is worth.
        overtaking_s = 2 * 512e-3
        bound_s = ahead_tokens / (min_share * capacity) + slice_s / min_share + overtaking_s
        assert started_s[id(row)] - row.arrival_s <= bound_s


def test_an_old_row_moves_even_without_a_share() -> None:
    old = document({"max_age_s": 2.0})
    rows = backlog(round(0.2 * CAPACITY))
    ran = device(old).simulate(merged(rows, interactive(1.5)))
    aged = [each for each in ran.executions if bulk_of(each) and each.started_s < SECONDS]
    assert aged
    slices = [each for each in aged if len(bulk_of(each)) == each.batch.size]
    assert min(each.started_s for each in slices if each.started_s > WARM_S) >= 2.0


def test_a_flood_of_one_model_leaves_the_others_slo_alone() -> None:
    given = document()
    quiet = interactive(0.2, 5, "quiet")
    ran = device(given, ("flooded", "quiet")).simulate(
        merged(interactive(2.0, 6, "flooded"), quiet)
    )
    ended = [each for each in ran.settlements if each.row.model == "quiet"]
    assert sum(each.in_time for each in ended) >= 0.98 * len(ended)
    flooded = [each for each in ran.settlements if each.row.model == "flooded"]
    assert sum(each.in_time for each in flooded) >= 0.9 * 0.8 * CAPACITY * SECONDS


def test_two_floods_part_the_device_by_weight() -> None:
    given = parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 512, "max_batch_tokens": MAX_TOKENS}},
            "tiers": {
                "gold": {"priority": 1, "slo_ms": 100, "max_queue_size": 100_000, "weight": 3},
                "silver": {"priority": 2, "slo_ms": 100, "max_queue_size": 100_000},
            },
        }
    )
    floods = [
        poisson_traffic(1.5 * CAPACITY, SECONDS, seed, tier=tier)
        for seed, tier in enumerate(("gold", "silver"))
    ]
    ran = device(given).simulate(merged(*floods))
    served = {
        tier: sum(each.in_time for each in ran.settlements if each.row.tier == tier)
        for tier in ("gold", "silver")
    }
    assert served["gold"] / served["silver"] == pytest.approx(3.0, rel=0.25)
    assert sum(served.values()) >= 0.85 * CAPACITY * SECONDS


def test_a_tier_that_relegates_answers_late_and_sheds_nobody() -> None:
    ran = device(document(overload="relegate")).simulate(interactive(1.5))
    assert {each.outcome for each in ran.settlements} == {Outcome.OK}
    sheds = alone(1.5).run
    in_time = sum(each.in_time for each in ran.settlements)
    assert in_time >= 0.9 * sum(each.in_time for each in sheds.settlements)
    assert any(each.row.relegated for each in ran.settlements)


def test_a_relegated_row_still_ends_at_the_clients_own_deadline() -> None:
    given = document(overload="relegate")
    made = Scheduler(given)
    made.add_model(MODEL, [ServiceTimeModel(Packing.PACKED, (10.0, 0.0, TOKEN_S, 0.0))])
    row = Row(MODEL, "interactive", 8, 0.0, SLO_S, expires_s=5.0)
    assert made.submit([Row(MODEL, "bulk", 8, 0.0)], 0.0).refusal is None
    made.next_action(0.0)
    assert made.submit([row], 0.0).refusal is None
    assert row.relegated
    decision = made.next_action(5.1)
    assert list(decision.given_up) == [(row, Outcome.EXPIRED)]


def test_bulk_alone_runs_in_full_batches() -> None:
    rows = round(CAPACITY)
    ran = device(document({"max_slice_ms": 5.0})).simulate(backlog(rows))
    assert max(each.batch.tokens for each in ran.executions) > 0.95 * MAX_TOKENS


@pytest.mark.parametrize(
    ("first_ms", "second_ms", "holds_back"), [(None, 5.0, True), (5.0, None, False)]
)
def test_each_rider_keeps_to_its_own_tiers_slice(
    first_ms: float | None, second_ms: float | None, holds_back: bool
) -> None:
    """One row of the first bulk tier and many of the second fill the room behind an urgent row."""
    second = {"priority": 3, "slo_ms": None, "max_slice_ms": second_ms}
    both = {"priority": 2, "slo_ms": None, "max_slice_ms": first_ms}
    urgent = {"priority": 1, "slo_ms": SLO_S * 1e3}
    given = parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 512, "max_batch_tokens": MAX_TOKENS}},
            "tiers": {"interactive": urgent, "bulk": both, "archive": second},
        }
    )
    waiting = [Arrival(0.0, 64, tier="bulk")]
    waiting += [Arrival(0.0, 64, tier="archive", alongside=True) for _ in range(200)]
    ran = device(given).simulate(
        [Arrival(0.0, 8), *(replace(each, alongside=True) for each in waiting)]
    )
    (batch,) = [each for each in ran.executions if each.batch.rows[0].tier == "interactive"]
    taken = [row.tier for row in batch.batch.rows]
    assert taken[:2] == ["interactive", "bulk"]
    assert "archive" in taken
    assert (batch.finished_s - batch.started_s <= 5e-3 + 1e-9) is holds_back
