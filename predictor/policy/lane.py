"""One model on the device: its queues by tier, its parameters, and what it has learned."""

from collections.abc import Collection, Sequence

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
        self._flows: dict[tuple[str, bool], Flow] = {}
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
        for (name, _), flow in self._flows.items():
            flow.apply(parameters.tiers.get(name))
            flow.queue.reorder(self._order(flow))

    @property
    def flows(self) -> Collection[Flow]:
        return self._flows.values()

    def flow(self, tier: str, late: bool = False) -> Flow:
        """The queue of a tier, or that of its relegated rows."""
        flow = self._flows.get((tier, late))
        if flow is None:
            flow = self._flows[tier, late] = Flow(self, tier, RowQueue(), late)
            flow.apply(self._all.tiers.get(tier))
            flow.queue.reorder(self._order(flow))
        return flow

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

    def plan(
        self,
        flow: Flow,
        start_s: float,
        limit_s: float,
        riders: Sequence[Turn],
    ) -> Plan:
        """The next batch of a queue; what it runs or sheds leaves the queue.

        Of `riders`, rows fill the room in an urgent batch, each up to its own limit.
        """
        terms = self.terms(flow, start_s, limit_s)
        queue = flow.queue
        if self.is_constant:
            plan = constant.plan(queue, terms)
        elif flow.urgent:
            plan = adaptive.plan(queue, terms)
        else:
            plan = slices.plan(queue, terms)
        queue.remove(plan.shed)
        queue.remove(plan.rows)
        if flow.urgent:
            self._door.planned(ran=len(plan.rows), shed=len(plan.shed))
        for rider, longest_s in riders if plan.rows else ():
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
        """By tier; relegated rows wait in their tier, too."""
        snapshots = []
        for (tier, late), flow in self._flows.items():
            if late:
                continue
            queue, relegated = flow.queue, self._flows.get((tier, True))
            depth, tokens, backlog_s = len(queue), queue.tokens, self.drain_s(flow)
            if relegated is not None:
                depth += len(relegated.queue)
                tokens += relegated.queue.tokens
                backlog_s += self.drain_s(relegated)
            load = flow.load.load(now_s)
            snapshots.append(QueueSnapshot(self.model, tier, depth, tokens, backlog_s, load))
        return snapshots

    def service_snapshots(self) -> list[ServiceModelSnapshot]:
        return [
            ServiceModelSnapshot(
                self.model, packing.value, service.weights, service.error_ratio, service.batches
            )
            for packing, service in self._services.items()
        ]
