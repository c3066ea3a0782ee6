"""Who is let in: a row that the policy would shed later is better refused on arrival.

The policy will act when the device is free, at t. From the rows that wait then, it takes
the largest b for which b of them meet their deadline t + l(b), and sheds those ahead that
do not (see adaptive). All of that can be foretold: the rows that wait now, and those that
will have come by t at the rate of late. So a new row is refused if it would be among the
shed, now or after the batches ahead of its own.

Of the arrivals foretold only a part is counted: too few let a row in that is shed later,
at the cost of nothing but its wait, while too many refuse a row that could have been served.

What the forecast misses (padding, other tiers, a model that slowed down) is mended by
feedback: each row shed after it was let in makes the door stricter, each refusal at the
door and each row that ran makes it laxer. A shed row counts by the share of plans that shed
of late: one bad plan may be an accident, and its victims are no reason to refuse others.
Under steady overload this settles where most refusals happen at the door.
"""

from predictor.core.rows import Row
from predictor.policy.plan import Terms
from predictor.policy.queue import RowQueue
from predictor.policy.search import largest

COUNTED_ARRIVALS = 0.7
BATCHES_AHEAD = 16  # a row further back than this is let in; its turn will tell
STRICTER_PER_SHED = 0.04
LAXER_PER_REFUSAL = 0.01
LAXER_PER_ROW_RUN = 0.0005
MAX_PESSIMISM = 2.0
BAD_PLAN_WEIGHT = 0.2


class Pessimism:
    """How many times the predicted time rows must have, learned from what became of them."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._bad_plans = 0.0  # share of recent ones

    def planned(self, ran: int, shed: int) -> None:
        """Learn what became of rows that were let in."""
        self._bad_plans += BAD_PLAN_WEIGHT * ((1.0 if shed else 0.0) - self._bad_plans)
        self._adjust(STRICTER_PER_SHED * self._bad_plans * shed - LAXER_PER_ROW_RUN * ran)

    def refused(self) -> None:
        self._adjust(-LAXER_PER_REFUSAL)

    def _adjust(self, change: float) -> None:
        self.factor = min(max(self.factor + change, 1.0), MAX_PESSIMISM)


class Door(Pessimism):
    """Decides who is let into one model's queues."""

    def __init__(self) -> None:
        super().__init__()
        self._first_size = 1  # foretold for the last row: the next one's is near

    def admits(
        self,
        row: Row,
        queue: RowQueue,
        terms: Terms,
        tokens_per_row: float,
        rate: float,
        now_s: float,
    ) -> bool:
        """Whether `row`, not in the queue yet, would be served before its deadline.

        `terms.start_s` is when the device comes free for this queue; `rate` is in rows a
        second.
        """
        deadline_s = now_s + (row.deadline_s - now_s) / self.factor
        if self._serves(deadline_s, now_s, queue.ahead_of(row), queue, terms, tokens_per_row, rate):
            return True
        self.refused()
        return False

    def _serves(
        self,
        deadline_s: float,
        now_s: float,
        place: int,
        queue: RowQueue,
        terms: Terms,
        tokens_per_row: float,
        rate: float,
    ) -> bool:
        waiting = len(queue)
        caution = terms.caution
        earliest_s = queue.earliest_deadline_s
        starts_s = terms.start_s
        taken = 0
        coming = COUNTED_ARRIVALS * rate * (starts_s - now_s)

        def ends_s(size: int) -> float:
            return starts_s + terms.service.alike_s(size, tokens_per_row) * caution

        def gone_by(time_s: float) -> int:
            return taken if time_s <= earliest_s else max(queue.count_before(time_s), taken)

        def are_enough(size: int) -> bool:
            time_s = ends_s(size)
            return waiting - gone_by(time_s) + coming + (deadline_s >= time_s) >= size

        everyone = waiting + 1 + int(coming)
        together = everyone <= terms.max_rows  # the usual case: no batch can take longer
        if together and deadline_s >= ends_s(everyone):
            return True
        guess = self._first_size
        for ahead in range(BATCHES_AHEAD):
            size = guess = largest(are_enough, terms.max_rows, guess)
            if not ahead:
                self._first_size = size
            end_s = ends_s(size)
            if deadline_s < end_s:
                return False
            taken = gone_by(end_s) + size
            if place < taken:
                return True
            starts_s += (end_s - starts_s) * terms.stretch
            coming = COUNTED_ARRIVALS * rate * (starts_s - now_s)
        return True
