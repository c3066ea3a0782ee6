"""The whole decision, without a clock: queues, the device's slots, and what to do next.

A driver (the engine, or the simulator) tells it what happens and asks what to do:

    submit(rows, now)     -> a refusal, or None: the rows wait
    next_action(now)      -> Dispatch | WaitUntil | Idle, and the rows that are given up
    completed(batch, ...) -> the slot is free; which rows ended with the batch
    learned(batch, ...)   -> the service-time model has learned; when the driver has time for it
    cancel(row)           -> the row is out, if it still waited, or runs more than once

A row ends with its batch, but for rows that generate: their model runs in steps, and they return
from one after the other.

The device runs one batch and may hold one more, so that it never waits for the driver.
The second is formed as late as timers allow when the running one takes `PREPARE_LATE_S` or
more (rows that arrive meanwhile may still ride), and at once when it is shorter, or when more
than fits into it waits already and has time.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from predictor.core.errors import HeadwayError, InvalidRequest, QueueFull, Shed
from predictor.core.facts import Snapshot
from predictor.core.model import GenerationSpec
from predictor.core.parameters import Parameters
from predictor.core.rows import NO_DEADLINE, Batch, Outcome, Row
from predictor.policy.arbiter import UNCONTENDED, Arbiter
from predictor.policy.generating_model import GeneratingModel
from predictor.policy.model_queues import ModelQueues
from predictor.policy.plan import Plan
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.tier_queue import TierQueue, Turn

SLOTS = 2  # one running, one prepared
PREPARE_LATE_S = 5e-3
EXPIRE_AT_ONCE = 256  # rows settled per action, so that one action stays short


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start this batch now (or behind the running one)."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing before `time_s`, unless something arrives or completes."""

    time_s: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing waits."""


@dataclass(frozen=True, slots=True)
class Decision:
    action: Dispatch | WaitUntil | Idle
    given_up: Sequence[tuple[Row, Outcome]] = field(default_factory=tuple)


class Admission(msgspec.Struct, frozen=True, gc=False):
    """Whether rows wait now; what they ask of the device, and its seconds in full batches."""

    work: Work
    work_s: float
    refusal: HeadwayError | None = None


class Scheduler:
    """Queues of all models on one device. Not thread-safe; time is an argument."""

    def __init__(self, parameters: Parameters, prepare_lead_s: float = 0.0) -> None:
        """`prepare_lead_s`: how long before the end of the running batch the next is formed."""
        self._parameters = parameters
        self.prepare_lead_s = prepare_lead_s  # a driver may adjust it
        self._models: dict[str, ModelQueues] = {}
        self._generating: dict[str, GeneratingModel] = {}
        self._arbiter = Arbiter(parameters)
        self._slots: list[_Slot] = []

    def add_model(
        self,
        model: str,
        services: Sequence[ServiceTimeModel],
        generation: GenerationSpec | None = None,
        *,
        prefix_cache: bool = True,
    ) -> None:
        """`generation`: of a model whose rows generate; its one service-time model is of steps."""
        if generation is None:
            self._models[model] = ModelQueues(model, self._parameters, services)
        else:
            (service,) = services
            self._models[model] = self._generating[model] = GeneratingModel(
                model, self._parameters, service, generation, prefix_cache=prefix_cache
            )
        self._arbiter.add(self._models[model])

    @property
    def parameters(self) -> Parameters:
        return self._parameters

    def apply(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._arbiter.apply(parameters)
        for model in self._models.values():
            model.apply(parameters)

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return sum(len(queue.rows) for queue in self._queues())

    def _has_work(self) -> bool:
        """Whether a row waits, or runs and could go on."""
        if self.waiting:
            return True
        return any(model.has_work for model in self._generating.values())

    @property
    def in_flight(self) -> Sequence[Batch]:
        return [slot.batch for slot in self._slots]

    def drain_s(self, model: str, tier: str, now_s: float) -> float:
        """Seconds until the device is through with what waits in this queue now."""
        queue = self._models[model].by_tier[tier]
        ahead_s = self._arbiter.contention(queue, now_s + queue.slo_s, now_s).ahead_s
        return self._ends_s(now_s) - now_s + ahead_s + queue.drain_s()

    def submit(self, rows: Sequence[Row], now_s: float) -> Admission:
        """Let the rows of one request in together, or say why not.

        All rows are of one model and tier, which exist. Refusals: QueueFull or Shed, not
        now; InvalidRequest, a row that could never run.
        """
        row = rows[-1]
        model = self._models[row.model]
        queue = model.by_tier[row.tier]
        work = Work.of(rows)
        work_s = queue.arrived(rows, work, now_s)
        if isinstance(work_s, InvalidRequest):
            return Admission(work, 0.0, work_s)
        promised = self._parameters.tiers[row.tier]
        limit = promised.max_queue_size
        waiting = model.waiting(row.tier) if model.sets_apart else len(queue.rows)
        if waiting + len(rows) > limit:
            full = QueueFull(
                f"the queue of tier {row.tier!r} is full ({limit} rows); try again later",
                self.drain_s(row.model, row.tier, now_s),
            )
            return Admission(work, work_s, full)
        ahead_s, stretch = UNCONTENDED
        if row.deadline_s < NO_DEADLINE:
            ahead_s, stretch = self._arbiter.contention(queue, row.deadline_s, now_s)
        free_s = self._ends_s(now_s) + ahead_s
        if queue.admit(rows, free_s, now_s, stretch):
            return Admission(work, work_s)
        self._arbiter.missed(queue, len(rows), now_s)
        if promised.relegates:
            self._relegate(rows, now_s)
            return Admission(work, work_s)
        shed = Shed(queue.why_late(rows, now_s), free_s - now_s + queue.drain_s())
        return Admission(work, work_s, shed)

    def set_replicas(self, model: str, replicas: int) -> None:
        """How many replicas serve this model: a row that misses a batch here may find another."""
        if model in self._models:
            self._models[model].batching.replicas = max(1, replicas)

    def turned_away(self, model: str, now_s: float) -> None:
        """An edge refused a request unread: it is demand all the same."""
        if model in self._models:
            queue = self._models[model].by_tier[self._parameters.default_tier]
            queue.load.offer_unseen(now_s)

    def cancel(self, row: Row) -> bool:
        """Take a row out if it waits, or runs more than once: it takes part in no step that is yet
        to come. One in a batch that ends it cannot be stopped."""
        return self._models[row.model].cancel(row)

    def next_action(self, now_s: float) -> Decision:
        """What to do now. Ask again after every Dispatch until something else comes."""
        given_up: list[tuple[Row, Outcome]] = self._expired(now_s)
        if self._generating:
            given_up += self._displaced(now_s)
        if not self._has_work():
            return Decision(Idle(), given_up)
        if len(self._slots) >= SLOTS:
            return Decision(WaitUntil(self._next_deadline_s()), given_up)
        start_s = now_s
        if self._slots:
            form_s = self._form_next_at_s(now_s)
            if now_s < form_s:
                return Decision(WaitUntil(min(form_s, self._next_deadline_s())), given_up)
            start_s = self._ends_s(now_s)
        wait_until_s = NO_DEADLINE
        asked: set[str] = set()  # a model plans its steps for all of its queues
        for turn in self._arbiter.turns(start_s, now_s, self.prepare_lead_s):
            model = self._models[turn.queue.batching.model]
            if model.model in asked:
                continue
            if turn.queue.steps:
                asked.add(model.model)
            plan = self._plan(model, turn, start_s, now_s, given_up)
            if plan.rows:
                return Decision(Dispatch(self._start(model, plan, start_s, now_s)), given_up)
            wait_until_s = min(wait_until_s, plan.wait_until_s)
        if not self._has_work():
            return Decision(Idle(), given_up)
        wait_until_s = min(wait_until_s, self._arbiter.released_s(now_s, self.prepare_lead_s))
        return Decision(WaitUntil(min(wait_until_s, self._next_deadline_s())), given_up)

    def completed(
        self,
        batch: Batch,
        finished_s: float,
        ended: Collection[Row] | None = None,
        failed: Collection[Row] = (),
    ) -> None:
        """The device is done with a batch. Of a step: the rows that `ended` with it, `failed` ones
        among them; the tokens that came back are in their `progress` by now."""
        self._slots = [slot for slot in self._slots if slot.batch is not batch]
        if self._slots:
            self._slots[0].starts_s = finished_s
        model = self._models[batch.model]
        judged = model.completed(batch, finished_s, batch.rows if ended is None else ended, failed)
        self._arbiter.ended(model, judged, finished_s)

    def learned(self, batch: Batch, started_s: float, finished_s: float) -> None:
        """Take in how long a batch took that was completed; not where its time says nothing."""
        self._models[batch.model].learn(batch, started_s, finished_s)

    def out_of_memory(self, batch: Batch, work: Work, finished_s: float) -> None:
        """This work, of the batch or a part of it, did not fit into device memory."""
        memory = self._models[batch.model].batching.memory
        memory.failed(work, work.computed(batch.packing), finished_s)

    def has_fitted(self, row: Row) -> bool:
        """Whether batches as large as this row alone have fitted into device memory."""
        return row.tokens <= self._models[row.model].batching.memory.fitted_tokens

    def snapshot(self, now_s: float) -> Snapshot:
        models = self._models.values()
        return Snapshot(
            queues=[each for model in models for each in model.queue_snapshots(now_s)],
            service_models=[each for model in models for each in model.batching.snapshots()],
            overloaded=self._arbiter.overloaded(now_s),
            generation=[model.generation_snapshot() for model in self._generating.values()],
        )

    def _expired(self, now_s: float) -> list[tuple[Row, Outcome]]:
        expired: list[tuple[Row, Outcome]] = []
        for queue in self._queues():
            rows = queue.rows
            if rows.earliest_deadline_s < now_s:
                due = rows.due_before(now_s, EXPIRE_AT_ONCE)
                rows.remove(due)
                expired += self._let_go(queue, due, Outcome.EXPIRED, now_s)
        return expired

    def _displaced(self, now_s: float) -> list[tuple[Row, Outcome]]:
        given_up: list[tuple[Row, Outcome]] = []
        for model in self._generating.values():
            for queue, rows in model.displaced():
                given_up += self._let_go(queue, rows, Outcome.SHED, now_s)
        return given_up

    def _let_go(
        self, queue: TierQueue, rows: Sequence[Row], outcome: Outcome, now_s: float
    ) -> list[tuple[Row, Outcome]]:
        """Rows that will miss their SLO: those that are given up; the others are relegated."""
        given_up = []
        if rows:
            self._arbiter.missed(queue, len(rows), now_s)
        for row in rows:
            tier = self._parameters.tiers.get(row.tier)
            if tier is not None and tier.relegates and row.expires_s > now_s:
                self._relegate([row], now_s)
            else:
                given_up.append((row, outcome))
        return given_up

    def _relegate(self, rows: Sequence[Row], now_s: float) -> None:
        """Have rows wait for room, until the client's own deadline if it has one."""
        for row in rows:
            row.relegated, row.held_back = True, False
            row.deadline_s = row.expires_s
        self._models[rows[0].model].queue(rows[0].tier, late=True).put(rows, now_s)

    def _queues(self) -> Iterator[TierQueue]:
        return (queue for model in self._models.values() for queue in model.queues)

    def _next_deadline_s(self) -> float:
        return min(queue.rows.earliest_deadline_s for queue in self._queues())

    def _ends_s(self, now_s: float) -> float:
        """When the device will be through with what it holds."""
        ends_s = now_s
        for slot in self._slots:
            ends_s = max(ends_s, slot.starts_s + slot.batch.predicted_s)
        return ends_s

    def _form_next_at_s(self, now_s: float) -> float:
        running = self._slots[0]
        late_s = running.starts_s + running.batch.predicted_s - self.prepare_lead_s
        if self._is_next_settled(now_s):
            return now_s
        if running.batch.predicted_s < PREPARE_LATE_S and self._arbiter.commits_early(now_s):
            return now_s
        return late_s

    def _is_next_settled(self, now_s: float) -> bool:
        """Whether rows that are yet to come can hardly change the next batch.

        More than fits into it waits, and nobody is in a hurry: where rows are about to be
        given up, the last moment knows best which.
        """
        calm_s = self._ends_s(now_s) + 2.0 * self._slots[0].batch.predicted_s
        most_urgent = self._parameters.default_tier
        return any(model.is_full(most_urgent, calm_s) for model in self._models.values())

    def _plan(
        self,
        model: ModelQueues,
        turn: Turn,
        start_s: float,
        now_s: float,
        given_up: list[tuple[Row, Outcome]],
    ) -> Plan:
        """Plan until there is a batch, or nothing left that may be shed."""
        riders = self._arbiter.riders(turn.queue, now_s, self.prepare_lead_s)
        while True:
            plan = model.plan(turn, start_s, riders)
            given_up += self._let_go(turn.queue, plan.shed, Outcome.SHED, now_s)
            if plan.rows or not plan.shed or not turn.queue.rows:
                return plan

    def _start(self, model: ModelQueues, plan: Plan, start_s: float, now_s: float) -> Batch:
        batch = model.batch_of(plan)
        self._slots.append(_Slot(batch, start_s))
        self._arbiter.ran(model.shares(plan), plan.predicted_s, now_s)
        return batch


class _Slot:
    """A batch that the device holds, and when it began it or is expected to."""

    __slots__ = ("batch", "starts_s")

    def __init__(self, batch: Batch, starts_s: float) -> None:
        self.batch = batch
        self.starts_s = starts_s
