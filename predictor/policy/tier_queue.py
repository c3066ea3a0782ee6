"""One queue on the device, by (model, tier): its rows, what is asked for it, and what that costs.

Rows of a tier with an SLO are urgent. Those of a tier without one are bulk, and so are relegated
rows: theirs is over, and their tier would rather answer late than not at all. Relegated rows
have a queue of their own, because they wait for room where the others have deadlines. So have
bulk rows that alone take longer than an urgent tier can wait: they are held back while one is in
use, and the shorter ones behind them go on.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from predictor.core.errors import InvalidRequest
from predictor.core.parameters import TierParameters
from predictor.core.rows import NO_DEADLINE, Row
from predictor.policy.batching import BLEND, Batching
from predictor.policy.load import DecayingRate, OfferedLoad, Upper
from predictor.policy.margin import Margin
from predictor.policy.plan import Terms
from predictor.policy.queue import RowQueue
from predictor.policy.service_time import Work

LEAST_USABLE_SHARE = 0.25  # of the SLO: what is lost on the way is not the device's to mend
REFRESH_BATCHES = 16


class TierQueue:
    """A queue, with what the decision between queues needs to know of it."""

    __slots__ = (
        "_full_batch",
        "_full_batch_of",
        "_parameters",
        "arrivals",
        "batching",
        "held_back",
        "last_arrival_s",
        "late",
        "load",
        "lost",
        "margin",
        "mean_tokens",
        "rows",
        "served",
        "slo_s",
        "tier",
        "urgent",
        "waiting_since_s",
    )

    def __init__(
        self, batching: Batching, tier: str, *, late: bool = False, held_back: bool = False
    ) -> None:
        self.batching = batching
        self.tier = tier
        self.late = late
        self.held_back = held_back
        self.rows = RowQueue()
        self.mean_tokens = 0.0  # of a row, recently
        self.arrivals = DecayingRate()  # rows a second
        self.load = OfferedLoad()
        self.lost = Upper()  # seconds of their SLO that rows cannot use: on the way here and back
        self.margin = Margin()  # kept free of bulk work
        self.served = DecayingRate()  # device seconds a second
        self.last_arrival_s = -NO_DEADLINE
        self.waiting_since_s = -NO_DEADLINE  # without a break, where a row waits
        self._full_batch = 0
        self._full_batch_of = (-1, -1)  # the batches and edits that it was worked out after
        self.apply(None)

    def apply(self, parameters: TierParameters | None) -> None:
        """Take on what the tier promises now; None for a tier that an edit took away."""
        self._parameters = parameters
        # Of the rows in this queue: relegated ones have none any more. Asked a dozen times for
        # each request, so worked out here.
        has_slo = parameters is not None and not (self.late or self.held_back)
        self.slo_s = parameters.slo_s if parameters is not None and has_slo else NO_DEADLINE
        self.urgent = self.slo_s < NO_DEADLINE
        self.rows.reorder(self.batching.order(self.urgent))

    steps = False  # whether its rows run more than once

    @property
    def known(self) -> bool:
        return self._parameters is not None

    @property
    def has_work(self) -> bool:
        """Whether a batch could have a row of it."""
        return bool(self.rows)

    @property
    def usable_slo_s(self) -> float:
        """What is left of the SLO for waiting and running beside bulk work, recently."""
        usable_s = self.slo_s - self.lost.value - self.margin_s
        return max(usable_s, LEAST_USABLE_SHARE * self.slo_s)

    @property
    def margin_s(self) -> float:
        """What bulk work leaves free of a row's time."""
        return self.margin.share * self.slo_s

    @property
    def rank(self) -> tuple[int, bool]:
        """Smaller is more urgent; relegated rows come right after those of their tier."""
        return (self._parameters.priority if self._parameters else 1001, self.late)

    def bulk_order(self, now_s: float) -> tuple[tuple[int, bool], bool, float]:
        """Smaller goes first among bulk queues. Rows held back were first where they waited."""
        return (self.rank, not self.held_back, self.served.per_s(now_s))

    @property
    def weight(self) -> float:
        return self._parameters.weight if self._parameters else 1.0

    @property
    def min_share(self) -> float:
        return 0.0 if self._parameters is None or self.late else self._parameters.min_share

    @property
    def max_age_s(self) -> float:
        age_s = self._parameters.max_age_s if self._parameters else None
        return NO_DEADLINE if age_s is None else age_s

    @property
    def max_slice_s(self) -> float:
        slice_ms = self._parameters.max_slice_ms if self._parameters else None
        return NO_DEADLINE if slice_ms is None else slice_ms / 1e3

    # Rows come.

    def arrived(self, rows: Sequence[Row], work: Work, now_s: float) -> float | InvalidRequest:
        """Count rows that came, let in or not; the device seconds that they cost. Rows that could
        never run are not counted: why they could not."""
        impossible = self._impossible(rows, work)
        if impossible is not None:
            return impossible
        self.last_arrival_s = now_s
        self.arrivals.add(work.rows, now_s)
        mean = work.tokens / work.rows
        weight = BLEND if self.mean_tokens else 1.0
        self.mean_tokens += weight * (mean - self.mean_tokens)
        work_s = self._work_s(rows, work)
        self.load.offer(work_s, now_s)
        row = rows[0]
        # What a row lost of its SLO before it came here, and will lose on its way back. A
        # client's own timeout says nothing of that.
        if row.deadline_s < row.expires_s and self.urgent:
            self.lost.add(self.slo_s - (row.deadline_s - now_s))
        return work_s

    def _impossible(self, rows: Sequence[Row], work: Work) -> InvalidRequest | None:
        """Why rows could never run, if so."""
        longest = self.batching.parameters.max_batch_tokens
        if work.longest <= longest:
            return None
        return InvalidRequest(
            f"a row has {work.longest} tokens, over max_batch_tokens {longest} of"
            f" model {self.batching.model!r}; send a shorter one or raise the limit"
        )

    def admit(self, rows: Sequence[Row], free_s: float, now_s: float, stretch: float) -> bool:
        """Have new rows wait, unless the last of them would be late. `free_s`: when the device
        comes free for this queue; `stretch`: see arbiter.Contention."""
        row = rows[-1]
        if row.deadline_s < NO_DEADLINE and not self.batching.is_constant:
            terms = self.terms(free_s, stretch=stretch)
            rate = self.arrivals.per_s(now_s)
            door = self.batching.door
            if not door.admits(row, self.rows, terms, self.tokens_per_row, rate, now_s):
                return False
        self.put(rows, now_s)
        return True

    def why_late(self, rows: Sequence[Row], now_s: float) -> str:
        """What to tell a client whose rows were not let in."""
        longest = max(rows, key=lambda row: row.tokens)
        alone_s = self.batching.alone_s(longest.tokens)
        left_s = rows[-1].deadline_s - now_s
        if alone_s <= left_s:
            return "would miss its deadline, so it was not queued; try again later"
        return (
            f"a row of {longest.tokens} tokens takes about {1e3 * alone_s:.0f} ms, and"
            f" {1e3 * left_s:.0f} ms are left until its deadline; send shorter rows, or to a"
            " tier without an SLO"
        )

    def put(self, rows: Iterable[Row], now_s: float) -> None:
        """Have rows wait."""
        waiting = self.rows
        if not waiting:
            self.waiting_since_s = now_s
        for row in rows:
            waiting.add(row)

    def oldest_s(self) -> float:
        """When the row at the front arrived; the front ages, whatever the order."""
        return self.rows.head.arrival_s

    # What they cost, as far as can be estimated. Plans never depend on it, only who goes first,
    # who is let in and what is shown.

    def terms(self, start_s: float, limit_s: float = NO_DEADLINE, stretch: float = 1.0) -> Terms:
        return self.batching.terms(self.slo_s, start_s, limit_s, stretch)

    @property
    def tokens_per_row(self) -> float:
        """Recently, with the padding that came with them."""
        if self.held_back and self.rows:
            return self.rows.tokens / len(self.rows)
        return self.mean_tokens * self.batching.padding_factor

    def demand(self, now_s: float) -> tuple[float, float, Terms]:
        """What comes to an urgent queue: rows a second, tokens of each, and how they would run."""
        return self.arrivals.per_s(now_s), self.tokens_per_row, self.terms(now_s)

    def slack_s(self, start_s: float) -> float:
        """How long after `start_s` the next batch of an urgent queue may start."""
        rows = self.rows.window(self.batching.parameters.max_batch_size)
        takes_s = self.terms(start_s).service_s(rows)
        return self.rows.earliest_deadline_s - start_s - takes_s

    def drain_s(self) -> float:
        """Device seconds to serve what waits, in full batches."""
        waiting = len(self.rows)
        if not waiting:
            return 0.0
        service = self.batching.service
        full, rest = divmod(waiting, self._full_batch_rows())
        tokens = self.tokens_per_row
        seconds = full * self.full_batch_s()
        return seconds + (service.alike_s(rest, tokens) if rest else 0.0)

    def ahead_s(self) -> float:
        """Device seconds that those which wait take before others can begin."""
        return self.drain_s()

    @property
    def room_s(self) -> float:
        """How long others may have the device, for the sake of rows that run."""
        return NO_DEADLINE

    def full_batch_s(self) -> float:
        """How long a batch takes when there are enough rows."""
        return self.batching.service.alike_s(self._full_batch_rows(), self.tokens_per_row)

    def _work_s(self, rows: Sequence[Row], work: Work) -> float:
        """Device seconds that these rows cost in full batches of their like."""
        size = self._full_batch_rows()
        tokens = work.tokens / work.rows * self.batching.padding_factor
        return self.batching.service.alike_s(size, tokens) / size * work.rows

    def _full_batch_rows(self) -> int:
        """How many average rows go in a batch when there are enough. Costly, so remembered."""
        batches, edits = self._full_batch_of
        now = self.batching.service.batches
        if now - batches >= REFRESH_BATCHES or edits != self.batching.edits or batches < 0:
            terms = self.terms(0.0)
            if self.batching.is_constant:
                self._full_batch = terms.largest(self.tokens_per_row, NO_DEADLINE)
            else:
                self._full_batch = terms.target_rows(self.tokens_per_row)
            self._full_batch_of = (now, self.batching.edits)
        return self._full_batch


class Turn(NamedTuple):
    """A queue whose rows may run next, with the longest batch that they may be in.

    A row that alone takes longer than `hold_s` is held back.
    """

    queue: TierQueue
    limit_s: float
    hold_s: float = NO_DEADLINE
