"""What holds whatever the traffic, the parameters and the device do."""

import math
import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.parameters import Order, Parameters, parse_plain
from predictor.core.rows import Batch, DispatchReason, Outcome, Packing, Row
from predictor.policy.scheduler import Decision, Dispatch, Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.simulation.simulator import Arrival, Run, Simulator
from tests.policy.worlds import MODEL, PACKINGS

EXACT = 1e-9


@dataclass(frozen=True)
class World:
    parameters: Parameters
    packing: Packing
    arrivals: tuple[Arrival, ...]
    noise: float
    seed: int


@st.composite
def worlds(draw: st.DrawFn) -> World:
    constant = draw(st.booleans())
    document = {
        "generation": 1,
        "models": {
            MODEL: {
                "policy": "constant" if constant else "adaptive",
                "max_batch_size": draw(st.integers(1, 16)),
                "max_batch_tokens": draw(st.integers(64, 2000)),
                "max_wait_ms": draw(st.sampled_from([0, 3, 20])),
                "order": draw(st.sampled_from(list(Order))).value,
            }
        },
        "tiers": {
            "interactive": {
                "priority": 1,
                "slo_ms": draw(st.sampled_from([None, 12, 30, 100])),
                "max_queue_size": draw(st.sampled_from([3, 1000])),
            },
            "bulk": {"priority": 2, "slo_ms": None, "max_queue_size": 1000},
        },
    }
    rng = random.Random(draw(st.integers(0, 2**32)))
    rate = draw(st.sampled_from([50, 300, 2000]))
    time_s = 0.0
    arrivals = []
    for _ in range(draw(st.integers(1, 120))):
        time_s += rng.expovariate(rate)
        deadline_s = time_s + rng.uniform(0.001, 0.1) if rng.random() < 0.2 else None
        tier = "bulk" if rng.random() < 0.3 else "interactive"
        if tier == "bulk":
            deadline_s = None
        arrivals.append(Arrival(time_s, rng.randint(1, 80), MODEL, tier, deadline_s))
    return World(
        parse_plain(document),
        draw(st.sampled_from(PACKINGS)),
        tuple(arrivals),
        draw(st.sampled_from([0.0, 0.3])),
        draw(st.integers(0, 2**32)),
    )


class Watched(Scheduler):
    """Checks each decision at the moment it is made."""

    now_s = 0.0

    def next_action(self, now_s: float) -> Decision:
        most_urgent = min(
            (1 if row.tier == "interactive" else 2 for row in self.rows()), default=None
        )
        free = not self.in_flight
        decision = super().next_action(now_s)
        if isinstance(decision.action, Dispatch):
            batch = decision.action.batch
            shed = {id(row) for row, _ in decision.given_up}
            assert not shed.intersection(id(row) for row in batch.rows)
            if not decision.given_up and not self.constant:
                tier = batch.rows[0].tier
                assert most_urgent == (1 if tier == "interactive" else 2)
        elif free and not self.constant:
            assert not self.waiting, "the device stands idle while a row waits"
        return decision

    @property
    def constant(self) -> bool:
        return self.parameters.for_model(MODEL).policy == "constant"

    def rows(self) -> list[Row]:
        return [row for queue in self._models[MODEL].queues for row in queue.rows]


def run(world: World) -> Run:
    scheduler = Watched(world.parameters)
    weights = (4e-3, 0.0, 2e-5, 0.0) if world.packing is Packing.PACKED else (4e-3, 2e-5, 0.0)
    scheduler.add_model(MODEL, [ServiceTimeModel(world.packing, weights)])
    rng = random.Random(world.seed)

    def truth(batch: Batch) -> float:
        exact_s = 4e-3 + 2e-5 * Work.of(batch.rows).computed(batch.packing)
        return exact_s * rng.uniform(1 - world.noise, 1 + world.noise)

    return Simulator(scheduler, truth).simulate(world.arrivals)


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_invariants(world: World) -> None:
    ran = run(world)
    knobs = world.parameters.for_model(MODEL)

    # Every row settles exactly once.
    assert len(ran.settlements) == len(world.arrivals)
    assert len({id(each.row) for each in ran.settlements}) == len(world.arrivals)

    for execution in ran.executions:
        batch = execution.batch
        work = Work.of(batch.rows)
        assert work.rows <= knobs.max_batch_size
        assert work.rows == 1 or work.computed(batch.packing) <= knobs.max_batch_tokens
        if len({row.tier for row in batch.rows}) > 1:
            assert batch.reason is DispatchReason.TOP_UP
            tiers = [row.tier for row in batch.rows]
            assert tiers == sorted(tiers, reverse=True), "bulk rows come behind urgent ones"

    # The device runs one batch at a time, and none that is late from the start.
    ends_s = -math.inf
    for execution in ran.executions:
        assert execution.started_s >= ends_s - EXACT
        ends_s = execution.finished_s
        if world.noise == 0.0:
            assert all(row.deadline_s >= execution.started_s for row in execution.batch.rows)

    # Time does not run backwards for anybody.
    for each in ran.settlements:
        assert each.latency_s >= -EXACT
        if each.outcome is Outcome.EXPIRED:
            assert each.settled_s > each.row.deadline_s
        if each.row.deadline_s == math.inf:
            assert each.outcome in (Outcome.OK, Outcome.INVALID, Outcome.QUEUE_FULL)

    # The same world, again: the same run.
    again = run(world)
    told = [(each.outcome, each.settled_s, each.row.arrival_s) for each in ran.settlements]
    assert told == [
        (each.outcome, each.settled_s, each.row.arrival_s) for each in again.settlements
    ]


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_rows_without_deadlines_run_in_order(world: World) -> None:
    if world.packing is Packing.PADDED:
        return  # rows of one length go together, whatever their order
    ran = run(world)
    knobs = world.parameters.for_model(MODEL)
    if knobs.order is not Order.ARRIVAL:
        return  # without deadlines, short rows go first
    bulk = [row for each in ran.executions for row in each.batch.rows if row.tier == "bulk"]
    assert bulk == sorted(bulk, key=lambda row: row.arrival_s)
