"""The whole decision, without a clock: queues, the device's slots, and what to do next.

A driver (the engine, or the simulator) tells it what happens and asks what to do:

    submit(rows, now)     -> a refusal, or None: the rows wait
    next_action(now)      -> Dispatch | WaitUntil | Idle, and the rows that are given up
    completed(batch, ...) -> the slot is free
    learned(batch, ...)   -> the service-time model has learned; when the driver has time for it
    cancel(row)           -> the row is out, if it still waited

The device runs one batch and may hold one more, so that it never waits for the driver.
The second is formed as late as timers allow when the running one takes `PREPARE_LATE_S` or
more (rows that arrive meanwhile may still ride), and at once when it is shorter, or when more
than fits into it waits already and has time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from predictor.core.errors import HeadwayError, InvalidRequest, QueueFull, Shed
from predictor.core.facts import Snapshot
from predictor.core.parameters import Parameters
from predictor.core.rows import NO_DEADLINE, Batch, Outcome, Row
from predictor.policy.arbiter import Arbiter
from predictor.policy.flow import Flow, Turn
from predictor.policy.lane import Lane
from predictor.policy.plan import Plan
from predictor.policy.service_time import ServiceTimeModel, Work

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
        self._lanes: dict[str, Lane] = {}
        self._arbiter = Arbiter(parameters)
        self._slots: list[_Slot] = []

    def add_model(self, model: str, services: Sequence[ServiceTimeModel]) -> None:
        lane = self._lanes[model] = Lane(model, self._parameters, services)
        self._arbiter.add(lane)

    @property
    def parameters(self) -> Parameters:
        return self._parameters

    def apply(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._arbiter.apply(parameters)
        for lane in self._lanes.values():
            lane.apply(parameters)

    @property
    def waiting(self) -> int:
        return sum(len(flow.queue) for flow in self._flows())

    @property
    def in_flight(self) -> Sequence[Batch]:
        return [slot.batch for slot in self._slots]

    def drain_s(self, model: str, tier: str, now_s: float) -> float:
        """Seconds until the device is through with what waits in this queue now."""
        flow = self._lanes[model].flow(tier)
        ahead_s = self._arbiter.contention(flow, now_s + flow.slo_s, now_s).ahead_s
        return self._ends_s(now_s) - now_s + ahead_s + flow.lane.drain_s(flow)

    def submit(self, rows: Sequence[Row], now_s: float) -> Admission:
        """Let the rows of one request in together, or say why not.

        All rows are of one model and tier, which exist. Refusals: QueueFull or Shed, not
        now; InvalidRequest, a row that could never run.
        """
        lane = self._lanes[rows[0].model]
        tier = rows[0].tier
        work = Work.of(rows)
        longest = lane.parameters.max_batch_tokens
        if work.longest > longest:
            too_long = InvalidRequest(
                f"a row has {work.longest} tokens, over max_batch_tokens {longest} of"
                f" model {lane.model!r}; send a shorter one or raise the limit"
            )
            return Admission(work, 0.0, too_long)
        flow = lane.flow(tier)
        work_s = lane.arrived(flow, work, now_s)
        flow.reached(rows[0], now_s)
        promised = self._parameters.tiers[tier]
        limit = promised.max_queue_size
        waiting = len(flow.queue)
        if promised.relegates or lane.holds_back:
            waiting = lane.waiting(tier)
        if waiting + len(rows) > limit:
            full = QueueFull(
                f"the queue of tier {tier!r} is full ({limit} rows); try again later",
                self.drain_s(lane.model, tier, now_s),
            )
            return Admission(work, work_s, full)
        shed = self._shed_at_the_door(flow, rows, now_s)
        if shed is not None:
            self._arbiter.missed(flow, len(rows), now_s)
        if shed is not None and promised.relegates:
            self._relegate(rows, now_s)
            return Admission(work, work_s)
        if shed is None:
            flow.put(rows, now_s)
        return Admission(work, work_s, shed)

    def set_replicas(self, model: str, replicas: int) -> None:
        """How many replicas serve this model: a row that misses a batch here may find another."""
        if model in self._lanes:
            self._lanes[model].replicas = max(1, replicas)

    def turned_away(self, model: str, now_s: float) -> None:
        """An edge refused a request unread: it is demand all the same."""
        if model in self._lanes:
            flow = self._lanes[model].flow(self._parameters.default_tier)
            flow.load.offer_unseen(now_s)

    def cancel(self, row: Row) -> bool:
        """Take a row out if it still waits; a row that runs already cannot be stopped."""
        queue = self._lanes[row.model].flow_of(row).queue
        if row not in queue:
            return False
        queue.remove([row])
        return True

    def next_action(self, now_s: float) -> Decision:
        """What to do now. Ask again after every Dispatch until something else comes."""
        given_up: list[tuple[Row, Outcome]] = self._expired(now_s)
        if not self.waiting:
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
        for turn in self._arbiter.turns(start_s, now_s, self.prepare_lead_s):
            plan = self._plan(turn, start_s, now_s, given_up)
            if plan.rows:
                lane = turn.flow.lane
                return Decision(Dispatch(self._start(lane, plan, start_s, now_s)), given_up)
            wait_until_s = min(wait_until_s, plan.wait_until_s)
        if not self.waiting:
            return Decision(Idle(), given_up)
        wait_until_s = min(wait_until_s, self._arbiter.released_s(now_s, self.prepare_lead_s))
        return Decision(WaitUntil(min(wait_until_s, self._next_deadline_s())), given_up)

    def completed(self, batch: Batch, finished_s: float) -> None:
        """The device is done with a batch."""
        self._slots = [slot for slot in self._slots if slot.batch is not batch]
        if self._slots:
            self._slots[0].starts_s = finished_s
        lane = self._lanes[batch.model]
        lane.memory.relax(finished_s)
        self._arbiter.ended(batch.rows, lane, finished_s)

    def learned(self, batch: Batch, started_s: float, finished_s: float) -> None:
        """Take in how long a batch took that was completed; not where its time says nothing."""
        self._lanes[batch.model].learn(batch, started_s, finished_s)

    def out_of_memory(self, batch: Batch, work: Work, finished_s: float) -> None:
        """This work, of the batch or a part of it, did not fit into device memory."""
        memory = self._lanes[batch.model].memory
        memory.failed(work, work.computed(batch.packing), finished_s)

    def has_fitted(self, row: Row) -> bool:
        """Whether batches as large as this row alone have fitted into device memory."""
        return row.tokens <= self._lanes[row.model].memory.fitted_tokens

    def snapshot(self, now_s: float) -> Snapshot:
        lanes = self._lanes.values()
        return Snapshot(
            queues=[each for lane in lanes for each in lane.queue_snapshots(now_s)],
            service_models=[each for lane in lanes for each in lane.service_snapshots()],
            overloaded=self._arbiter.overloaded(now_s),
        )

    def _expired(self, now_s: float) -> list[tuple[Row, Outcome]]:
        expired: list[tuple[Row, Outcome]] = []
        for flow in self._flows():
            queue = flow.queue
            if queue.earliest_deadline_s < now_s:
                due = queue.due_before(now_s, EXPIRE_AT_ONCE)
                queue.remove(due)
                expired += self._let_go(flow, due, Outcome.EXPIRED, now_s)
        return expired

    def _let_go(
        self, flow: Flow, rows: Sequence[Row], outcome: Outcome, now_s: float
    ) -> list[tuple[Row, Outcome]]:
        """Rows that will miss their SLO: those that are given up; the others are relegated."""
        given_up = []
        if rows:
            self._arbiter.missed(flow, len(rows), now_s)
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
        self._lanes[rows[0].model].flow(rows[0].tier, late=True).put(rows, now_s)

    def _flows(self) -> Iterator[Flow]:
        return (flow for lane in self._lanes.values() for flow in lane.flows)

    def _next_deadline_s(self) -> float:
        return min(flow.queue.earliest_deadline_s for flow in self._flows())

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
        return any(lane.is_full(most_urgent, calm_s) for lane in self._lanes.values())

    def _plan(
        self, turn: Turn, start_s: float, now_s: float, given_up: list[tuple[Row, Outcome]]
    ) -> Plan:
        """Plan until there is a batch, or nothing left that may be shed."""
        flow, lane = turn.flow, turn.flow.lane
        riders = self._arbiter.riders(flow, now_s, self.prepare_lead_s)
        while True:
            plan = lane.plan(turn, start_s, riders)
            given_up += self._let_go(flow, plan.shed, Outcome.SHED, now_s)
            if plan.rows or not plan.shed or not flow.queue:
                return plan

    def _start(self, lane: Lane, plan: Plan, start_s: float, now_s: float) -> Batch:
        computed = lane.service.computed_tokens(Work.of(plan.rows))
        batch = Batch(lane.model, plan.rows, lane.packing, plan.reason, plan.predicted_s, computed)
        self._slots.append(_Slot(batch, start_s))
        self._arbiter.ran(plan, lane, now_s)
        return batch

    def _shed_at_the_door(self, flow: Flow, rows: Sequence[Row], now_s: float) -> Shed | None:
        """Shed if the last of these rows would end after its deadline."""
        row = rows[-1]
        if row.deadline_s == NO_DEADLINE or flow.lane.is_constant:
            return None
        ahead_s, stretch = self._arbiter.contention(flow, row.deadline_s, now_s)
        free_s = self._ends_s(now_s) + ahead_s
        if flow.lane.would_serve(flow, row, free_s, now_s, stretch):
            return None
        why = "would miss its deadline, so it was not queued; try again later"
        longest = max(rows, key=lambda row: row.tokens)
        alone_s = flow.lane.alone_s(longest)
        if alone_s > (left_s := row.deadline_s - now_s):
            why = (
                f"a row of {longest.tokens} tokens takes about {1e3 * alone_s:.0f} ms, and"
                f" {1e3 * left_s:.0f} ms are left until its deadline; send shorter rows, or to a"
                " tier without an SLO"
            )
        return Shed(
            why,
            free_s - now_s + flow.lane.drain_s(flow),
        )


class _Slot:
    """A batch that the device holds, and when it began it or is expected to."""

    __slots__ = ("batch", "starts_s")

    def __init__(self, batch: Batch, starts_s: float) -> None:
        self.batch = batch
        self.starts_s = starts_s
