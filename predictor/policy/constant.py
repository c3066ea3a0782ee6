"""The textbook baseline: `max_batch_size` or `max_wait_ms`, whichever comes first, FIFO."""

from predictor.core.rows import DispatchReason
from predictor.policy.plan import Plan, Terms
from predictor.policy.queue import RowQueue
from predictor.policy.service_time import Work


def plan(queue: RowQueue, terms: Terms) -> Plan:
    """The batch to run at `terms.start_s`, or the end of the oldest row's window.

    Rows whose deadline passes before they could start stay behind, and expire there.
    """
    window = [row for row in queue.window(terms.max_rows) if row.deadline_s >= terms.start_s]
    if not window:
        return Plan((), DispatchReason.WINDOW)
    size = len(window)
    while not terms.fits(Work.of(window[:size])):
        size -= 1
    rows = window[:size]
    full = size == terms.max_rows or size < len(window)
    window_ends_s = min(row.arrival_s for row in rows) + terms.max_wait_s
    if not full and terms.start_s < window_ends_s:
        return Plan((), DispatchReason.WINDOW, wait_until_s=window_ends_s)
    reason = DispatchReason.FULL if full else DispatchReason.WINDOW
    return Plan(rows, reason, terms.service_s(rows))
