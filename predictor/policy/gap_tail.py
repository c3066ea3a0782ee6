"""How much longer than predicted a step may take, for the sake of rows that wait for a token.

A row is judged by the p99 of its gaps, and one of fewer than 100 tokens by the longest. One step
that takes too long can make all rows late that decode. So what counts is the far tail of the steps,
and of those only the long ones: a short step that takes twice as long is still in time, and says
little of a long one (what the host needs for it hides behind the device). A step is planned no
longer than

    ITL / (the `QUANTILE` of measured / predicted, of the last `WINDOW` steps that were long)

What is measured is the time from the end of one step to that of the next, so that what the device
waits for is counted, too. This is learned from the device and not from what becomes of requests:
overload, in which many are late whatever is done, teaches nothing wrong, and needs no forgetting.
"""

import math
from collections import deque

QUANTILE = 0.998
WINDOW = 1024
LONG = 0.5  # of the longest step that is planned: shorter ones are not looked at
LEAST, LARGEST = 0.05, 0.6  # shares of the ITL
INITIAL = 0.2
INITIAL_FOR = 128  # long steps: then the tail begins to be known
REFRESH = 8  # steps after which the quantile is worked out anew


class GapTail:
    """Knows no time; is told of each step in which rows decode."""

    __slots__ = ("_ratios", "_seen", "share")

    def __init__(self) -> None:
        self.share = INITIAL  # of the ITL, that a step leaves free
        self._ratios: deque[float] = deque(maxlen=WINDOW)
        self._seen = 0

    def add(self, predicted_s: float, gap_s: float, itl_slo_s: float) -> None:
        """A step was predicted, with caution, to take so long, and took this long."""
        if predicted_s < LONG * (1.0 - self.share) * itl_slo_s:
            return
        self._ratios.append(gap_s / predicted_s)
        self._seen += 1
        if self._seen % REFRESH == 0:
            ratios = sorted(self._ratios)
            ratio = ratios[math.ceil(QUANTILE * (len(ratios) - 1))]
            least = INITIAL if self._seen < INITIAL_FOR else LEAST
            self.share = min(max(1.0 - 1.0 / ratio, least), LARGEST)
