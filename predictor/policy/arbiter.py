"""Which queue goes next, and how long its batch may be.

In this order:

1. a tier that is owed a slice (see shares);
2. urgent queues: the least slack first. Where more is asked than the device can do, first those
   that ask for less than their fair part, by slack, then the one that got least for its weight;
3. bulk queues, in slices (see slices): the more urgent tier first; in a tier the model that got
   least of late.

A bulk row that alone takes nearly as long as an urgent row may wait fits into no slice, and cannot
be run in pieces. It is held back until no more urgent tier is in use. Where its tier has a share,
or it is older than `max_age_s`, it goes sooner, but so seldom that urgent rows find the device
taken for too long for no more than `LATE_FOR_LONG_ROWS` of the time. In such rows, a share of 5%
would make 2.5% of the urgent rows late.

A constant-policy model is the textbook baseline: its queues go by the same rule, without slices.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from predictor.core.parameters import Parameters
from predictor.core.rows import NO_DEADLINE, Row
from predictor.policy.load import Hysteresis
from predictor.policy.model_queues import ModelQueues
from predictor.policy.shares import AGED_SHARE, Credit, fair_level
from predictor.policy.slices import Demand, longest_slice_s
from predictor.policy.tier_queue import TierQueue, Turn

IN_USE_S = 10.0  # a tier that had no row for so long is not in use
SLICE_MEMORY_S = 0.05  # the longest slice is worked out anew this often
OWED_SHARE_OF_SLO = 0.25  # a slice that is owed may be this long, or it would be of no use
LONGEST_ROW_OF_SLO = 0.75  # a row within this runs, though it be longer than a slice
LEEWAY = 1.03  # and so does one that is hardly longer than what would leave urgent rows in time
LATE_FOR_LONG_ROWS = 0.005


class Contention(NamedTuple):
    """What other queues cost a row: device seconds of theirs that go before it, and how many
    times as long it is from one batch of its queue to the next, for the share that they have."""

    ahead_s: float
    stretch: float


UNCONTENDED = Contention(0.0, 1.0)


class Arbiter:
    """Decides between the queues of one device. Time is an argument."""

    def __init__(self, parameters: Parameters) -> None:
        self._models: dict[str, ModelQueues] = {}
        self._in_steps: list[ModelQueues] = []  # those whose rows run more than once
        self._overload = Hysteresis()
        self._credits: dict[str, Credit] = {}
        self._slice_s = NO_DEADLINE
        self._slice_worked_out_s = -NO_DEADLINE
        self.apply(parameters)

    def add(self, model: ModelQueues) -> None:
        self._models[model.model] = model
        if model.steps:
            self._in_steps.append(model)

    def apply(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._slice_worked_out_s = -NO_DEADLINE
        for tier in parameters.tiers:
            self._credits.setdefault(tier, Credit())

    def turns(self, start_s: float, now_s: float, lead_s: float) -> Iterator[Turn]:
        """The queues with rows, in the order in which they should be asked for a batch."""
        waiting = [queue for queue in self._queues() if queue.has_work]
        if len(waiting) == 1 and not waiting[0].min_share:  # the usual case
            (only,) = waiting
            if only.urgent:
                yield Turn(only, self._room_s(only))
            elif not only.held_back or self._released_s(only, now_s, lead_s) <= now_s:
                yield self._slice(only, now_s, lead_s)
            return
        held_back = {
            queue: self._released_s(queue, now_s, lead_s) for queue in waiting if queue.held_back
        }
        if held_back:
            waiting = [queue for queue in waiting if held_back.get(queue, now_s) <= now_s]
        owed = list(self._owed(waiting, now_s, lead_s))
        yield from owed
        first = {turn.queue for turn in owed}
        urgent = [queue for queue in waiting if queue.urgent and queue not in first]
        for queue in sorted(urgent, key=self._urgency(start_s, now_s)) if urgent else ():
            yield Turn(queue, self._room_s(queue))
        bulk = [queue for queue in waiting if not queue.urgent and queue not in first]
        for queue in sorted(bulk, key=lambda queue: queue.bulk_order(now_s)):
            yield self._slice(queue, now_s, lead_s)

    def released_s(self, now_s: float, lead_s: float) -> float:
        """When the next row that is held back may run; NO_DEADLINE where none is."""
        return min(
            (
                self._released_s(queue, now_s, lead_s)
                for queue in self._queues()
                if queue.held_back and queue.rows
            ),
            default=NO_DEADLINE,
        )

    def riders(self, queue: TierQueue, now_s: float, lead_s: float) -> list[Turn]:
        """Whose rows may fill the room in a batch of an urgent queue: bulk of the same model.

        Each no further than to the longest slice that its own tier allows.
        """
        if not queue.urgent or queue.batching.is_constant:
            return []
        bulk = [
            other
            for other in self._models[queue.batching.model].queues
            if other.has_work and not other.urgent and not other.held_back
        ]
        bulk.sort(key=lambda other: other.rank)
        return [self._slice(other, now_s, lead_s) for other in bulk]

    def slice_s(self, queue: TierQueue, now_s: float, lead_s: float) -> float:
        """The longest batch of a bulk queue, for the sake of those that are more urgent."""
        if queue.batching.is_constant:
            return NO_DEADLINE
        if not now_s - self._slice_worked_out_s < SLICE_MEMORY_S:
            self._slice_worked_out_s = now_s
            self._slice_s = longest_slice_s(self._demands(now_s), lead_s)
        return min(self._slice_s, self._max_slice_s(queue, now_s), self._room_s(queue))

    def _room_s(self, queue: TierQueue) -> float:
        """How long a batch may be for the sake of rows of other models that generate."""
        room_s = NO_DEADLINE
        for model in self._in_steps:
            if model.batching is not queue.batching:
                room_s = min([room_s, *(other.room_s for other in model.queues)])
        return room_s

    def overloaded(self, now_s: float) -> bool:
        """Whether more urgent work arrives than the device can do."""
        return self._overload.update(sum(queue.load.load(now_s) for queue in self._urgent_queues()))

    def commits_early(self, now_s: float) -> bool:
        """Whether the next batch may be formed long before its start: nobody more urgent would
        have to wait for it then, too."""
        in_use = False
        for queue in self._queues():
            if queue.urgent or queue.batching.is_constant:
                if queue.has_work:
                    return True
                in_use |= queue.last_arrival_s >= now_s - IN_USE_S
        return not in_use

    def ran(
        self, shares: Iterable[tuple[TierQueue, float]], predicted_s: float, now_s: float
    ) -> None:
        """A batch was given to the device: account for its time, by the part of each queue."""
        for queue, share in shares:
            used_s = share * predicted_s
            queue.served.add(used_s, now_s)
            credit = self._credits.get(queue.tier)
            if credit is None:  # of a tier that is gone
                credit = self._credits[queue.tier] = Credit()
            credit.spend(used_s)

    def ended(self, model: ModelQueues, rows: Iterable[Row], finished_s: float) -> None:
        """A batch is done: were its urgent rows in time, beside bulk work?"""
        if not self._learns_margins(finished_s):
            return
        for queue, group in model.by_queue(rows).items():
            if queue.urgent:
                late = sum(row.deadline_s < finished_s for row in group)
                queue.margin.kept(len(group) - late)
                queue.margin.missed(late)

    def missed(self, queue: TierQueue, rows: int, now_s: float) -> None:
        """Rows of a queue were given up, or not let in."""
        if queue.urgent and self._learns_margins(now_s):
            queue.margin.missed(rows)

    def _learns_margins(self, now_s: float) -> bool:
        """Whether it says something of bulk work if an urgent row is late."""
        bulk_waits = any(queue.has_work and not queue.urgent for queue in self._queues())
        return bulk_waits and not self.overloaded(now_s)

    def contention(self, queue: TierQueue, deadline_s: float, now_s: float) -> Contention:
        """What other queues cost a new row of this one."""
        # Another queue can cost this one something by rows that wait, or by those it expects.
        others = [
            other for other in self._queues() if other is not queue and (other.rows or other.urgent)
        ]
        if not others:  # the usual case, for every request
            return UNCONTENDED
        level = self._level(now_s) if self.overloaded(now_s) else NO_DEADLINE
        ahead_s = 0.0
        for other in others:
            if not other.rows or other.held_back:
                continue
            if other.steps and other.batching is queue.batching:
                continue  # who shares steps is counted where the row is let in
            if queue.urgent and other.urgent:
                if _floods(other, level, now_s) or other.rows.earliest_deadline_s > deadline_s:
                    continue
            elif other.rank >= queue.rank:
                continue
            ahead_s += other.ahead_s()
        taken = sum(
            self._parameters.tiers[tier].min_share
            for tier in {other.tier for other in others if other.rows and other.known}
            if tier != queue.tier
        )
        for model in self._in_steps:
            if model.batching is not queue.batching:
                taken += sum(other.served.per_s(now_s) for other in model.queues if other.urgent)
        if _floods(queue, level, now_s):
            urgent = (other for other in others if other.urgent)
            taken += sum(min(each.load.load(now_s), level * each.weight) for each in urgent)
        return Contention(ahead_s, 1.0 / max(1.0 - taken, 0.1))

    def _queues(self) -> Iterator[TierQueue]:
        for model in self._models.values():
            yield from model.queues

    def _urgent_queues(self) -> Iterator[TierQueue]:
        return (queue for queue in self._queues() if queue.urgent)

    def _owed(self, waiting: Iterable[TierQueue], now_s: float, lead_s: float) -> Iterator[Turn]:
        """Queues of tiers that are owed a slice by now."""
        by_tier: dict[str, list[TierQueue]] = {}
        for queue in waiting:
            if queue.held_back:
                if self.overloaded(now_s):  # else it waits for a moment without urgent rows
                    yield self._slice(queue, now_s, lead_s)
                continue
            by_tier.setdefault(queue.tier, []).append(queue)
        for tier, credit in self._credits.items():
            queues = by_tier.get(tier)
            if not queues:
                continue
            share = max(queue.min_share for queue in queues)
            if any(now_s - queue.oldest_s() > queue.max_age_s for queue in queues):
                share = max(share, AGED_SHARE)
            if not share:
                continue
            since_s = min(queue.waiting_since_s for queue in queues)
            owed_s = credit.owed_s(share, since_s, now_s)
            queue = min(queues, key=lambda queue: (queue.late, queue.served.per_s(now_s)))
            limit_s = self._owed_slice_s(queue, now_s, lead_s)
            if owed_s >= min(limit_s, queue.drain_s(), queue.full_batch_s()):
                yield Turn(queue, limit_s, self._hold_s(queue, now_s))

    def _owed_slice_s(self, queue: TierQueue, now_s: float, lead_s: float) -> float:
        if queue.urgent:
            return NO_DEADLINE
        longest_s = max(
            self.slice_s(queue, now_s, lead_s), self._parameters.tightest_slo_s * OWED_SHARE_OF_SLO
        )
        return min(longest_s, self._max_slice_s(queue, now_s))

    def _max_slice_s(self, queue: TierQueue, now_s: float) -> float:
        """The limit that the tier sets itself, while a more urgent one is in use."""
        limit_s = queue.max_slice_s
        if limit_s == NO_DEADLINE:
            return limit_s
        in_use = any(
            other.urgent and other.rank < queue.rank and other.last_arrival_s >= now_s - IN_USE_S
            for other in self._queues()
        )
        return limit_s if in_use else NO_DEADLINE

    def _slice(self, queue: TierQueue, now_s: float, lead_s: float) -> Turn:
        """The turn of a bulk queue."""
        limit_s = self.slice_s(queue, now_s, lead_s)
        hold_s = NO_DEADLINE if queue.held_back else self._hold_s(queue, now_s)
        return Turn(queue, limit_s, hold_s)

    def _hold_s(self, queue: TierQueue, now_s: float) -> float:
        """The longest that a single row may take beside more urgent tiers that are in use."""
        slo_s, margin_s = NO_DEADLINE, 0.0
        for other in self._queues():
            if other.slo_s < slo_s and _yields(queue, other, now_s):
                slo_s, margin_s = other.slo_s, other.margin_s
        if slo_s == NO_DEADLINE or queue.batching.is_constant:
            return NO_DEADLINE
        return max(LEEWAY * (self._slice_s + margin_s), LONGEST_ROW_OF_SLO * slo_s)

    def _released_s(self, queue: TierQueue, now_s: float, lead_s: float) -> float:
        """When the first row of those held back may run; the past where it may now."""
        self.slice_s(queue, now_s, lead_s)  # worked out anew where it is old
        row = queue.rows.head
        takes_s, hold_s = queue.batching.alone_s(row.tokens), self._hold_s(queue, now_s)
        if takes_s <= hold_s:
            return now_s
        unused_s = max(
            other.last_arrival_s for other in self._queues() if _yields(queue, other, now_s)
        )
        share = queue.min_share
        aged_s = row.arrival_s + queue.max_age_s
        if aged_s <= now_s:
            share = max(share, AGED_SHARE)
        due_s = aged_s
        if share:
            late_s = takes_s - hold_s  # so long do urgent rows that come find no room
            every_s = max(takes_s / share, late_s / LATE_FOR_LONG_ROWS)
            due_s = queue.waiting_since_s + every_s
        return min(unused_s + IN_USE_S, due_s)

    def _demands(self, now_s: float) -> list[Demand]:
        return [
            Demand(queue.usable_slo_s, *queue.demand(now_s))
            for queue in self._urgent_queues()
            if not queue.batching.is_constant
        ]

    def _urgency(self, start_s: float, now_s: float) -> Callable[[TierQueue], tuple[float, ...]]:
        level = self._level(now_s) if self.overloaded(now_s) else NO_DEADLINE

        def key(queue: TierQueue) -> tuple[float, ...]:
            if _floods(queue, level, now_s):
                return (1.0, queue.served.per_s(now_s) / queue.weight)
            return (0.0, queue.slack_s(start_s))

        return key

    def _level(self, now_s: float) -> float:
        queues = list(self._urgent_queues())
        loads = [queue.load.load(now_s) for queue in queues]
        return fair_level(loads, [queue.weight for queue in queues])


def _yields(queue: TierQueue, other: TierQueue, now_s: float) -> bool:
    """Whether a bulk queue gives way to another one: it is urgent, and in use."""
    return (
        other.urgent
        and other.rank < queue.rank
        and other.last_arrival_s > now_s - IN_USE_S
        and not other.batching.is_constant
    )


def _floods(queue: TierQueue, level: float, now_s: float) -> bool:
    """Whether a queue asks for more than its fair part."""
    return queue.load.load(now_s) > level * queue.weight
