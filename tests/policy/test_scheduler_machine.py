"""Whatever is done to the scheduler, in whatever order, its promises hold at every step.

A state machine that Hypothesis drives: requests of several rows, cancels, edits of the
parameters, batches that take longer or shorter than predicted, memory that runs out. The
machine keeps its own books of what waits and what runs, and compares.
"""

import math
from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from predictor.core.errors import InvalidRequest, QueueFull, Shed
from predictor.core.parameters import Order, PackingChoice, Policy, parse_plain
from predictor.core.rows import NO_DEADLINE, Batch, DispatchReason, Outcome, Packing, Row
from predictor.policy.arbiter import LONGEST_ROW_OF_SLO
from predictor.policy.scheduler import SLOTS, Dispatch, Idle, Scheduler, WaitUntil
from predictor.policy.service_time import ServiceTimeModel, Work
from tests.policy.worlds import PACKINGS

MODELS = ("padded-only", "both")
PREDICTED = {Packing.PADDED: (4e-3, 2e-5, 0.0), Packing.PACKED: (4e-3, 0.0, 2e-5, 0.0)}
LEAD_S = 1e-3
MOST_STEPS = 10_000  # far more than any run needs: a scheduler that stalls is found


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    models = {
        name: {
            "policy": draw(st.sampled_from(Policy)).value,
            "max_batch_size": draw(st.integers(1, 8)),
            "max_batch_tokens": draw(st.integers(60, 600)),
            "max_wait_ms": draw(st.sampled_from([0, 5, 40])),
            "order": draw(st.sampled_from(Order)).value,
            "packing": draw(st.sampled_from(PackingChoice)).value,
        }
        for name in MODELS
    }
    urgent, bulk = draw(st.permutations([1, 2]))
    tiers: dict[str, Any] = {
        "interactive": {
            "priority": urgent,
            "slo_ms": draw(st.sampled_from([None, 10, 40, 200])),
            "max_queue_size": draw(st.sampled_from([4, 50])),
        }
    }
    if draw(st.booleans()):
        tiers["bulk"] = {"priority": bulk, "slo_ms": None, "max_queue_size": 20}
    return {"generation": 1, "models": models, "tiers": tiers}


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(document=documents())
    def start(self, document: dict[str, Any]) -> None:
        self.now_s = 0.0
        self.waiting: list[Row] = []
        self.ended: list[Row] = []
        self.device: deque[Batch] = deque()
        self.started_s = 0.0
        self.wake_s = math.inf
        self.scheduler = Scheduler(parse_plain(document), LEAD_S)
        for model, packings in zip(MODELS, ([Packing.PADDED], list(PACKINGS)), strict=True):
            services = [ServiceTimeModel(packing, PREDICTED[packing]) for packing in packings]
            self.scheduler.add_model(model, services)

    @rule(
        model=st.sampled_from(MODELS),
        tier=st.sampled_from(["interactive", "bulk"]),
        lengths=st.lists(st.integers(1, 100), min_size=1, max_size=6),
        timeout_s=st.sampled_from([None, 1e-4, 0.02, 0.1]),
    )
    def submit(self, model: str, tier: str, lengths: list[int], timeout_s: float | None) -> None:
        in_force = self.scheduler.parameters
        if tier not in in_force.tiers:
            return  # the engine refuses it before the scheduler hears of it
        slo_s = in_force.tiers[tier].slo_s
        deadline_s = self.now_s + min(slo_s, NO_DEADLINE if timeout_s is None else timeout_s)
        rows = [Row(model, tier, tokens, self.now_s, deadline_s) for tokens in lengths]
        here = [row for row in self.waiting if (row.model, row.tier) == (model, tier)]
        room = in_force.tiers[tier].max_queue_size - len(here)
        admission = self.scheduler.submit(rows, self.now_s)
        too_long = max(lengths) > in_force.for_model(model).max_batch_tokens
        assert isinstance(admission.refusal, InvalidRequest) == too_long
        if not too_long:
            assert isinstance(admission.refusal, QueueFull) == (len(rows) > room)
            assert admission.work_s > 0
        if isinstance(admission.refusal, Shed):
            assert deadline_s < NO_DEADLINE
            assert in_force.for_model(model).policy is Policy.ADAPTIVE
        if isinstance(admission.refusal, QueueFull | Shed):
            assert admission.refusal.retry_after_s >= 0
        if admission.refusal is None:
            self.waiting += rows
            self.step()

    @rule(wait_s=st.floats(1e-5, 0.05))
    def time_passes(self, wait_s: float) -> None:
        """Up to the moment that the scheduler asked for: the driver would ask again then."""
        self.now_s = min(self.now_s + wait_s, max(self.wake_s, self.now_s + 1e-9))
        self.step()

    @precondition(lambda self: self.device)
    @rule(factor=st.sampled_from([0.3, 0.7, 1.0, 1.3, 5.0]), learn=st.booleans())
    def batch_ends(self, factor: float, learn: bool) -> None:
        batch = self.device.popleft()
        ends_s = max(self.now_s, self.started_s + factor * batch.predicted_s)
        self.scheduler.completed(batch, ends_s)
        if learn:
            self.scheduler.learned(batch, self.started_s, ends_s)
        self.now_s = self.started_s = ends_s
        self.ended += batch.rows
        self.step()

    @precondition(lambda self: self.waiting or self.ended)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from([*self.waiting, *self.ended[-3:]]))
        waits = row in self.waiting
        assert self.scheduler.cancel(row) == waits
        assert not self.scheduler.cancel(row)
        if waits:
            self.settle(row)

    @rule(document=documents())
    def edit(self, document: dict[str, Any]) -> None:
        self.scheduler.apply(parse_plain(document))
        self.step()

    @precondition(lambda self: self.device)
    @rule()
    def memory_runs_out(self) -> None:
        """For the running batch, which is halved: each half fails, too, down to single rows."""
        batch, now_s = self.device[0], self.now_s
        rows = list(batch.rows)
        while True:
            work = Work.of(rows)
            self.scheduler.out_of_memory(batch, work, now_s)
            if len(rows) == 1:
                return
            max_tokens = self.scheduler._models[batch.model].batching.max_tokens
            assert max_tokens < work.computed(batch.packing)
            rows = rows[: len(rows) // 2]

    def step(self) -> None:
        """As a driver does: until there is no more to start."""
        for _ in range(SLOTS + 1):
            decision = self.scheduler.next_action(self.now_s)
            for row, outcome in decision.given_up:
                self.settle(row)
                assert row.deadline_s < NO_DEADLINE
                if outcome is Outcome.EXPIRED:
                    assert row.deadline_s < self.now_s
                else:
                    assert outcome is Outcome.SHED
            match decision.action:
                case Dispatch(batch):
                    self.dispatched(batch)
                case WaitUntil(time_s):
                    self.wake_s = time_s
                    self.may_wait()
                    return
                case Idle():
                    self.wake_s = math.inf
                    assert not self.waiting
                    return
        raise AssertionError("the scheduler starts more than the device can hold")

    def dispatched(self, batch: Batch) -> None:
        knobs = self.scheduler.parameters.for_model(batch.model)
        work = Work.of(batch.rows)
        assert 1 <= work.rows <= knobs.max_batch_size
        assert work.rows == 1 or work.computed(batch.packing) <= knobs.max_batch_tokens
        assert {row.model for row in batch.rows} == {batch.model}
        if len({row.tier for row in batch.rows}) > 1:
            assert batch.reason is DispatchReason.TOP_UP
        starts_s = self.now_s
        if self.device:
            starts_s = max(starts_s, self.started_s + self.device[0].predicted_s)
        assert all(row.deadline_s >= starts_s for row in batch.rows)
        for row in batch.rows:
            self.waiting.remove(row)  # raises if it does not wait
        mine = self.rank(batch.rows[0].tier)
        assert not [
            row
            for row in self.waiting
            if self.rank(row.tier) < mine
            and self.scheduler.parameters.for_model(row.model).policy is Policy.ADAPTIVE
        ], "a row of a more urgent tier was passed over"
        if not self.device:
            self.started_s = self.now_s
        self.device.append(batch)
        assert len(self.device) <= SLOTS

    def may_wait(self) -> None:
        """Rows wait and nothing was started: only the constant policy may leave it so."""
        running_ends_s = self.started_s + (self.device[0].predicted_s if self.device else 0.0)
        has_room = not self.device or (
            len(self.device) < SLOTS and self.now_s >= running_ends_s - LEAD_S
        )
        assert not has_room or all(
            self.scheduler.parameters.for_model(row.model).policy is Policy.CONSTANT
            or self.is_too_long_for_others(row)
            for row in self.waiting
        )

    def is_too_long_for_others(self, row: Row) -> bool:
        """Whether a bulk row alone would take most of a more urgent tier's SLO: it may wait."""
        tiers = self.scheduler.parameters.tiers
        mine = tiers.get(row.tier)
        if mine is not None and mine.slo_ms is not None:
            return False
        shortest_s = min((tier.slo_s for tier in tiers.values()), default=NO_DEADLINE)
        return (
            self.scheduler._models[row.model].batching.alone_s(row.tokens)
            > LONGEST_ROW_OF_SLO * shortest_s
        )

    def rank(self, tier: str) -> float:
        """Tiers with an SLO go by slack, before all others."""
        known = self.scheduler.parameters.tiers.get(tier)
        if known is None:
            return math.inf
        return known.priority if known.slo_ms is None else 0

    def settle(self, row: Row) -> None:
        self.waiting.remove(row)  # raises if it does not wait: settled twice, or never queued
        self.ended.append(row)

    @invariant()
    def the_books_agree(self) -> None:
        assert self.scheduler.waiting == len(self.waiting)
        assert list(self.scheduler.in_flight) == list(self.device)
        snapshot = self.scheduler.snapshot(self.now_s)
        assert sum(queue.depth for queue in snapshot.queues) == len(self.waiting)
        assert sum(queue.tokens for queue in snapshot.queues) == sum(
            row.tokens for row in self.waiting
        )
        assert all(queue.backlog_s >= 0 for queue in snapshot.queues)
        assert all((queue.backlog_s > 0) == (queue.depth > 0) for queue in snapshot.queues)
        assert all(queue.offered_load >= 0 for queue in snapshot.queues)

    def teardown(self) -> None:
        """Nothing hangs: with no more arrivals, all rows settle, and each once."""
        if not hasattr(self, "scheduler"):
            return
        self.step()
        for _ in range(MOST_STEPS):
            if not self.waiting and not self.device:
                break
            if self.device:
                self.batch_ends(factor=1.0, learn=True)
            else:
                assert self.wake_s < math.inf, "rows wait, and nothing would ever wake them"
                self.now_s = max(self.wake_s, math.nextafter(self.now_s, math.inf))
                self.step()
        assert not self.waiting
        assert len({id(row) for row in self.ended}) == len(self.ended)


SchedulerMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None
)
TestScheduler = SchedulerMachine.TestCase
