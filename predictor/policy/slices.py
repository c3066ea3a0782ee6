"""How long a batch may keep the device from whoever is more urgent, and who rides in it.

A batch that runs cannot be stopped. So bulk rows run in slices, and an urgent row that comes when
one has just begun waits for it to end. It is in time if

    slice + l(b*) <= SLO,

where b* is the batch that it finds itself in then: the rows that came during the slice, and those
that come while it runs. That gives the longest slice, for each urgent queue. Behind an urgent
batch, too, bulk rows only fill the room up to that length (top-up): the fixed cost of a batch is
paid once for both.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from predictor.core.rows import NO_DEADLINE, DispatchReason, Packing, Row
from predictor.core.work import NOTHING, Work
from predictor.policy import adaptive
from predictor.policy.plan import Plan, Prefixes, Terms
from predictor.policy.queue import RowQueue
from predictor.policy.search import largest

LEAST_SHARE_OF_SLO = 0.1  # a slice so short that the device does nothing useful helps nobody
RESOLUTION = 0.02  # of the SLO
LIKELY_ROWS = 16  # a slice is often much shorter than what waits


class Demand(NamedTuple):
    """What comes to one urgent queue."""

    slo_s: float
    rate: float  # rows a second
    tokens_per_row: float
    terms: Terms


def longest_slice_s(urgent: Iterable[Demand], lead_s: float) -> float:
    """The longest batch of bulk rows that leaves every urgent queue its SLO.

    `lead_s` is how long before its start a batch is committed. NO_DEADLINE where nobody is urgent.
    """
    return min((_slice_beside_s(demand, lead_s) for demand in urgent), default=NO_DEADLINE)


def _slice_beside_s(demand: Demand, lead_s: float) -> float:
    if demand.terms.service.alike_s(1, demand.tokens_per_row) > demand.slo_s:
        return NO_DEADLINE  # this SLO cannot be met at all: nothing is gained by short slices
    low, high = LEAST_SHARE_OF_SLO * demand.slo_s, demand.slo_s
    while high - low > RESOLUTION * demand.slo_s:
        middle = (low + high) / 2
        if middle + lead_s + _answer_s(demand, middle) <= demand.slo_s:
            low = middle
        else:
            high = middle
    return low


def _answer_s(demand: Demand, slice_s: float) -> float:
    """How long the batch takes that forms behind a slice, with those that come while it runs."""
    taken_s = 0.0
    for _ in range(2):
        rows = min(int(demand.rate * (slice_s + taken_s)) + 1, demand.terms.max_rows)
        taken_s = demand.terms.service.alike_s(rows, demand.tokens_per_row) * demand.terms.caution
    return taken_s


def plan(queue: RowQueue, terms: Terms) -> Plan:
    """The next slice of a bulk queue, no longer than `terms.limit_s` unless one row is."""
    if terms.packing is Packing.PADDED:
        return adaptive.plan(queue, terms)
    rows = queue.window(terms.max_rows)
    late = adaptive.too_late(rows, terms.start_s, terms)  # for deadlines that clients gave
    rows = adaptive.without(rows, late)
    if not rows:
        return Plan((), DispatchReason.DEADLINE, shed=late)
    count, predicted_s = longest_prefix(rows, NOTHING, terms, terms.limit_s)
    if not count:
        count, predicted_s = 1, terms.service_s(rows[:1])
    more_wait = count < len(queue) - len(late)
    reason = DispatchReason.FULL if more_wait else DispatchReason.IDLE
    return Plan(rows[:count], reason, predicted_s, shed=late)


def top_up(urgent: Plan, queue: RowQueue, terms: Terms, margin_s: float) -> Plan:
    """The urgent plan with as many bulk rows added as leave its rows in time, and `margin_s` free.

    The batch grows to `terms.limit_s` at most, or, where it is longer already, not at all.
    """
    work = Work.of(urgent.rows)
    room = terms.max_rows - work.rows
    if room <= 0:
        return urgent
    tightest_s = min(row.deadline_s for row in urgent.rows)
    limit_s = min(terms.limit_s, tightest_s - terms.start_s - margin_s)
    limit_s = max(limit_s, urgent.predicted_s * terms.caution)
    rows: Sequence[Row] = queue.window(room)
    if terms.packing is Packing.PADDED:  # a longer row would make all others longer
        rows = [row for row in rows if row.tokens <= work.longest]
    count, predicted_s = longest_prefix(rows, work, terms, limit_s)
    if not count:
        return urgent
    return Plan([*urgent.rows, *rows[:count]], DispatchReason.TOP_UP, predicted_s, shed=urgent.shed)


def longest_prefix(
    rows: Sequence[Row], base: Work, terms: Terms, limit_s: float
) -> tuple[int, float]:
    """How many rows from the front fit beside `base` within `limit_s`, and how long that takes."""
    prefixes = Prefixes(rows, base)

    def fits(size: int) -> bool:
        work = prefixes.work(size)
        return terms.fits(work) and terms.service.predict_s(work) * terms.caution <= limit_s

    if not rows or not fits(1):
        return 0, 0.0
    size = largest(fits, len(rows), guess=LIKELY_ROWS)
    return size, terms.service.predict_s(prefixes.work(size))
