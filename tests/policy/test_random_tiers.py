"""What holds for any tiers and any load, on one device with one or two models."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import DispatchReason, Outcome, Packing, Row
from predictor.policy.scheduler import Decision, Dispatch, Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Run, Simulator
from tests.policy.worlds import PACKINGS, truth

FIXED_S, TOKEN_S = 2e-3, 2e-5
MOST_TOKENS = 60
MAX_BATCH = 16
CAPACITY = MAX_BATCH / (FIXED_S + TOKEN_S * MAX_BATCH * MOST_TOKENS / 2)
MODELS = ("a", "b")


@dataclass(frozen=True)
class World:
    given: Parameters
    arrivals: Sequence[Arrival]
    packing: Packing


@st.composite
def worlds(draw: st.DrawFn) -> World:
    tiers: dict[str, dict[str, Any]] = {}
    for priority in range(1, draw(st.integers(2, 4)) + 1):
        slo_ms = draw(st.sampled_from([None, 15, 40, 200]))
        tiers[f"t{priority}"] = {
            "priority": priority,
            "slo_ms": slo_ms,
            "max_queue_size": draw(st.sampled_from([5, 100_000])),
            "weight": draw(st.sampled_from([1, 5])),
            "min_share": draw(st.sampled_from([0, 0.05, 0.2])),
            "max_age_s": draw(st.sampled_from([None, 0.05, 1.0])),
            "max_slice_ms": draw(st.sampled_from([None, 4.0])),
            "overload": draw(st.sampled_from(["shed", "relegate"])),
        }
    document = {
        "generation": 1,
        "models": {
            model: {"max_batch_size": MAX_BATCH, "max_batch_tokens": 600} for model in MODELS
        },
        "tiers": tiers,
    }
    rng = random.Random(draw(st.integers(0, 2**32)))
    arrivals = []
    for tier in tiers:
        rate = draw(st.sampled_from([0.1, 0.5, 1.5])) * CAPACITY
        time_s = 0.0
        while (time_s := time_s + rng.expovariate(rate)) < 0.4:
            own = time_s + rng.uniform(0.005, 0.3) if rng.random() < 0.1 else None
            tokens, model = rng.randint(1, MOST_TOKENS), rng.choice(MODELS)
            arrivals.append(Arrival(time_s, tokens, model, tier, own))
    arrivals.sort(key=lambda arrival: arrival.time_s)
    return World(parse_plain(document), arrivals, draw(st.sampled_from(PACKINGS)))


class Watched(Scheduler):
    """Looks at each decision when it is made."""

    def next_action(self, now_s: float) -> Decision:
        free = not self.in_flight
        decision = super().next_action(now_s)
        if isinstance(decision.action, Dispatch):
            self.check([row.tier for row in decision.action.batch.rows], decision)
        elif free:
            assert not self.waiting, "the device stands idle while a row waits"
        return decision

    def check(self, tiers: Sequence[str], decision: Decision) -> None:
        assert isinstance(decision.action, Dispatch)
        batch = decision.action.batch
        assert len(batch.rows) <= MAX_BATCH
        waiting = {(row.tier, row.relegated) for row in batch.rows}
        if len(waiting) > 1:
            assert batch.reason is DispatchReason.TOP_UP
            riders = [row for row in batch.rows if self.is_bulk(row)]
            assert list(batch.rows[-len(riders) :]) == riders, "riders come last"
        if all(map(self.is_bulk, batch.rows)) and batch.size > 1 and self.sliced(tiers[0]):
            assert batch.predicted_s <= 4e-3 + 1e-9, "a slice is longer than its tier allows"

    def is_bulk(self, row: Row) -> bool:
        tier = self.parameters.tiers[row.tier]
        return tier.slo_ms is None or row.relegated

    def sliced(self, name: str) -> bool:
        """Whether a more urgent tier with an SLO is in use, and this one limits its slices."""
        tiers: Mapping[str, Any] = self.parameters.tiers
        return tiers[name].max_slice_ms is not None and any(
            tier.slo_ms is not None
            and tier.priority < tiers[name].priority
            and any(model.by_tier[other].last_arrival_s > 0 for model in self._models.values())
            for other, tier in tiers.items()
        )


def run(world: World) -> Run:
    scheduler = Watched(world.given)
    packed = world.packing is Packing.PACKED
    weights = (FIXED_S, 0.0, TOKEN_S, 0.0) if packed else (FIXED_S, TOKEN_S, 0.0)
    for model in MODELS:
        scheduler.add_model(model, [ServiceTimeModel(world.packing, weights)])
    return Simulator(scheduler, truth(FIXED_S, TOKEN_S), learn=False).simulate(world.arrivals)


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_random_tiers_and_loads(world: World) -> None:
    ran = run(world)
    assert len(ran.settlements) == len(world.arrivals)
    assert len({id(each.row) for each in ran.settlements}) == len(world.arrivals)
    for each in ran.settlements:
        tier = world.given.tiers[each.row.tier]
        if each.outcome is Outcome.SHED:
            assert not tier.relegates
        if tier.slo_ms is None and each.row.deadline_s == float("inf"):
            assert each.outcome in (Outcome.OK, Outcome.QUEUE_FULL)
        assert each.outcome in (Outcome.OK, Outcome.QUEUE_FULL, Outcome.SHED, Outcome.EXPIRED)


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_tier_with_a_share_gets_it_while_its_rows_wait(world: World) -> None:
    ran = run(world)
    for name, tier in world.given.tiers.items():
        if tier.slo_ms is not None or not tier.min_share:
            continue
        mine = [each for each in ran.settlements if each.row.tier == name]
        begun_s = [each.row.arrival_s for each in mine if each.outcome is Outcome.OK]
        if not begun_s:
            continue
        first_s = min(begun_s)
        last_s = max(each.started_s for each in mine if each.outcome is Outcome.OK)
        used_s = sum(
            (each.finished_s - each.started_s)
            * sum(row.tokens for row in each.batch.rows if row.tier == name)
            / each.batch.tokens
            for each in ran.executions
            if each.started_s <= last_s
        )
        longest_s = max(each.finished_s - each.started_s for each in ran.executions)
        idle_s, times = emptied(mine, first_s, last_s)
        asked_s = sum(each.row.tokens * TOKEN_S + FIXED_S / MAX_BATCH for each in mine)
        if asked_s < 2 * tier.min_share * (last_s - first_s):
            continue  # it has less to do than its share
        # An empty queue is owed nothing: each time, less than a slice is forgotten.
        forgotten_s = (3 + times) * longest_s
        assert used_s >= tier.min_share * (last_s - first_s - idle_s) - forgotten_s


def emptied(mine: Sequence[Any], first_s: float, last_s: float) -> tuple[float, int]:
    """How long no row of the tier waited, and how often that came to be."""
    events = []
    for each in mine:
        if each.outcome is Outcome.QUEUE_FULL:
            continue
        leaves_s = each.started_s if each.outcome is Outcome.OK else each.settled_s
        events += [(each.row.arrival_s, 1), (leaves_s, -1)]
    waiting, since_s, total_s, times = 0, first_s, 0.0, 0
    for time_s, change in sorted(events):
        if not waiting:
            total_s += max(min(time_s, last_s) - since_s, 0.0)
            times += 1
        waiting += change
        since_s = time_s
    return total_s, times
