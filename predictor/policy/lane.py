"""One model on the device: its queues by tier, its parameters, and what it has learned."""

from collections.abc import Iterable, Sequence

from predictor.core.facts import QueueSnapshot, ServiceModelSnapshot
from predictor.core.parameters import ModelParameters, Order, PackingChoice, Parameters, Policy
from predictor.core.rows import NO_DEADLINE, Batch, Packing, Row
from predictor.policy import adaptive, constant, slices
from predictor.policy.admission import Door
from predictor.policy.flow import Flow, Turn
from predictor.policy.memory import MemoryLimit
from predictor.policy.plan import Plan, Terms
from predictor.policy.queue import RowQueue
from predictor.policy.service_time import ServiceTimeModel, Work

BLEND = 0.05  # weight of the newest batch in running means
REFRESH_BATCHES = 16
HOLD_AT_ONCE = 256  # rows that are looked at, so that a plan stays short
HOLDS_PER_PLAN = 4


class Lane:
    """Queues and knowledge of one model. Time comes in as an argument."""

    def __init__(
        self,
        model: str,
        parameters: Parameters,
        services: Sequence[ServiceTimeModel],
    ) -> None:
        """`services`: one service-time model per packing that the runner can do."""
        self.model = model
        self._services = {service.packing: service for service in services}
        self._padding_factor = 1.0
        self.memory = MemoryLimit()
        self._door = Door()
        self.flows: list[Flow] = []
        self._flows: dict[tuple[str, bool], Flow] = {}
        self._held_back: dict[Flow, Flow] = {}  # the queue of rows held back, by where they waited
        self.replicas = 1
        self.apply(parameters)

    def apply(self, parameters: Parameters) -> None:
        """Take on new parameters; rows that wait keep waiting."""
        self._all = parameters
        self.parameters: ModelParameters = parameters.for_model(self.model)
        self._full: dict[Flow, tuple[int, int]] = {}
        padded = self.parameters.packing is PackingChoice.PADDED
        self.packing = Packing.PADDED if padded else Packing.PACKED
        if self.packing not in self._services:  # the runner cannot
            self.packing = next(iter(self._services))
        self.service = self._services[self.packing]
        for name, tier in parameters.tiers.items():
            self.flow(name)
            if tier.relegates:
                self.flow(name, late=True)
        for flow in self.flows:
            flow.apply(parameters.tiers.get(flow.tier))
            flow.queue.reorder(self._order(flow))

    def flow(self, tier: str, late: bool = False) -> Flow:
        """The queue of a tier, or that of its relegated rows."""
        flow = self._flows.get((tier, late))
        if flow is None:
            flow = self._flows[tier, late] = self._new_flow(tier, late)
        return flow

    def flow_of(self, row: Row) -> Flow:
        """The queue that a row of this model waits in."""
        flow = self.flow(row.tier, row.relegated)
        return self._held_back[flow] if row.held_back else flow

    def waiting(self, tier: str) -> int:
        """Rows of a tier that wait, wherever."""
        return sum(len(flow.queue) for flow in self.flows if flow.tier == tier)

    def _new_flow(self, tier: str, late: bool, held_back: bool = False) -> Flow:
        flow = Flow(self, tier, RowQueue(), late, held_back)
        flow.apply(self._all.tiers.get(tier))
        flow.queue.reorder(self._order(flow))
        self.flows.append(flow)
        return flow

    @property
    def holds_back(self) -> bool:
        """Whether rows were ever held back."""
        return bool(self._held_back)

    def _plan_slice(self, flow: Flow, terms: Terms, hold_s: float) -> Plan:
        """Of a bulk queue. Empty with a time where so many rows are held back that those behind
        them must wait until then."""
        for _ in range(HOLDS_PER_PLAN):
            plan = slices.plan(flow.queue, terms)
            if plan.predicted_s * terms.caution <= hold_s:
                return plan
            if not any(self.alone_s(row) > hold_s for row in plan.rows):
                return plan
            front = flow.queue.window(HOLD_AT_ONCE)
            self._hold_back(flow, [*plan.rows, *front], hold_s, terms.start_s)
            if not flow.queue:
                return Plan((), plan.reason)
        return Plan((), plan.reason, wait_until_s=terms.start_s)

    def _hold_back(self, flow: Flow, rows: Iterable[Row], hold_s: float, now_s: float) -> None:
        """Of these rows, have those wait apart that alone take longer than `hold_s`."""
        rows = [row for row in dict.fromkeys(rows) if self.alone_s(row) > hold_s]
        flow.queue.remove(rows)
        for row in rows:
            row.held_back = True
        if flow not in self._held_back:
            self._held_back[flow] = self._new_flow(flow.tier, flow.late, held_back=True)
        self._held_back[flow].put(rows, now_s)

    def alone_s(self, row: Row) -> float:
        """What a row takes in a batch of its own, with caution."""
        return self.service.alike_s(1, row.tokens) * (1.0 + self.service.margin)

    def _order(self, flow: Flow) -> Order:
        """Without deadlines, short rows go first, and long ones age to the front."""
        order = self.parameters.order
        return Order.SHORTEST if order is Order.DEADLINE and not flow.urgent else order

    @property
    def max_tokens(self) -> int:
        """Most in a batch of several rows."""
        limit, room = self.parameters.max_batch_tokens, self.memory.tokens
        return limit if limit <= room else room  # noqa: FURB136 - half the time of min()

    @property
    def is_constant(self) -> bool:
        return self.parameters.policy is Policy.CONSTANT

    def terms(
        self, flow: Flow, start_s: float, limit_s: float = NO_DEADLINE, stretch: float = 1.0
    ) -> Terms:
        return Terms(
            start_s=start_s,
            service=self.service,
            packing=self.packing,
            max_rows=self.parameters.max_batch_size,
            max_tokens=self.max_tokens,
            max_wait_s=self.parameters.max_wait_ms / 1e3,
            slo_s=flow.slo_s,
            replicas=self.replicas,
            limit_s=limit_s,
            stretch=stretch,
        )

    def plan(self, turn: Turn, start_s: float, riders: Sequence[Turn]) -> Plan:
        """The next batch of a queue; what it runs or sheds leaves the queue.

        Of `riders`, rows fill the room in an urgent batch, each up to its own limit.
        """
        flow, limit_s, hold_s = turn
        terms = self.terms(flow, start_s, limit_s)
        queue = flow.queue
        if self.is_constant:
            plan = constant.plan(queue, terms)
        elif flow.urgent:
            plan = adaptive.plan(queue, terms)
        else:
            plan = self._plan_slice(flow, terms, hold_s)
        queue.remove(plan.shed)
        queue.remove(plan.rows)
        if flow.urgent:
            self._door.planned(ran=len(plan.rows), shed=len(plan.shed))
        if flow.held_back and plan.rows:
            flow.waiting_since_s = start_s
        for rider, longest_s, rider_hold_s in riders if plan.rows else ():
            if self.alone_s(rider.queue.head) > rider_hold_s:  # or nobody behind it would ride
                front = rider.queue.window(HOLD_AT_ONCE)
                self._hold_back(rider, front, rider_hold_s, start_s)
            own = len(plan.rows)
            terms = self.terms(rider, start_s, longest_s)
            plan = slices.top_up(plan, rider.queue, terms, flow.margin_s)
            rider.queue.remove(plan.rows[own:])
        return plan

    def is_full(self, tier: str, calm_s: float) -> bool:
        """Whether a whole packed batch waits, and nobody's deadline is before `calm_s`.

        A padded batch still gains by better neighbours.
        """
        queue = self.flow(tier).queue
        if self.packing is not Packing.PACKED or self.is_constant:
            return False
        if queue.earliest_deadline_s < calm_s:
            return False
        return len(queue) >= self.parameters.max_batch_size or queue.tokens >= self.max_tokens

    def learn(self, batch: Batch, started_s: float, finished_s: float) -> None:
        work = Work.of(batch.rows)
        self.memory.fitted(batch.computed_tokens)
        self._services[batch.packing].learn_at(finished_s, work, finished_s - started_s)
        factor = work.computed(batch.packing) / max(work.tokens, 1)
        self._padding_factor += BLEND * (factor - self._padding_factor)

    # What follows estimates; plans never depend on it, only who is let in and what is shown.

    def arrived(self, flow: Flow, work: Work, now_s: float) -> float:
        """Count rows that came, let in or not; the device seconds that they cost."""
        flow.last_arrival_s = now_s
        flow.arrivals.add(work.rows, now_s)
        mean = work.tokens / work.rows
        weight = BLEND if flow.mean_tokens else 1.0
        flow.mean_tokens += weight * (mean - flow.mean_tokens)
        work_s = self._work_s(work, flow)
        flow.load.offer(work_s, now_s)
        return work_s

    def tokens_per_row(self, flow: Flow) -> float:
        """Of late, with the padding that came with them."""
        if flow.held_back and flow.queue:
            return flow.queue.tokens / len(flow.queue)
        return flow.mean_tokens * self._padding_factor

    def demand(self, flow: Flow, now_s: float) -> tuple[float, float, Terms]:
        """What comes to an urgent queue: rows a second, tokens of each, and how they would run."""
        return flow.arrivals.per_s(now_s), self.tokens_per_row(flow), self.terms(flow, now_s)

    def batch_s(self, flow: Flow, start_s: float) -> float:
        """What the next batch of a queue takes, about."""
        rows = flow.queue.window(self.parameters.max_batch_size)
        return self.terms(flow, start_s).service_s(rows)

    def would_serve(
        self, flow: Flow, row: Row, free_s: float, now_s: float, stretch: float
    ) -> bool:
        """Whether a new row would be in time if the device comes free at `free_s`."""
        terms = self.terms(flow, free_s, stretch=stretch)
        rate = flow.arrivals.per_s(now_s)
        return self._door.admits(row, flow.queue, terms, self.tokens_per_row(flow), rate, now_s)

    def _work_s(self, work: Work, flow: Flow) -> float:
        """Device seconds that these rows cost in full batches of their like."""
        size = self._full_batch(flow)
        tokens = work.tokens / work.rows * self._padding_factor
        return self.service.alike_s(size, tokens) / size * work.rows

    def drain_s(self, flow: Flow) -> float:
        """Device seconds to serve what waits, in full batches."""
        waiting = len(flow.queue)
        if not waiting:
            return 0.0
        size = self._full_batch(flow)
        full, rest = divmod(waiting, size)
        tokens = self.tokens_per_row(flow)
        seconds = full * self.service.alike_s(size, tokens)
        return seconds + (self.service.alike_s(rest, tokens) if rest else 0.0)

    def full_batch_s(self, flow: Flow) -> float:
        """How long a batch takes when there are enough rows."""
        size = self._full_batch(flow)
        return self.service.alike_s(size, self.tokens_per_row(flow))

    def _full_batch(self, flow: Flow) -> int:
        """How many average rows go in a batch when there are enough. Costly, so remembered."""
        known = self._full.get(flow)
        if known is None or self.service.batches - known[0] >= REFRESH_BATCHES:
            terms = self.terms(flow, 0.0)
            if self.is_constant:
                size = terms.largest(self.tokens_per_row(flow), NO_DEADLINE)
            else:
                size = terms.target_rows(self.tokens_per_row(flow))
            self._full[flow] = known = (self.service.batches, size)
        return known[1]

    def queue_snapshots(self, now_s: float) -> list[QueueSnapshot]:
        """By tier; relegated rows wait in their tier, too, and so do those held back."""
        snapshots = []
        for (tier, late), flow in self._flows.items():
            if late:
                continue
            waiting = [each for each in self.flows if each.tier == tier]
            snapshots.append(
                QueueSnapshot(
                    self.model,
                    tier,
                    depth=sum(len(each.queue) for each in waiting),
                    tokens=sum(each.queue.tokens for each in waiting),
                    backlog_s=sum(self.drain_s(each) for each in waiting),
                    offered_load=flow.load.load(now_s),
                )
            )
        return snapshots

    def service_snapshots(self) -> list[ServiceModelSnapshot]:
        return [
            ServiceModelSnapshot(
                self.model, packing.value, service.weights, service.error_ratio, service.batches
            )
            for packing, service in self._services.items()
        ]
