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

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from predictor.core.parameters import Parameters
from predictor.core.rows import NO_DEADLINE, Row
from predictor.policy.flow import Flow, Turn
from predictor.policy.lane import Lane
from predictor.policy.load import Hysteresis
from predictor.policy.plan import Plan
from predictor.policy.shares import AGED_SHARE, Credit, fair_level
from predictor.policy.slices import Demand, longest_slice_s

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
        self._lanes: list[Lane] = []
        self._overload = Hysteresis()
        self._credits: dict[str, Credit] = {}
        self._slice_s = NO_DEADLINE
        self._slice_worked_out_s = -NO_DEADLINE
        self.apply(parameters)

    def add(self, lane: Lane) -> None:
        self._lanes.append(lane)

    def apply(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._slice_worked_out_s = -NO_DEADLINE
        for tier in parameters.tiers:
            self._credits.setdefault(tier, Credit())

    def turns(self, start_s: float, now_s: float, lead_s: float) -> Iterator[Turn]:
        """The queues with rows, in the order in which they should be asked for a batch."""
        waiting = [flow for flow in self._flows() if flow.queue]
        if len(waiting) == 1 and not waiting[0].min_share:  # the usual case
            (only,) = waiting
            if only.urgent:
                yield Turn(only, NO_DEADLINE)
            elif not only.held_back or self._released_s(only, now_s, lead_s) <= now_s:
                yield self._slice(only, now_s, lead_s)
            return
        held_back = {
            flow: self._released_s(flow, now_s, lead_s) for flow in waiting if flow.held_back
        }
        if held_back:
            waiting = [flow for flow in waiting if held_back.get(flow, now_s) <= now_s]
        owed = list(self._owed(waiting, now_s, lead_s))
        yield from owed
        first = {turn.flow for turn in owed}
        urgent = [flow for flow in waiting if flow.urgent and flow not in first]
        for flow in sorted(urgent, key=self._urgency(start_s, now_s)) if urgent else ():
            yield Turn(flow, NO_DEADLINE)
        bulk = [flow for flow in waiting if not flow.urgent and flow not in first]
        for flow in sorted(bulk, key=lambda flow: flow.bulk_order(now_s)):
            yield self._slice(flow, now_s, lead_s)

    def released_s(self, now_s: float, lead_s: float) -> float:
        """When the next row that is held back may run; NO_DEADLINE where none is."""
        return min(
            (
                self._released_s(flow, now_s, lead_s)
                for flow in self._flows()
                if flow.held_back and flow.queue
            ),
            default=NO_DEADLINE,
        )

    def riders(self, flow: Flow, now_s: float, lead_s: float) -> list[Turn]:
        """Whose rows may fill the room in a batch of an urgent queue: bulk of the same model.

        Each no further than to the longest slice that its own tier allows.
        """
        if not flow.urgent or flow.lane.is_constant:
            return []
        bulk = [
            other
            for other in flow.lane.flows
            if other.queue and not other.urgent and not other.held_back
        ]
        bulk.sort(key=lambda other: other.rank)
        return [self._slice(other, now_s, lead_s) for other in bulk]

    def slice_s(self, flow: Flow, now_s: float, lead_s: float) -> float:
        """The longest batch of a bulk queue, for the sake of those that are more urgent."""
        if flow.lane.is_constant:
            return NO_DEADLINE
        if not now_s - self._slice_worked_out_s < SLICE_MEMORY_S:
            self._slice_worked_out_s = now_s
            self._slice_s = longest_slice_s(self._demands(now_s), lead_s)
        return min(self._slice_s, self._max_slice_s(flow, now_s))

    def overloaded(self, now_s: float) -> bool:
        """Whether more urgent work arrives than the device can do."""
        return self._overload.update(sum(flow.load.load(now_s) for flow in self._urgent_flows()))

    def commits_early(self, now_s: float) -> bool:
        """Whether the next batch may be formed long before its start: nobody more urgent would
        have to wait for it then, too."""
        in_use = False
        for flow in self._flows():
            if flow.urgent or flow.lane.is_constant:
                if flow.queue:
                    return True
                in_use |= flow.last_arrival_s >= now_s - IN_USE_S
        return not in_use

    def ran(self, plan: Plan, lane: Lane, now_s: float) -> None:
        """A batch was given to the device: account for its time, by tokens."""
        for flow, share in _shares(plan.rows, lane):
            used_s = share * plan.predicted_s
            flow.served.add(used_s, now_s)
            credit = self._credits.get(flow.tier)
            if credit is None:  # of a tier that is gone
                credit = self._credits[flow.tier] = Credit()
            credit.spend(used_s)

    def ended(self, rows: Iterable[Row], lane: Lane, finished_s: float) -> None:
        """A batch is done: were its urgent rows in time, beside bulk work?"""
        if not self._learns_margins(finished_s):
            return
        for flow, group in _by_flow(rows, lane).items():
            if flow.urgent:
                late = sum(row.deadline_s < finished_s for row in group)
                flow.margin.kept(len(group) - late)
                flow.margin.missed(late)

    def missed(self, flow: Flow, rows: int, now_s: float) -> None:
        """Rows of a queue were given up, or not let in."""
        if flow.urgent and self._learns_margins(now_s):
            flow.margin.missed(rows)

    def _learns_margins(self, now_s: float) -> bool:
        """Whether it says something of bulk work if an urgent row is late."""
        bulk_waits = any(flow.queue and not flow.urgent for flow in self._flows())
        return bulk_waits and not self.overloaded(now_s)

    def contention(self, flow: Flow, deadline_s: float, now_s: float) -> Contention:
        """What other queues cost a new row of this one."""
        others = [other for other in self._flows() if other is not flow and other.matters]
        if not others:  # the usual case, for every request
            return UNCONTENDED
        level = self._level(now_s) if self.overloaded(now_s) else NO_DEADLINE
        ahead_s = 0.0
        for other in others:
            if not other.queue or other.held_back:
                continue
            if flow.urgent and other.urgent:
                if _floods(other, level, now_s) or other.queue.earliest_deadline_s > deadline_s:
                    continue
            elif other.rank >= flow.rank:
                continue
            ahead_s += other.lane.drain_s(other)
        taken = sum(
            self._parameters.tiers[tier].min_share
            for tier in {other.tier for other in others if other.queue and other.known}
            if tier != flow.tier
        )
        if _floods(flow, level, now_s):
            urgent = (other for other in others if other.urgent)
            taken += sum(min(each.load.load(now_s), level * each.weight) for each in urgent)
        return Contention(ahead_s, 1.0 / max(1.0 - taken, 0.1))

    def _flows(self) -> Iterator[Flow]:
        for lane in self._lanes:
            yield from lane.flows

    def _urgent_flows(self) -> Iterator[Flow]:
        return (flow for flow in self._flows() if flow.urgent)

    def _owed(self, waiting: Iterable[Flow], now_s: float, lead_s: float) -> Iterator[Turn]:
        """Queues of tiers that are owed a slice by now."""
        by_tier: dict[str, list[Flow]] = {}
        for flow in waiting:
            if flow.held_back:
                if self.overloaded(now_s):  # else it waits for a moment without urgent rows
                    yield self._slice(flow, now_s, lead_s)
                continue
            by_tier.setdefault(flow.tier, []).append(flow)
        for tier, credit in self._credits.items():
            flows = by_tier.get(tier)
            if not flows:
                continue
            share = max(flow.min_share for flow in flows)
            if any(now_s - flow.oldest_s() > flow.max_age_s for flow in flows):
                share = max(share, AGED_SHARE)
            if not share:
                continue
            since_s = min(flow.waiting_since_s for flow in flows)
            owed_s = credit.owed_s(share, since_s, now_s)
            flow = min(flows, key=lambda flow: (flow.late, flow.served.per_s(now_s)))
            limit_s = self._owed_slice_s(flow, now_s, lead_s)
            if owed_s >= min(limit_s, flow.lane.drain_s(flow), flow.lane.full_batch_s(flow)):
                yield Turn(flow, limit_s, self._hold_s(flow, now_s))

    def _owed_slice_s(self, flow: Flow, now_s: float, lead_s: float) -> float:
        if flow.urgent:
            return NO_DEADLINE
        longest_s = max(
            self.slice_s(flow, now_s, lead_s), self._parameters.tightest_slo_s * OWED_SHARE_OF_SLO
        )
        return min(longest_s, self._max_slice_s(flow, now_s))

    def _max_slice_s(self, flow: Flow, now_s: float) -> float:
        """The limit that the tier sets itself, while a more urgent one is in use."""
        limit_s = flow.max_slice_s
        if limit_s == NO_DEADLINE:
            return limit_s
        in_use = any(
            other.urgent and other.rank < flow.rank and other.last_arrival_s >= now_s - IN_USE_S
            for other in self._flows()
        )
        return limit_s if in_use else NO_DEADLINE

    def _slice(self, flow: Flow, now_s: float, lead_s: float) -> Turn:
        """The turn of a bulk queue."""
        limit_s = self.slice_s(flow, now_s, lead_s)
        hold_s = NO_DEADLINE if flow.held_back else self._hold_s(flow, now_s)
        return Turn(flow, limit_s, hold_s)

    def _hold_s(self, flow: Flow, now_s: float) -> float:
        """The longest that a single row may take beside more urgent tiers that are in use."""
        slo_s, margin_s = NO_DEADLINE, 0.0
        for other in self._flows():
            if other.slo_s < slo_s and _yields(flow, other, now_s):
                slo_s, margin_s = other.slo_s, other.margin_s
        if slo_s == NO_DEADLINE or flow.lane.is_constant:
            return NO_DEADLINE
        return max(LEEWAY * (self._slice_s + margin_s), LONGEST_ROW_OF_SLO * slo_s)

    def _released_s(self, flow: Flow, now_s: float, lead_s: float) -> float:
        """When the first row of those held back may run; the past where it may now."""
        self.slice_s(flow, now_s, lead_s)  # worked out anew where it is old
        row = flow.queue.head
        takes_s, hold_s = flow.lane.alone_s(row), self._hold_s(flow, now_s)
        if takes_s <= hold_s:
            return now_s
        unused_s = max(
            other.last_arrival_s for other in self._flows() if _yields(flow, other, now_s)
        )
        share = flow.min_share
        aged_s = row.arrival_s + flow.max_age_s
        if aged_s <= now_s:
            share = max(share, AGED_SHARE)
        due_s = aged_s
        if share:
            late_s = takes_s - hold_s  # so long do urgent rows that come find no room
            every_s = max(takes_s / share, late_s / LATE_FOR_LONG_ROWS)
            due_s = flow.waiting_since_s + every_s
        return min(unused_s + IN_USE_S, due_s)

    def _demands(self, now_s: float) -> list[Demand]:
        return [
            Demand(flow.usable_slo_s, *flow.lane.demand(flow, now_s))
            for flow in self._urgent_flows()
            if not flow.lane.is_constant
        ]

    def _urgency(self, start_s: float, now_s: float) -> Callable[[Flow], tuple[float, ...]]:
        level = self._level(now_s) if self.overloaded(now_s) else NO_DEADLINE

        def key(flow: Flow) -> tuple[float, ...]:
            if _floods(flow, level, now_s):
                return (1.0, flow.served.per_s(now_s) / flow.weight)
            slack_s = flow.queue.earliest_deadline_s - start_s - flow.lane.batch_s(flow, start_s)
            return (0.0, slack_s)

        return key

    def _level(self, now_s: float) -> float:
        flows = list(self._urgent_flows())
        loads = [flow.load.load(now_s) for flow in flows]
        return fair_level(loads, [flow.weight for flow in flows])


def _yields(flow: Flow, other: Flow, now_s: float) -> bool:
    """Whether a bulk queue gives way to another one: it is urgent, and in use."""
    return (
        other.urgent
        and other.rank < flow.rank
        and other.last_arrival_s > now_s - IN_USE_S
        and not other.lane.is_constant
    )


def _floods(flow: Flow, level: float, now_s: float) -> bool:
    """Whether a queue asks for more than its fair part."""
    return flow.load.load(now_s) > level * flow.weight


def _shares(rows: Sequence[Row], lane: Lane) -> list[tuple[Flow, float]]:
    """The part of a batch that each queue has, by tokens."""
    groups = _by_flow(rows, lane)
    if len(groups) == 1:  # the usual case
        return [(flow, 1.0) for flow in groups]
    parts = {flow: sum(row.tokens for row in group) for flow, group in groups.items()}
    tokens = max(sum(parts.values()), 1)
    return [(flow, part / tokens) for flow, part in parts.items()]


def _by_flow(rows: Iterable[Row], lane: Lane) -> dict[Flow, list[Row]]:
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.tier, row.relegated), []).append(row)
    return {lane.flow(*key): group for key, group in groups.items()}
