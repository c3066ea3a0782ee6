"""The waiting rows of one (model, tier), in the order that they will be served.

Keys never change while a row waits, so a sorted list serves every order in O(log n) a row.
`shortest` orders by arrival plus a penalty per token: short rows overtake long ones, but a
row is overtaken only by rows that arrive within its penalty, so that it ages to the front.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from sortedcontainers import SortedList

from predictor.core.parameters import Order
from predictor.core.rows import NO_DEADLINE, Row

AGEING_S_PER_TOKEN = 1e-3  # a row of 512 tokens is overtaken for half a second at most

Entry = tuple[float, int, Row]  # the sequence number is unique: rows are never compared

_KEYS: dict[Order, Callable[[Row], float]] = {
    Order.ARRIVAL: lambda row: row.arrival_s,
    Order.DEADLINE: lambda row: row.deadline_s,
    Order.SHORTEST: lambda row: row.arrival_s + AGEING_S_PER_TOKEN * row.tokens,
}


class RowQueue:
    """Rows in serving order, and, where that differs, by deadline too."""

    def __init__(self, order: Order = Order.DEADLINE) -> None:
        self.order = order
        self.tokens = 0
        self._rows = 0  # asked so often that the list's own count would cost
        self._sequence = 0
        self._ordered: SortedList[Entry] = SortedList()
        self._by_deadline = self._ordered if order is Order.DEADLINE else SortedList()

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        return (entry[2] for entry in self._ordered)

    def add(self, row: Row) -> None:
        self._sequence += 1
        row.sequence = self._sequence
        self._insert(row)
        self._rows += 1
        self.tokens += row.tokens

    def remove(self, rows: Sequence[Row]) -> None:
        """Take out rows that are in the queue. Raises ValueError for one that is not."""
        if not rows:
            return
        if (
            self._by_deadline is self._ordered
            and len(rows) <= self._rows
            and all(map(operator.is_, rows, self))
        ):  # the front of the queue leaves: the usual case, at a fraction of the cost
            del self._ordered[: len(rows)]
            self._rows -= len(rows)
            self.tokens -= sum(row.tokens for row in rows)
            return
        key = _KEYS[self.order]
        for row in rows:
            self._ordered.remove((key(row), row.sequence, row))
            if self._by_deadline is not self._ordered:
                self._by_deadline.remove((row.deadline_s, row.sequence, row))
            self._rows -= 1
            self.tokens -= row.tokens

    def __contains__(self, row: Row) -> bool:
        return (_KEYS[self.order](row), row.sequence, row) in self._ordered

    def window(self, size: int) -> list[Row]:
        """The first `size` rows in serving order."""
        return [entry[2] for entry in islice(self._ordered, size)]

    def due_before(self, time_s: float, limit: int) -> list[Row]:
        """Up to `limit` rows whose deadline is before `time_s`, most urgent first."""
        due = []
        for deadline_s, _, row in islice(self._by_deadline, limit):
            if deadline_s >= time_s:
                break
            due.append(row)
        return due

    def count_before(self, time_s: float) -> int:
        """How many waiting rows have their deadline before `time_s`."""
        return int(self._by_deadline.bisect_left((time_s,)))

    @property
    def earliest_deadline_s(self) -> float:
        """NO_DEADLINE when nothing waits."""
        return self._by_deadline[0][0] if self._rows else NO_DEADLINE

    @property
    def head(self) -> Row:
        row: Row = self._ordered[0][2]
        return row

    def ahead_of(self, row: Row) -> int:
        """How many waiting rows would be served before `row`, which is not in the queue yet."""
        return int(self._ordered.bisect_right((_KEYS[self.order](row), self._sequence + 1, row)))

    def reorder(self, order: Order) -> None:
        if order is self.order:
            return
        rows = list(self)
        self.order = order
        self._ordered = SortedList()
        self._by_deadline = self._ordered if order is Order.DEADLINE else SortedList()
        for row in rows:
            self._insert(row)

    def _insert(self, row: Row) -> None:
        self._ordered.add((_KEYS[self.order](row), row.sequence, row))
        if self._by_deadline is not self._ordered:
            self._by_deadline.add((row.deadline_s, row.sequence, row))
