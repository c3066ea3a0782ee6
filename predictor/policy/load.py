"""How much work arrives, against what the device can do, and whether that is too much."""

import math

ENTER_OVERLOAD = 1.0
LEAVE_OVERLOAD = 0.9  # apart from the entry, so that the flag does not flap at the edge
MEMORY_S = 1.0
BLEND = 0.05  # weight of the newest request in the mean
GRAIN = 0.02  # share of the memory within which events count as simultaneous


class DecayingRate:
    """Events per second, each counting exp(-age / memory_s).

    Kept in grains, so that an event costs an addition; rates are up to a grain old.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._grain_s = GRAIN * memory_s
        self._started_s = math.nan
        self._folded_s = 0.0
        self._sum = 0.0
        self._fresh = 0.0
        self._per_s = 0.0

    def add(self, amount: float, now_s: float) -> None:
        self._fresh += amount
        if not now_s - self._folded_s < self._grain_s:
            self._fold(now_s)

    def per_s(self, now_s: float) -> float:
        """The rate; over the time since the first event while that is shorter than the memory."""
        if not now_s - self._folded_s < self._grain_s:
            self._fold(now_s)
        return self._per_s

    def _fold(self, now_s: float) -> None:
        if math.isnan(self._started_s):
            if self._fresh == 0.0:
                return
            self._started_s = self._folded_s = now_s
        decay = math.exp(-max(now_s - self._folded_s, 0.0) / self._memory_s)
        self._sum = self._sum * decay + self._fresh
        self._fresh = 0.0
        self._folded_s = now_s
        seen_s = now_s - self._started_s
        weight_s = self._memory_s * (1.0 - math.exp(-seen_s / self._memory_s))
        self._per_s = self._sum / max(weight_s, 2.5 * self._grain_s)


class OfferedLoad:
    """Arriving work per second over capacity, refused work included."""

    def __init__(self) -> None:
        self._work = DecayingRate()
        self._mean_s = 0.0

    def offer(self, work_s: float, now_s: float) -> None:
        """Count the work of a request that was looked at."""
        self._work.add(work_s, now_s)
        self._mean_s += BLEND * (work_s - self._mean_s)

    def offer_unseen(self, now_s: float) -> None:
        """Count a request that was refused before it was read, as one like those of late."""
        self._work.add(self._mean_s, now_s)

    def load(self, now_s: float) -> float:
        return self._work.per_s(now_s)


class Upper:
    """What a noisy quantity seldom exceeds: its mean and twice its mean deviation, of late.

    After Jacobson's estimate of round trips (Congestion Avoidance and Control, 1988), which costs
    a few additions a sample.
    """

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    def add(self, sample: float) -> None:
        error = sample - self._mean
        self._mean += BLEND * error
        self._deviation += BLEND * (abs(error) - self._deviation)

    @property
    def value(self) -> float:
        return self._mean + 2.0 * self._deviation


class Hysteresis:
    """Up when more arrives than the device can do, down when that has clearly passed."""

    def __init__(self) -> None:
        self._up = False

    def update(self, load: float) -> bool:
        self._up = load >= (LEAVE_OVERLOAD if self._up else ENTER_OVERLOAD)
        return self._up
