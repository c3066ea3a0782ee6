"""How the rows of one model are batched now: its knobs, and what was learned of the device."""

from collections.abc import Sequence

from predictor.core.facts import ServiceModelSnapshot
from predictor.core.parameters import ModelParameters, Order, PackingChoice, Parameters, Policy
from predictor.core.rows import NO_DEADLINE, Batch, Packing
from predictor.policy.admission import Door
from predictor.policy.memory import MemoryLimit
from predictor.policy.plan import Terms
from predictor.policy.service_time import ServiceTimeModel, Work

BLEND = 0.05  # weight of the newest batch in running means


class Batching:
    """Shared by the queues of a model."""

    def __init__(
        self, model: str, parameters: Parameters, services: Sequence[ServiceTimeModel]
    ) -> None:
        """`services`: one service-time model per packing that the runner can do."""
        self.model = model
        self.memory = MemoryLimit()
        self.door = Door()
        self.replicas = 1
        self.padding_factor = 1.0  # of recent batches
        self.edits = 0  # what was worked out for other parameters is worked out anew
        self._services = {service.packing: service for service in services}
        self.apply(parameters)

    def apply(self, parameters: Parameters) -> None:
        self.parameters: ModelParameters = parameters.for_model(self.model)
        self.edits += 1
        self.is_constant = self.parameters.policy is Policy.CONSTANT
        padded = self.parameters.packing is PackingChoice.PADDED
        self.packing = Packing.PADDED if padded else Packing.PACKED
        if self.packing not in self._services:  # the runner cannot
            self.packing = next(iter(self._services))
        self.service = self._services[self.packing]

    @property
    def max_tokens(self) -> int:
        """Most in a batch of several rows."""
        limit, room = self.parameters.max_batch_tokens, self.memory.tokens
        return limit if limit <= room else room  # noqa: FURB136 - half the time of min()

    def order(self, urgent: bool) -> Order:
        """Without deadlines, short rows go first, and long ones age to the front."""
        order = self.parameters.order
        return Order.SHORTEST if order is Order.DEADLINE and not urgent else order

    def terms(
        self, slo_s: float, start_s: float, limit_s: float = NO_DEADLINE, stretch: float = 1.0
    ) -> Terms:
        return Terms(
            start_s=start_s,
            service=self.service,
            packing=self.packing,
            max_rows=self.parameters.max_batch_size,
            max_tokens=self.max_tokens,
            max_wait_s=self.parameters.max_wait_ms / 1e3,
            slo_s=slo_s,
            replicas=self.replicas,
            limit_s=limit_s,
            stretch=stretch,
        )

    def alone_s(self, tokens: int) -> float:
        """What a row takes in a batch of its own, with caution."""
        return self.service.alike_s(1, tokens) * (1.0 + self.service.margin)

    def learn(self, batch: Batch, work: Work, started_s: float, finished_s: float) -> None:
        self.memory.fitted(batch.computed_tokens)
        self._services[batch.packing].learn_at(finished_s, work, finished_s - started_s)
        factor = work.computed(batch.packing) / max(work.tokens, 1)
        self.padding_factor += BLEND * (factor - self.padding_factor)

    def snapshots(self) -> list[ServiceModelSnapshot]:
        return [
            ServiceModelSnapshot(
                self.model, packing.value, service.weights, service.error_ratio, service.batches
            )
            for packing, service in self._services.items()
        ]
