"""How much memory a job takes in Redis, with its answers, and whether Redis has so much.

A line that waits costs its bytes and a few beside them, one that has ended its answer and some
more. How long answers will be is not known when lines come in: as long as those of the model were
so far, or where there were none, as long as the lines themselves. So a job that cannot fit is
refused while it is sent, not found out when Redis is full. What was reckoned wrong is not lost:
lines then wait until there is room, and the job's status says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from predictor.core.errors import RequestTooLarge, StoreFull

BESIDE_A_LINE = 5  # bytes, in a list
BESIDE_AN_ANSWER = 90  # in a hash
USABLE_SHARE = 0.95  # of maxmemory: leases and what answers take more than was reckoned
ONE_JOB_SHARE = 0.9  # an empty Redis takes something, too
RETRY_S = 60.0
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes. `most`: that Redis may take, 0 without a limit. `taken`: is, or will be by others."""

    most: int
    taken: int
    answer: float | None  # the mean of the model's so far

    @staticmethod
    def of(told: Sequence[int]) -> "Room":
        """From what scripts/begin.lua returns."""
        most, taken, growth, lines, answers = told
        return Room(most, taken + growth, answers / lines if lines else None)

    def growth(self, lines: int, size: int) -> int:
        """What the job will take beyond what its waiting lines do."""
        return self._need(lines, size) - _waiting(lines, size)

    def check(self, lines: int, size: int) -> None:
        """Of a job that has so many lines, of so many bytes together, and perhaps more to come.

        Raises RequestTooLarge where it could never fit, StoreFull where others are in its way.
        """
        if not self.most:
            return
        need, most_of_one = self._need(lines, size), self.most * ONE_JOB_SHARE
        sum_ = (
            f"the first {lines:,} lines of the job and their answers need about"
            f" {need / MB:,.1f} MB in the store of jobs"
        )
        if need > most_of_one:
            raise RequestTooLarge(
                f"{sum_}, which has {most_of_one / MB:,.1f} MB for one; split the job"
            )
        usable = self.most * USABLE_SHARE
        free = max(0.0, usable - self.taken)
        if need > free:
            raise StoreFull(
                f"{sum_}, and {free / MB:,.1f} of its {usable / MB:,.1f} MB are free; try again"
                " when other jobs have ended and were forgotten, or split the job",
                retry_after_s=RETRY_S,
            )

    def _need(self, lines: int, size: int) -> int:
        """At its peak: when all wait, or when all were answered."""
        answers = size if self.answer is None else lines * self.answer
        return max(_waiting(lines, size), round(answers) + lines * BESIDE_AN_ANSWER)


def _waiting(lines: int, size: int) -> int:
    return size + lines * BESIDE_A_LINE
