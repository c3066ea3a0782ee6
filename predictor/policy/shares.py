"""What is due to whom when not everybody can be served.

Two guarantees, both in device seconds a second. A tier with a `min_share` is owed that share of
the time while its rows wait, and goes first once a slice of its own is owed. Urgent queues whose
demand is more than the device can do share what there is by weight (max-min fairness): a queue
that asks for less than its part gets all of it, and the others part the rest. So a flood delays
and sheds its own rows.

Choosing the most value per device second instead would give a heavy model nothing as long as a
light one floods.
"""

import math
from collections.abc import Sequence

AGED_SHARE = 0.05  # of device time, for a tier with rows older than its `max_age_s`


class Credit:
    """Device seconds that one tier is owed. Time is an argument."""

    __slots__ = ("_owed_s", "_until_s")

    def __init__(self) -> None:
        self._owed_s = 0.0
        self._until_s = -math.inf  # counted so far

    def owed_s(self, share: float, waiting_since_s: float, now_s: float) -> float:
        """What is owed by now, where rows have waited without a break since then.

        What was owed before a break is forgotten: it had nobody to run.
        """
        if waiting_since_s > self._until_s:
            self._owed_s = 0.0
            self._until_s = waiting_since_s
        self._owed_s += share * max(now_s - self._until_s, 0.0)
        self._until_s = now_s
        return self._owed_s

    def spend(self, seconds: float) -> None:
        """Its rows ran. What they got beyond what was owed was nobody else's, and is no debt."""
        self._owed_s = max(self._owed_s - seconds, 0.0)


def fair_level(loads: Sequence[float], weights: Sequence[float], capacity: float = 1.0) -> float:
    """The level f with sum(min(load, f * weight)) = capacity; infinite where all have room.

    `loads` are shares of the device. Queue i may have f * weight_i.
    """
    left = capacity
    weight_left = sum(weights)
    for load, weight in sorted(zip(loads, weights, strict=True), key=lambda it: it[0] / it[1]):
        if load / weight * weight_left >= left:
            return left / weight_left
        left -= load
        weight_left -= weight
    return math.inf
