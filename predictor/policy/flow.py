"""One queue on the device, by (model, tier), and what was and is asked of the device for it.

Rows of a tier with an SLO are urgent. Those of a tier without one are bulk, and so are relegated
rows: theirs is over, and their tier would rather answer late than not at all. Relegated rows
have a queue of their own, because they wait for room where the others have deadlines. So have
bulk rows that alone take longer than an urgent tier can wait: they are held back while one is in
use, and the shorter ones behind them go on.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from predictor.core.parameters import TierParameters
from predictor.core.rows import NO_DEADLINE, Row
from predictor.policy.load import DecayingRate, OfferedLoad, Upper
from predictor.policy.margin import Margin
from predictor.policy.queue import RowQueue

if TYPE_CHECKING:
    from predictor.policy.lane import Lane

LEAST_USABLE_SHARE = 0.25  # of the SLO: what is lost on the way is not the device's to mend


class Flow:
    """A queue, with what the decision between queues needs to know of it."""

    __slots__ = (
        "_parameters",
        "arrivals",
        "held_back",
        "lane",
        "last_arrival_s",
        "late",
        "load",
        "lost",
        "margin",
        "mean_tokens",
        "queue",
        "served",
        "slo_s",
        "tier",
        "urgent",
        "waiting_since_s",
    )

    def __init__(
        self,
        lane: "Lane",
        tier: str,
        queue: RowQueue,
        late: bool = False,
        held_back: bool = False,
    ) -> None:
        self.lane = lane
        self.tier = tier
        self.late = late
        self.held_back = held_back
        self.queue = queue
        self.mean_tokens = 0.0  # of a row, of late
        self.arrivals = DecayingRate()  # rows a second
        self.load = OfferedLoad()
        self.lost = Upper()  # seconds of their SLO that rows cannot use: on the way here and back
        self.margin = Margin()  # kept free of bulk work
        self.served = DecayingRate()  # device seconds a second
        self.last_arrival_s = -NO_DEADLINE
        self.waiting_since_s = -NO_DEADLINE  # without a break, where a row waits
        self.apply(None)

    def apply(self, parameters: TierParameters | None) -> None:
        """Take on what the tier promises now; None for a tier that an edit took away."""
        self._parameters = parameters
        # Of the rows in this queue: relegated ones have none any more. Asked a dozen times for
        # each request, so worked out here.
        has_slo = parameters is not None and not (self.late or self.held_back)
        self.slo_s = parameters.slo_s if parameters is not None and has_slo else NO_DEADLINE
        self.urgent = self.slo_s < NO_DEADLINE

    @property
    def known(self) -> bool:
        return self._parameters is not None

    @property
    def usable_slo_s(self) -> float:
        """What is left of the SLO for waiting and running beside bulk work, of late."""
        usable_s = self.slo_s - self.lost.value - self.margin_s
        return max(usable_s, LEAST_USABLE_SHARE * self.slo_s)

    @property
    def margin_s(self) -> float:
        """What bulk work leaves free of a row's time."""
        return self.margin.share * self.slo_s

    @property
    def matters(self) -> bool:
        """Whether it can cost another queue anything: by rows that wait, or by those it expects."""
        return bool(self.queue) or self.urgent

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

    def reached(self, row: Row, now_s: float) -> None:
        """Count what a row lost of its SLO before it came here, and will lose on its way back.

        A client's own timeout tells nothing of that.
        """
        if row.deadline_s < row.expires_s and self.urgent:
            self.lost.add(self.slo_s - (row.deadline_s - now_s))

    def put(self, rows: Iterable[Row], now_s: float) -> None:
        """Have rows wait."""
        if not self.queue:
            self.waiting_since_s = now_s
        for row in rows:
            self.queue.add(row)

    def oldest_s(self) -> float:
        """When the row at the front arrived; the front ages, whatever the order."""
        return self.queue.head.arrival_s


class Turn(NamedTuple):
    """A queue whose rows may run next, with the longest batch that they may be in.

    A row that alone takes longer than `hold_s` is held back.
    """

    flow: Flow
    limit_s: float
    hold_s: float = NO_DEADLINE
