"""What a policy is told and what it answers, for one queue at one instant."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul

import msgspec

from predictor.core.rows import NO_DEADLINE, DispatchReason, Packing, Row
from predictor.core.work import NOTHING, Work
from predictor.policy.search import largest
from predictor.policy.service_time import ServiceTime


class Terms(msgspec.Struct, frozen=True, gc=False):
    """The conditions under which a batch may be formed."""

    start_s: float  # when the device can begin it; the present, or the end of what it runs now
    service: ServiceTime
    packing: Packing
    max_rows: int
    max_tokens: int  # padding included
    max_wait_s: float = 0.0  # constant policy only
    slo_s: float = NO_DEADLINE
    replicas: int = 1
    limit_s: float = NO_DEADLINE  # the longest that a batch may take
    stretch: float = 1.0  # how many times as long it is until the next batch of this queue

    def service_s(self, rows: Sequence[Row]) -> float:
        return self.service.predict_s(Work.of(rows))

    @property
    def caution(self) -> float:
        """Factor on predicted service times where a deadline hangs on them."""
        return 1.0 + self.service.margin

    def fits(self, work: Work) -> bool:
        """A single row always fits, or a lowered limit would strand it in the queue."""
        return work.rows == 1 or (
            work.rows <= self.max_rows and work.computed(self.packing) <= self.max_tokens
        )

    @property
    def slo_share_s(self) -> float:
        """The part of the SLO that a batch may take: a row that just misses a batch can still
        wait for it to end and ride in the next one, on the replica that is free first."""
        return min(self.slo_s / (1.0 + 1.0 / self.replicas), self.limit_s)

    def target_rows(self, tokens_per_row: float) -> int:
        """Largest b with l(b) * (1 + 1/R) <= SLO."""
        return self.largest(tokens_per_row, self.slo_share_s)

    def largest(self, tokens_per_row: float, budget_s: float) -> int:
        """Largest b of rows of this length with l(b) <= budget_s; at least 1."""

        def fits_budget(size: int) -> bool:
            return (
                self.fits(Work.alike(size, tokens_per_row))
                and self.service.alike_s(size, tokens_per_row) * self.caution <= budget_s
            )

        return largest(fits_budget, self.max_rows, guess=self.max_rows)


class Prefixes:
    """The work of the first k of some rows, for every k, beside what is there already."""

    def __init__(self, rows: Sequence[Row], base: Work = NOTHING) -> None:
        lengths = [row.tokens for row in rows]
        self._base_rows = base.rows
        self._tokens = list(accumulate(lengths, initial=base.tokens))
        self._pairs = list(accumulate(map(mul, lengths, lengths), initial=base.pairs))
        self._longest = list(accumulate(lengths, max, initial=base.longest))

    def work(self, rows: int) -> Work:
        return Work(
            self._base_rows + rows, self._tokens[rows], self._pairs[rows], self._longest[rows]
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows to run now (perhaps none), and rows that would be late however they run."""

    rows: Sequence[Row]
    reason: DispatchReason
    predicted_s: float = 0.0
    shed: Sequence[Row] = field(default_factory=tuple)
    wait_until_s: float = NO_DEADLINE  # when rows is empty: when to ask again
