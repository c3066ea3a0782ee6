"""One model on the device: its queues by tier, and the next batch of one of them."""

from collections.abc import Collection, Iterable, Sequence

from predictor.core.facts import QueueSnapshot
from predictor.core.parameters import Parameters
from predictor.core.rows import Batch, Packing, Row
from predictor.policy import adaptive, constant, slices
from predictor.policy.batching import Batching
from predictor.policy.plan import Plan, Terms
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.tier_queue import TierQueue, Turn

HOLD_AT_ONCE = 256  # rows that are looked at, so that a plan stays short
HOLDS_PER_PLAN = 4


class ModelQueues:
    """The queues of one model. Time comes in as an argument."""

    steps = False  # whether its rows run more than once

    def __init__(
        self, model: str, parameters: Parameters, services: Sequence[ServiceTimeModel]
    ) -> None:
        """`services`: one service-time model per packing that the runner can do."""
        self.model = model
        self.batching = Batching(model, parameters, services)
        self.queues: list[TierQueue] = []
        self.by_tier: dict[str, TierQueue] = {}  # of the rows that come
        self._relegated: dict[str, TierQueue] = {}
        self._held_back: dict[TierQueue, TierQueue] = {}  # by the queue where rows waited before
        self.sets_apart = False  # whether rows of a tier may wait in more queues than one
        self.apply(parameters)

    def apply(self, parameters: Parameters) -> None:
        """Take on new parameters; rows that wait keep waiting."""
        self._all = parameters
        self.batching.apply(parameters)
        for tier, promised in parameters.tiers.items():
            self.queue(tier, late=promised.relegates)
        for queue in self.queues:
            queue.apply(parameters.tiers.get(queue.tier))

    def queue(self, tier: str, *, late: bool = False) -> TierQueue:
        """The queue of a tier, or that of its relegated rows."""
        if tier not in self.by_tier:
            self.by_tier[tier] = self._add_queue(tier)
        if not late:
            return self.by_tier[tier]
        if tier not in self._relegated:
            self._relegated[tier] = self._add_queue(tier, late=True)
        return self._relegated[tier]

    def queue_of(self, row: Row) -> TierQueue:
        """The queue that a row of this model waits in, or came from."""
        queue = self.queue(row.tier, late=row.relegated)
        return self._held_back[queue] if row.held_back else queue

    def waiting(self, tier: str) -> int:
        """Rows of a tier that wait, wherever."""
        return sum(len(queue.rows) for queue in self.queues if queue.tier == tier)

    def _add_queue(self, tier: str, *, late: bool = False, held_back: bool = False) -> TierQueue:
        queue = self._new_queue(tier, late=late, held_back=held_back)
        queue.apply(self._all.tiers.get(tier))
        self.queues.append(queue)
        self.sets_apart |= late or held_back
        return queue

    def _new_queue(self, tier: str, *, late: bool, held_back: bool) -> TierQueue:
        return TierQueue(self.batching, tier, late=late, held_back=held_back)

    def plan(self, turn: Turn, start_s: float, riders: Sequence[Turn]) -> Plan:
        """The next batch of a queue; what it runs or sheds leaves the queue.

        Of `riders`, rows fill the room in an urgent batch, each up to its own limit.
        """
        queue, limit_s, hold_s = turn
        terms = queue.terms(start_s, limit_s)
        rows = queue.rows
        if self.batching.is_constant:
            plan = constant.plan(rows, terms)
        elif queue.urgent:
            plan = adaptive.plan(rows, terms)
        else:
            plan = self._plan_slice(queue, terms, hold_s)
        rows.remove(plan.shed)
        rows.remove(plan.rows)
        if queue.urgent:
            self.batching.door.planned(ran=len(plan.rows), shed=len(plan.shed))
        if queue.held_back and plan.rows:
            queue.waiting_since_s = start_s
        for rider, longest_s, rider_hold_s in riders if plan.rows else ():
            if self._alone_s(rider.rows.head) > rider_hold_s:  # or nobody behind it would ride
                self._hold_back(rider, rider.rows.window(HOLD_AT_ONCE), rider_hold_s, start_s)
            own = len(plan.rows)
            terms = rider.terms(start_s, longest_s)
            plan = slices.top_up(plan, rider.rows, terms, queue.margin_s)
            rider.rows.remove(plan.rows[own:])
        return plan

    def _plan_slice(self, queue: TierQueue, terms: Terms, hold_s: float) -> Plan:
        """Of a bulk queue. Empty with a time where so many rows are held back that those behind
        them must wait until then."""
        for _ in range(HOLDS_PER_PLAN):
            plan = slices.plan(queue.rows, terms)
            if plan.predicted_s * terms.caution <= hold_s:
                return plan
            if not any(self._alone_s(row) > hold_s for row in plan.rows):
                return plan
            front = queue.rows.window(HOLD_AT_ONCE)
            self._hold_back(queue, [*plan.rows, *front], hold_s, terms.start_s)
            if not queue.rows:
                return Plan((), plan.reason)
        return Plan((), plan.reason, wait_until_s=terms.start_s)

    def _hold_back(
        self, queue: TierQueue, rows: Iterable[Row], hold_s: float, now_s: float
    ) -> None:
        """Of these rows, have those wait apart that alone take longer than `hold_s`."""
        rows = [row for row in dict.fromkeys(rows) if self._alone_s(row) > hold_s]
        queue.rows.remove(rows)
        for row in rows:
            row.held_back = True
        if queue not in self._held_back:
            apart = self._add_queue(queue.tier, late=queue.late, held_back=True)
            self._held_back[queue] = apart
        self._held_back[queue].put(rows, now_s)

    def _alone_s(self, row: Row) -> float:
        return self.batching.alone_s(row.tokens)

    def batch_of(self, plan: Plan) -> Batch:
        work = Work.of(plan.rows)
        computed = self.batching.service.computed_tokens(work)
        return Batch(
            self.model,
            plan.rows,
            self.batching.packing,
            plan.reason,
            plan.predicted_s,
            computed,
            work=work,
        )

    def shares(self, plan: Plan) -> list[tuple[TierQueue, float]]:
        """The part of a batch that each queue has, by tokens."""
        groups = self.by_queue(plan.rows)
        if len(groups) == 1:  # the usual case
            return [(queue, 1.0) for queue in groups]
        parts = {queue: sum(row.tokens for row in group) for queue, group in groups.items()}
        tokens = max(sum(parts.values()), 1)
        return [(queue, part / tokens) for queue, part in parts.items()]

    def by_queue(self, rows: Iterable[Row]) -> dict[TierQueue, list[Row]]:
        groups: dict[tuple[str, bool], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.tier, row.relegated), []).append(row)
        return {self.queue(tier, late=late): group for (tier, late), group in groups.items()}

    def completed(
        self, batch: Batch, finished_s: float, ended: Collection[Row], failed: Collection[Row] = ()
    ) -> Sequence[Row]:
        """A batch is done, and with it these rows; those whose deadline was for its end."""
        self.batching.memory.relax(finished_s)
        return batch.rows

    def cancel(self, row: Row) -> bool:
        """Take a row out; False where it is not here any more, or cannot be stopped."""
        rows = self.queue_of(row).rows
        if row not in rows:
            return False
        rows.remove([row])
        return True

    def is_full(self, tier: str, calm_s: float) -> bool:
        """Whether a whole packed batch waits, and nobody's deadline is before `calm_s`.

        A padded batch still gains by better neighbours.
        """
        rows = self.queue(tier).rows
        batching = self.batching
        if batching.packing is not Packing.PACKED or batching.is_constant:
            return False
        if rows.earliest_deadline_s < calm_s:
            return False
        most = batching.parameters.max_batch_size
        return len(rows) >= most or rows.tokens >= batching.max_tokens

    def learn(self, batch: Batch, started_s: float, finished_s: float) -> None:
        work = batch.work or Work.of(batch.rows)
        self.batching.learn(batch, work, started_s, finished_s)

    def queue_snapshots(self, now_s: float) -> list[QueueSnapshot]:
        """By tier; relegated rows wait in their tier, too, and so do those held back."""
        snapshots = []
        for tier, queue in self.by_tier.items():
            waiting = [each for each in self.queues if each.tier == tier]
            snapshots.append(
                QueueSnapshot(
                    self.model,
                    tier,
                    depth=sum(len(each.rows) for each in waiting),
                    tokens=sum(each.rows.tokens for each in waiting),
                    backlog_s=sum(each.drain_s() for each in waiting),
                    offered_load=queue.load.load(now_s),
                )
            )
        return snapshots
