"""One model on the device: its queues by tier, its parameters, and what it has learned."""

from collections.abc import Sequence

from predictor.core.facts import QueueSnapshot, ServiceModelSnapshot
from predictor.core.parameters import ModelParameters, PackingChoice, Parameters, Policy
from predictor.core.rows import NO_DEADLINE, Batch, Packing, Row
from predictor.policy import adaptive, constant
from predictor.policy.admission import Door
from predictor.policy.load import DecayingRate
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
        self._arrivals = DecayingRate()
        self._mean_tokens = 0.0
        self._padding_factor = 1.0
        self._memory_tokens: int | None = None
        self._door = Door()
        self.queues: dict[str, RowQueue] = {}
        self.replicas = 1
        self.apply(parameters)

    def apply(self, parameters: Parameters) -> None:
        """Take on new parameters; rows that wait keep waiting."""
        self._all = parameters
        self.parameters: ModelParameters = parameters.for_model(self.model)
        self._full: dict[str, tuple[int, int]] = {}
        padded = self.parameters.packing is PackingChoice.PADDED
        self.packing = Packing.PADDED if padded else Packing.PACKED
        if self.packing not in self._services:  # the runner cannot
            self.packing = next(iter(self._services))
        self.service = self._services[self.packing]
        order = self.parameters.order
        for tier in parameters.tiers:
            self.queues.setdefault(tier, RowQueue(order)).reorder(order)

    @property
    def max_tokens(self) -> int:
        limit = self.parameters.max_batch_tokens
        return limit if self._memory_tokens is None else min(limit, self._memory_tokens)

    def remember_memory_limit(self, computed_tokens: int) -> None:
        """A batch of so many tokens did not fit into device memory: stay below from now on."""
        limit = max(computed_tokens - 1, 1)
        self._memory_tokens = min(self._memory_tokens or limit, limit)

    @property
    def is_constant(self) -> bool:
        return self.parameters.policy is Policy.CONSTANT

    def terms(self, tier: str, start_s: float) -> Terms:
        return Terms(
            start_s=start_s,
            service=self.service,
            packing=self.packing,
            max_rows=self.parameters.max_batch_size,
            max_tokens=self.max_tokens,
            max_wait_s=self.parameters.max_wait_ms / 1e3,
            slo_s=self._all.tiers[tier].slo_s if tier in self._all.tiers else NO_DEADLINE,
            replicas=self.replicas,
        )

    def plan(self, tier: str, start_s: float) -> Plan:
        """The next batch of a tier; what it runs or sheds leaves the queue."""
        queue = self.queues[tier]
        terms = self.terms(tier, start_s)
        plan_of = constant.plan if self.is_constant else adaptive.plan
        plan = plan_of(queue, terms)
        queue.remove(plan.shed)
        queue.remove(plan.rows)
        self._door.planned(ran=len(plan.rows), shed=len(plan.shed))
        return plan

    def is_full(self, tier: str, calm_s: float) -> bool:
        """Whether a whole packed batch waits, and nobody's deadline is before `calm_s`.

        A padded batch still gains by better neighbours.
        """
        queue = self.queues.get(tier)
        if queue is None or self.packing is not Packing.PACKED or self.is_constant:
            return False
        if queue.earliest_deadline_s < calm_s:
            return False
        return len(queue) >= self.parameters.max_batch_size or queue.tokens >= self.max_tokens

    def learn(self, batch: Batch, started_s: float, finished_s: float) -> None:
        work = Work.of(batch.rows)
        self._services[batch.packing].learn_at(finished_s, work, finished_s - started_s)
        factor = work.computed(batch.packing) / max(work.tokens, 1)
        self._padding_factor += BLEND * (factor - self._padding_factor)

    # What follows estimates; plans never depend on it, only who is let in and what is shown.

    def arrived(self, work: Work, now_s: float) -> None:
        self._arrivals.add(work.rows, now_s)
        mean = work.tokens / work.rows
        weight = BLEND if self._mean_tokens else 1.0
        self._mean_tokens += weight * (mean - self._mean_tokens)

    @property
    def tokens_per_row(self) -> float:
        """Of late, with the padding that came with them."""
        return self._mean_tokens * self._padding_factor

    def would_serve(self, row: Row, free_s: float, now_s: float) -> bool:
        """Whether a new row would be in time if the device comes free at `free_s`."""
        terms = self.terms(row.tier, free_s)
        rate = self._arrivals.per_s(now_s)
        queue = self.queues[row.tier]
        return self._door.admits(row, queue, terms, self.tokens_per_row, rate, now_s)

    def work_s(self, work: Work, tier: str) -> float:
        """Device seconds that these rows cost in full batches of their like."""
        size = self._full_batch(tier)
        tokens = work.tokens / work.rows * self._padding_factor
        return self.service.alike_s(size, tokens) / size * work.rows

    def drain_s(self, tier: str) -> float:
        """Device seconds to serve what waits, in full batches."""
        waiting = len(self.queues[tier])
        if not waiting:
            return 0.0
        size = self._full_batch(tier)
        full, rest = divmod(waiting, size)
        tokens = self.tokens_per_row
        seconds = full * self.service.alike_s(size, tokens)
        return seconds + (self.service.alike_s(rest, tokens) if rest else 0.0)

    def _full_batch(self, tier: str) -> int:
        """How many average rows go in a batch when there are enough. Costly, so remembered."""
        known = self._full.get(tier)
        if known is None or self.service.batches - known[0] >= REFRESH_BATCHES:
            terms = self.terms(tier, 0.0)
            if self.is_constant:
                size = terms.largest(self.tokens_per_row, NO_DEADLINE)
            else:
                size = terms.target_rows(self.tokens_per_row)
            self._full[tier] = known = (self.service.batches, size)
        return known[1]

    def queue_snapshots(self) -> list[QueueSnapshot]:
        return [
            QueueSnapshot(self.model, tier, len(queue), queue.tokens, self.drain_s(tier))
            for tier, queue in self.queues.items()
        ]

    def service_snapshots(self) -> list[ServiceModelSnapshot]:
        return [
            ServiceModelSnapshot(
                self.model, packing.value, service.weights, service.error_ratio, service.batches
            )
            for packing, service in self._services.items()
        ]
