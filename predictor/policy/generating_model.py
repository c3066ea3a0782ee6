"""A model whose rows run more than once: it runs in steps, each of which is planned here.

Rows that decode want a token within their `itl_slo_s` of the last one, and all of them wait until
the step has ended. So a step may be as long as the tightest of these, and what the decodes leave of
it goes to prompts, in chunks (Sarathi-Serve, Agrawal et al., OSDI 2024, but with a chunk that is
worked out for each step). In this order:

1. urgent rows decode, always;
2. a bulk queue that is owed time;
3. prompts of urgent rows, by deadline;
4. bulk rows decode, and 5. their prompts are computed, within the slice that bulk may take.

Prompts that would be late are given up (see promptness), rows that had their first token never.

Pages that nobody holds are taken first, then bulk rows get none and are paused; for an urgent row,
bulk rows are evicted at last, those that lose least first. Bulk leaves free what urgent rows
recently needed, so that this stays rare.

Up to two steps are on the device. So a row may have ended in one and take part in the next: the
token is dropped.
"""

import math
from collections.abc import Collection, Sequence
from typing import cast

from predictor.core.facts import GenerationSnapshot
from predictor.core.model import GenerationSpec
from predictor.core.parameters import Parameters
from predictor.core.rows import AT_ITS_END, NO_DEADLINE, Batch, Packing, Row
from predictor.core.work import NOTHING
from predictor.policy.forming import Forming, StepPlan, StepTerms
from predictor.policy.generating_queue import GeneratingQueue, Siblings
from predictor.policy.kv_cache import KVCache
from predictor.policy.model_queues import ModelQueues
from predictor.policy.output_lengths import OutputLengths
from predictor.policy.plan import Plan
from predictor.policy.promptness import late_prompts
from predictor.policy.service_time import ServiceTimeModel
from predictor.policy.tier_queue import TierQueue, Turn

PEAK_MEMORY_S = 15.0  # how long it is remembered what urgent rows needed


class GeneratingModel(ModelQueues):
    """The queues of a generating model, and what the device holds of their rows."""

    steps = True

    def __init__(
        self,
        model: str,
        parameters: Parameters,
        service: ServiceTimeModel,
        spec: GenerationSpec,
        *,
        prefix_cache: bool = True,
    ) -> None:
        self.cache = KVCache(spec, caching=prefix_cache)
        self._siblings: Siblings | None = None
        self._lengths: dict[str, OutputLengths] = {}
        self._peak_pages = 0.0
        self._peak_rows = 0.0
        self._peak_s = -math.inf
        self._ended_s = math.nan  # the last step
        super().__init__(model, parameters, [service])

    @property
    def siblings(self) -> Siblings:
        if self._siblings is None:
            self._siblings = Siblings(self.batching, self.cache)
        return self._siblings

    @property
    def by_urgency(self) -> list[GeneratingQueue]:
        return sorted(self.siblings.queues, key=lambda queue: (not queue.urgent, queue.rank))

    def _new_queue(self, tier: str, *, late: bool, held_back: bool) -> TierQueue:
        lengths = self._lengths.setdefault(tier, OutputLengths())
        queue = GeneratingQueue(self.siblings, tier, lengths, late=late)
        self.siblings.queues.append(queue)
        return queue

    @property
    def has_work(self) -> bool:
        return any(queue.running.has_work or queue.displaced for queue in self.siblings.queues)

    def displaced(self) -> list[tuple[TierQueue, list[Row]]]:
        """Rows that gave way to others since this was last asked, by queue."""
        found: list[tuple[TierQueue, list[Row]]] = []
        for queue in self.siblings.queues:
            if queue.displaced:
                found.append((queue, queue.displaced))
                queue.displaced = []
        return found

    # Steps.

    def plan(self, turn: Turn, start_s: float, riders: Sequence[Turn]) -> Plan:
        """The next step, which `turn.queue` brings about; all queues have a part in it."""
        queues = self.by_urgency
        urgent = [queue for queue in queues if queue.urgent]
        bulk = [queue for queue in queues if not queue.urgent]
        limits = {rider.queue: rider.limit_s for rider in riders}
        limits[turn.queue] = turn.limit_s
        limit_s = self.siblings.limit_s()
        spare_pages, spare_rows = self._spare(urgent, start_s)
        forming = Forming(
            self.cache,
            queues,
            StepTerms(
                start_s=start_s,
                service=self.batching.service,
                max_rows=self.siblings.max_rows,
                max_tokens=self.batching.max_tokens,
                limits_s={
                    queue: limit_s
                    if queue.urgent
                    else min(limit_s, limits.get(queue, turn.limit_s))
                    for queue in queues
                },
                spare_pages=spare_pages,
                spare_rows=spare_rows,
            ),
        )
        for queue in urgent:
            forming.decode(queue)
        if not turn.queue.urgent:
            owed = cast("GeneratingQueue", turn.queue)
            forming.decode(owed)
            forming.prefill([owed])
        shed = self._late(urgent, start_s, limit_s)
        forming.prefill(urgent)
        others = [queue for queue in bulk if queue is not turn.queue]
        for queue in others:
            forming.decode(queue)
        forming.prefill(others)
        if forming.is_empty and self.cache.steps_ended == self.cache.steps_planned:
            forming.unblock()
        return self._planned(forming, shed)

    def _planned(self, forming: Forming, shed: list[Row]) -> StepPlan:
        plan = forming.finish(shed)
        if plan.rows:
            self.cache.steps_planned += 1
            for queue in plan.parts:
                queue.stepped(plan.predicted_s)
        return plan

    def shares(self, plan: Plan) -> list[tuple[TierQueue, float]]:
        """The part of a step that each queue has, by the time that its rows add."""
        assert isinstance(plan, StepPlan)
        if len(plan.parts) == 1:
            return [(queue, 1.0) for queue in plan.parts]
        predict_s = self.batching.service.predict_s
        alone_s = predict_s(NOTHING)
        added = {queue: predict_s(work) - alone_s for queue, work in plan.parts.items()}
        total_s = sum(added.values()) or 1.0
        return [(queue, added_s / total_s) for queue, added_s in added.items()]

    def batch_of(self, plan: Plan) -> Batch:
        assert isinstance(plan, StepPlan)
        work = plan.work
        computed = self.batching.service.computed_tokens(work)
        return Batch(
            self.model,
            plan.rows,
            Packing.PAGED,
            plan.reason,
            plan.predicted_s,
            computed,
            plan.pieces,
            work,
        )

    def _late(self, urgent: Sequence[GeneratingQueue], start_s: float, limit_s: float) -> list[Row]:
        """Rows whose first token would be late, or make others late. They leave."""
        prompts = [prompt for queue in urgent for prompt in queue.unanswered()]
        if not prompts:
            return []
        if len(urgent) > 1:
            prompts.sort(key=lambda prompt: prompt.deadline_s)
        rate = self.siblings.prompt_rate(limit_s)
        late = [prompt.row for prompt in late_prompts(prompts, start_s, rate)]
        for queue in urgent:
            shed = 0
            for row in late:
                if row in queue.running:
                    queue.running.end(row)
                    shed += 1
                elif row in queue.rows:
                    queue.rows.remove([row])
                    shed += 1
            queue.pessimism.planned(ran=0, shed=shed)
        return late

    def _spare(self, urgent: Sequence[GeneratingQueue], now_s: float) -> tuple[int, int]:
        """Pages and rows that bulk leaves to urgent rows yet to come: they had so many more."""
        pages = sum(queue.running.pages_held for queue in urgent)
        rows = sum(queue.running.size for queue in urgent)
        decay = math.exp(-max(now_s - self._peak_s, 0.0) / PEAK_MEMORY_S)
        self._peak_s = now_s
        self._peak_pages = max(pages, decay * self._peak_pages)
        self._peak_rows = max(rows, decay * self._peak_rows)
        return math.ceil(self._peak_pages - pages), math.ceil(self._peak_rows - rows)

    def completed(
        self, batch: Batch, finished_s: float, ended: Collection[Row], failed: Collection[Row] = ()
    ) -> list[Row]:
        """A step is done, and with it some rows; those that had their first token in it."""
        self.cache.steps_ended += 1
        gone = set(failed)
        first: list[Row] = []
        for piece in batch.pieces:
            if piece.start == AT_ITS_END:
                break  # those of prompts come first
            row = piece.row
            queue = self._generating(row)
            queue.running.ran(piece)
            if row in gone or row not in queue.running:
                continue
            queue.running.computed(piece)
            if piece.samples and row.progress is not None and len(row.progress.output) == 1:
                first.append(row)
        self._judge_gaps(batch, finished_s)
        for row in failed:
            self._generating(row).running.distrust(row)
        for row in ended:
            queue = self._generating(row)
            if row in queue.running:
                queue.running.end(row)
                queue.ends.add(1.0, finished_s)
        for row in first:
            self._generating(row).pessimism.planned(ran=1, shed=0)
        return first

    def _judge_gaps(self, batch: Batch, finished_s: float) -> None:
        """Did rows that decode have their token in time?"""
        gap_s = finished_s - self._ended_s
        self._ended_s = finished_s if len(batch.pieces) else math.nan
        if math.isnan(gap_s) or not batch.pieces or batch.pieces[-1].start != AT_ITS_END:
            return
        for queue in self.siblings.queues:
            if queue.itl_slo_s < NO_DEADLINE and queue.running.decoding.rows:
                if gap_s > queue.itl_slo_s:
                    queue.gap_margin.missed(1)
                else:
                    queue.gap_margin.kept(1)

    def cancel(self, row: Row) -> bool:
        queue = self._generating(row)
        if row in queue.displaced:
            return False
        if row in queue.running:
            queue.running.end(row)
            return True
        return super().cancel(row)

    def _generating(self, row: Row) -> GeneratingQueue:
        return cast("GeneratingQueue", self.queue_of(row))

    def is_full(self, tier: str, calm_s: float) -> bool:
        """A step is never settled before the last moment: a prompt may still come."""
        return False

    def generation_snapshot(self) -> GenerationSnapshot:
        pages = self.cache.pages
        running = dict.fromkeys(self.by_tier, 0)
        for queue in self.siblings.queues:
            running[queue.tier] += queue.running.size + len(queue.running.evicted)
        return GenerationSnapshot(
            self.model,
            pages_used=pages.used,
            pages_cached=pages.cached,
            pages_free=pages.count - pages.used - pages.cached,
            running=running,
            recomputed_tokens=sum(q.running.recomputed_tokens for q in self.siblings.queues),
        )
