"""Work-conserving slack scheduling with early shedding.

A device with service time l(b) = alpha + beta * b gains nothing by standing idle while rows
wait: for Poisson arrivals, starting at once is within 0.23% of the optimal mean latency at
every load. So a batch is formed whenever the device can take one, and three things are left
to decide.

How many rows? Up to the target, the largest b with l(b) * (1 + 1/R) <= SLO, as long as the
head of the batch still meets its deadline. A row that arrives just after the start then
waits for one such batch and rides in the next.

Which rows are given up? As long as every waiting row can be in time, none. When they cannot
all be, a batch cut short for the sake of its head makes the next one later still, and that
is how servers collapse. The batch is then the largest b for which b waiting rows can meet
their deadline *in a batch of that size*, and the rows ahead of them are shed at once. This
settles at l(b) + b/rate = SLO, where the rows let go are those that would have needed a
smaller batch.

Which rows together? Packed, the order of the queue. Padded, rows of like length: the split
of the waiting rows that costs least (see packing). Of its batches the one that is nearest
to the ideal cost of its rows goes first, if the others can wait for it with time to spare:
the rest gain neighbours while they wait. Else the most urgent one goes first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from predictor.core.rows import NO_DEADLINE, DispatchReason, Packing, Row
from predictor.policy.packing import padding_share, split
from predictor.policy.plan import Plan, Prefixes, Terms
from predictor.policy.queue import RowQueue
from predictor.policy.search import largest
from predictor.policy.service_time import Work

WINDOW_BATCHES = 4  # look at no more than this many batches' worth of rows
PADDING_WORTH_SPLITTING = 0.10
SPLIT_ROWS = 512  # a split takes time and memory that grow with the square of them
SPARE = 0.15  # share of the SLO that postponed batches must have left, for rows yet to come


def plan(queue: RowQueue, terms: Terms) -> Plan:
    """The batch to run at `terms.start_s`; empty only if every row in sight is shed."""
    rows = queue.window(WINDOW_BATCHES * _rows_in_a_batch(queue, terms))
    hopeless = too_late(rows, terms.start_s, terms)
    if hopeless:
        rows = without(rows, hopeless)
        if not rows:
            return Plan((), DispatchReason.DEADLINE, shed=hopeless)
    worth_splitting = (
        terms.packing is Packing.PADDED
        and padding_share(rows[: terms.max_rows], Packing.PADDED) > PADDING_WORTH_SPLITTING
    )
    chosen = (
        _plan_split(rows[:SPLIT_ROWS], terms) if worth_splitting else _plan_in_order(rows, terms)
    )
    if len(chosen.rows) == len(rows) and not hopeless:
        return chosen
    left = without(without(rows, chosen.rows), chosen.shed)
    missed = too_late(left, terms.start_s + chosen.predicted_s, terms)
    return replace(chosen, shed=[*hopeless, *chosen.shed, *missed])


def _rows_in_a_batch(queue: RowQueue, terms: Terms) -> int:
    """At most, of the rows that wait: long ones fill a batch with fewer."""
    mean_tokens = queue.tokens / max(len(queue), 1)
    return min(terms.max_rows, math.ceil(terms.max_tokens / max(mean_tokens, 1.0)))


def too_late(rows: Sequence[Row], start_s: float, terms: Terms) -> list[Row]:
    """Rows that would miss their deadline even if they ran at `start_s` and alone."""
    longest_s = terms.service.alike_s(1, max((r.tokens for r in rows), default=0))
    if start_s + longest_s <= min((row.deadline_s for row in rows), default=NO_DEADLINE):
        return []
    return [row for row in rows if start_s + terms.service.alike_s(1, row.tokens) > row.deadline_s]


def without(rows: Sequence[Row], gone: Sequence[Row]) -> list[Row]:
    if not gone:
        return list(rows)
    marked = {id(row) for row in gone}
    return [row for row in rows if id(row) not in marked]


def _plan_in_order(rows: Sequence[Row], terms: Terms) -> Plan:
    """Rows from the front; the widest batch instead if that leaves others late."""
    if (everyone := _plan_everyone(rows, terms)) is not None:
        return everyone
    in_order = _rescued_first(rows, terms)
    first = _plan_prefix(in_order, terms)
    if _in_time(in_order[len(first.rows) :], first, terms):
        return first
    return _plan_widest(in_order, terms) or first


def _plan_everyone(rows: Sequence[Row], terms: Terms) -> Plan | None:
    """All rows at once, where nothing speaks against it: the usual case below capacity."""
    work = Work.of(rows)
    if not terms.fits(work):
        return None
    predicted_s = terms.service.predict_s(work)
    cautious_s = predicted_s * terms.caution
    tightest_s = min(row.deadline_s for row in rows)
    if cautious_s > terms.slo_share_s or terms.start_s + cautious_s > tightest_s:
        return None
    return Plan(rows, DispatchReason.IDLE, predicted_s)


def _rescued_first(rows: Sequence[Row], terms: Terms) -> list[Row]:
    """Serving order, but rows that cannot wait for one more batch before the others.

    In deadline order they stand in front already; in other orders they may not.
    """
    largest_s = terms.service_s(rows[: terms.max_rows]) * terms.caution
    last_call_s = terms.start_s + 2.0 * largest_s
    return sorted(rows, key=lambda row: row.deadline_s >= last_call_s)


def _plan_prefix(rows: Sequence[Row], terms: Terms) -> Plan:
    """As many rows from the front as limits and the tightest deadline allow."""
    target = terms.target_rows(sum(row.tokens for row in rows) / len(rows))
    first = rows[:target]
    prefixes = Prefixes(first)
    deadlines_s = list(accumulate((row.deadline_s for row in first), min))

    def may_be(size: int) -> bool:
        work = prefixes.work(size)
        if not terms.fits(work):
            return False
        cautious_s = terms.service.predict_s(work) * terms.caution
        in_time = terms.start_s + cautious_s <= deadlines_s[size - 1]
        return in_time and cautious_s <= terms.limit_s

    size = largest(may_be, len(first), guess=len(first))
    if size == len(rows):
        reason = DispatchReason.IDLE
    elif size == target or not terms.fits(prefixes.work(size + 1)):
        reason = DispatchReason.FULL
    else:
        reason = DispatchReason.DEADLINE
    return Plan(rows[:size], reason, terms.service.predict_s(prefixes.work(size)))


def _in_time(rest: Sequence[Row], first: Plan, terms: Terms) -> bool:
    """Whether the rows left behind meet their deadlines in batches of the target size."""
    if not rest or rest[-1].deadline_s == NO_DEADLINE == rest[0].deadline_s:
        return True
    target = terms.target_rows(sum(row.tokens for row in rest) / len(rest))
    ends_s = terms.start_s + first.predicted_s
    for start in range(0, len(rest), target):
        batch = rest[start : start + target]
        ends_s += terms.service_s(batch)
        if ends_s > min(row.deadline_s for row in batch):
            return False
    return True


def _plan_widest(rows: Sequence[Row], terms: Terms) -> Plan | None:
    """The largest b for which b rows meet their deadline in a batch of b; late ones shed.

    None where rows differ so much that not one meets its deadline beside its neighbours.
    """
    low, high = 1, min(terms.max_rows, len(rows))
    if terms.limit_s < NO_DEADLINE:
        mean_tokens = sum(row.tokens for row in rows) / len(rows)
        high = min(high, terms.largest(mean_tokens, terms.limit_s))
    while low < high:
        middle = (low + high + 1) // 2
        if len(_feasible(rows, middle, terms)) == middle:
            low = middle
        else:
            high = middle - 1
    chosen = _feasible(rows, low, terms)
    if not chosen:
        return None
    predicted_s = terms.service_s(chosen)
    ends_s = terms.start_s + predicted_s * terms.caution
    late = [row for row in rows if row.deadline_s < ends_s]
    more_wait = len(chosen) < len(rows) - len(late)
    reason = DispatchReason.FULL if more_wait else DispatchReason.IDLE
    return Plan(chosen, reason, predicted_s, late)


def _feasible(rows: Sequence[Row], size: int, terms: Terms) -> list[Row]:
    """The first `size` rows that meet their deadline in a batch of `size` rows like these."""
    service_s = terms.service_s(rows[-size:])
    ends_s = terms.start_s + service_s * terms.caution
    chosen = [row for row in rows if row.deadline_s >= ends_s][:size]
    if not chosen:
        return []
    work = Work.of(chosen)
    if not terms.fits(work):
        prefixes = Prefixes(chosen)
        most = len(chosen)
        chosen = chosen[: largest(lambda k: terms.fits(prefixes.work(k)), most, guess=most)]
        work = prefixes.work(len(chosen))
    finish_s = terms.start_s + terms.service.predict_s(work) * terms.caution
    return [row for row in chosen if row.deadline_s >= finish_s]


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """One batch of the split, with what decides whether it goes first."""

    rows: list[Row]
    predicted_s: float
    deadline_s: float  # of its most urgent row
    excess: float  # predicted cost over the cost of its rows in full batches of their like

    @classmethod
    def of(cls, rows: list[Row], terms: Terms) -> "_Choice":
        predicted_s = terms.service_s(rows) * terms.caution
        full = terms.max_rows
        ideal_s = sum(terms.service.alike_s(full, row.tokens) / full for row in rows)
        return cls(rows, predicted_s, min(row.deadline_s for row in rows), predicted_s / ideal_s)


def _plan_split(rows: Sequence[Row], terms: Terms) -> Plan:
    """The padded batch to run first, out of the cheapest split of the waiting rows."""
    most = terms.target_rows(max(row.tokens for row in rows))
    batches = split(rows, terms.service, most, terms.max_tokens)
    choices = sorted((_Choice.of(batch, terms) for batch in batches), key=lambda c: c.deadline_s)
    calm = [choice for choice in choices if _others_can_wait(choice, choices, terms)]
    if calm:
        chosen = min(calm, key=lambda choice: choice.excess)
        return _plan_prefix(_by_deadline(chosen.rows), terms)
    wide = split(rows, terms.service, terms.max_rows, terms.max_tokens)
    most_urgent = min(wide, key=lambda batch: min(row.deadline_s for row in batch))
    in_order = _by_deadline(most_urgent)
    return _plan_widest(in_order, terms) or _plan_prefix(in_order, terms)


def _by_deadline(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.deadline_s)


def _others_can_wait(first: _Choice, by_deadline: Sequence[_Choice], terms: Terms) -> bool:
    """Whether all batches are in time if `first` runs first and the others by deadline."""
    ends_s = terms.start_s + first.predicted_s
    if ends_s > first.deadline_s:
        return False
    spare_s = 0.0 if terms.slo_s == NO_DEADLINE else SPARE * terms.slo_s
    for choice in by_deadline:
        if choice is first:
            continue
        ends_s += choice.predicted_s
        if ends_s + spare_s > choice.deadline_s:
            return False
    return True
