"""Time that bulk work leaves free beside an urgent queue, for all that nobody foretold.

Slices and top-up would use the last microsecond of an urgent row's slack. A batch that takes a
little longer than predicted, or a clump of arrivals, then makes rows late or has them shed. How
much must stay free for that is learned from its outcome: each urgent row that misses its deadline
adds to the margin, each that keeps it takes a little away. Where both balance, `MISSED` of the
rows miss. Under overload rows miss whatever bulk does, so then nothing is learned.
"""

MISSED = 0.002  # of the urgent rows may miss because of bulk
WIDER_PER_MISS = 0.004
MOST_AT_ONCE = 0.05  # a hiccup makes a whole batch late; that is one event
LARGEST = 0.4
INITIAL = 0.05


class Margin:
    """A share of the SLO. Counts rows; knows no time."""

    __slots__ = ("share",)

    def __init__(self) -> None:
        self.share = INITIAL

    def missed(self, rows: int) -> None:
        """Rows that ended together after their deadline, or were given up."""
        self.share = min(self.share + min(WIDER_PER_MISS * rows, MOST_AT_ONCE), LARGEST)

    def kept(self, rows: int) -> None:
        self.share = max(self.share - MISSED * WIDER_PER_MISS * rows, 0.0)
