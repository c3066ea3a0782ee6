"""How long will a batch take? Learned online, per model and packing.

A batch is described by its `Work`. Packed, the device's time follows the rows, the tokens
and (attention) the pairs of tokens that look at each other; padded, it follows the area
b * longest that the device really computes. A step of rows that generate is packed, too, but a
row's new tokens look at all that came before them, whose keys and values are read from memory:

    packed   l = w0 + w1 * b + w2 * sum(tokens)     + w3 * sum(tokens^2)
    paged    l = w0 + w1 * b + w2 * sum(tokens - 1) + w3 * sum(context) + w4 * sum(tokens * context)
                 + w5 * (sum(tokens) > 1)
    padded   l = w0 + w1 * b * longest              + w2 * b * longest^2

A row that decodes adds one token, while the weights of the model are read for all rows alike: it
costs less than a token of a prompt, which is why a row's first new token is charged to the row. And
one token alone multiplies matrices with a vector, more a matrix with a matrix, by other code: on a
CPU the second token takes a third of what the first one does, and the third little.

The weights minimise the squared *relative* error over recent batches, older batches
counting `FORGET` times less each (weighted recursive least squares, kept as its normal
equations). They are kept non-negative by coordinate descent from the last weights, which
makes the prediction monotone in the work, and leaves it where it was in directions that
the traffic does not excite. A running quantile of measured / predicted gives the margin
that deadlines are checked with.
"""

from collections import deque
from collections.abc import Sequence
from math import inf
from statistics import median
from typing import Protocol

from predictor.core.rows import Packing
from predictor.core.work import Work

__all__ = ["ServiceTime", "ServiceTimeModel", "Work"]

FORGET = 0.97  # a memory of about 33 batches: follows a change within 200
PULL = 1e-3  # how strongly weights stay where they were, against one batch's weight of 1
SWEEPS = 3
SURPRISE_RATIO = 1.2  # a batch this far off, either way, surprises
SURPRISES = 5  # so many in a row, all to one side, mean that the device has changed:
FORGET_AFTER_CHANGE = 0.5  # what was learned before it counts little from then on
MARGIN_QUANTILE = 0.9
MAX_MARGIN = 0.10  # 5-10% costs little goodput, 35% costs a quarter of it
MARGIN_STEP = 0.005
FLOOR_S = 1e-6
ERROR_WINDOW = 200
LESSON_EVERY_S = 2e-3
MOST_REMEMBERED = 4096  # predictions, between two lessons

_FEATURES = {
    Packing.PACKED: ("fixed", "rows", "tokens", "tokens_squared"),
    Packing.PADDED: ("fixed", "area", "area_longest"),
    Packing.PAGED: ("fixed", "rows", "tokens", "context", "tokens_context", "several"),
}


class ServiceTime(Protocol):
    """Predicts service times; the policy asks nothing else of it."""

    def predict_s(self, work: Work) -> float: ...

    def alike_s(self, rows: int, tokens: float) -> float:
        """`predict_s` of `rows` rows of `tokens` tokens each."""
        ...

    @property
    def margin(self) -> float:
        """Deadlines are checked against predict_s * (1 + margin)."""
        ...


class ServiceTimeModel:
    """Learns service times of one model and packing from measured batches."""

    def __init__(self, packing: Packing, weights: Sequence[float] | None = None) -> None:
        """`weights`: a first guess, in seconds per unit of each feature."""
        self.packing = packing
        self.names = _FEATURES[packing]
        size = len(self.names)
        self._weights = list(weights) if weights is not None else [1e-3] + [0.0] * (size - 1)
        if len(self._weights) != size or any(w < 0 for w in self._weights):
            raise ValueError(f"{size} weights of 0 or more are needed: {self.names}")
        self._gram = [[0.0] * size for _ in range(size)]
        self._target = [0.0] * size
        self._margin = 0.0
        self._errors: deque[float] = deque(maxlen=ERROR_WINDOW)
        self._surprises = 0  # in a row; negative when the batches were faster than predicted
        self.batches = 0
        self._next_lesson_s = -inf
        self._alike_s: dict[tuple[int, int], float] = {}  # since the last lesson

    def predict_s(self, work: Work) -> float:
        w = self._weights
        if self.packing is Packing.PACKED:
            total = w[0] + w[1] * work.rows + w[2] * work.tokens + w[3] * work.pairs
        elif self.packing is Packing.PAGED:
            total = (
                w[0]
                + w[1] * work.rows
                + w[2] * (work.tokens - work.rows)
                + w[3] * work.context
                + w[4] * work.pairs
                + (w[5] if work.tokens > 1 else 0.0)
            )
        else:
            area = work.rows * work.longest
            total = w[0] + area * (w[1] + w[2] * work.longest)
        return total if total > FLOOR_S else FLOOR_S  # noqa: FURB136 - half the time of max()

    def alike_s(self, rows: int, tokens: float) -> float:
        """`predict_s` of `rows` rows of `tokens` tokens each, remembered until the next lesson.

        Between two batches hundreds of requests may come, and each asks the same.
        """
        key = (rows, int(tokens + 0.5))  # as Work.alike rounds
        known_s = self._alike_s.get(key)
        if known_s is None:
            if len(self._alike_s) >= MOST_REMEMBERED:
                self._alike_s.clear()
            known_s = self._alike_s[key] = self.predict_s(Work.alike(rows, tokens))
        return known_s

    def computed_tokens(self, work: Work) -> int:
        """Tokens that the device computes for this work, whatever it computes for nothing too."""
        return work.computed(self.packing)

    @property
    def margin(self) -> float:
        return self._margin

    @property
    def weights(self) -> dict[str, float]:
        return dict(zip(self.names, self._weights, strict=True))

    @property
    def error_ratio(self) -> float:
        """Median |predicted - measured| / measured over the last batches; 0 without any."""
        return median(self._errors) if self._errors else 0.0

    def learn_at(self, now_s: float, work: Work, measured_s: float) -> None:
        """Take in a batch that just ended, unless lessons come faster than they can teach.

        A lesson costs tens of microseconds, which short batches in close succession could
        not pay; a change is still learned within tens of milliseconds.
        """
        if now_s >= self._next_lesson_s:
            self._next_lesson_s = now_s + LESSON_EVERY_S
            self.learn(work, measured_s)

    def learn(self, work: Work, measured_s: float) -> None:
        """Take in one measured batch."""
        measured_s = max(measured_s, FLOOR_S)
        self._alike_s.clear()
        ratio = measured_s / self.predict_s(work)
        self._errors.append(abs(1.0 / ratio - 1.0))
        self._track_margin(ratio)
        self.batches += 1
        forget = self._forget(ratio)
        scale = 1.0 / measured_s
        features = [value * scale for value in self._features(work)]
        for i, value in enumerate(features):
            row = self._gram[i]
            self._target[i] = forget * self._target[i] + value
            for j, other in enumerate(features):
                row[j] = forget * row[j] + value * other
        self._descend()

    def _features(self, work: Work) -> tuple[float, ...]:
        if self.packing is Packing.PACKED:
            return (1.0, float(work.rows), float(work.tokens), float(work.pairs))
        if self.packing is Packing.PAGED:
            more = float(work.tokens - work.rows)
            several = float(work.tokens > 1)
            return (1.0, float(work.rows), more, float(work.context), float(work.pairs), several)
        area = float(work.rows * work.longest)
        return (1.0, area, area * work.longest)

    def _track_margin(self, ratio: float) -> None:
        step = MARGIN_QUANTILE if ratio > 1.0 + self._margin else MARGIN_QUANTILE - 1.0
        self._margin = min(max(self._margin + MARGIN_STEP * step, 0.0), MAX_MARGIN)

    def _forget(self, ratio: float) -> float:
        if ratio > SURPRISE_RATIO:
            self._surprises = max(self._surprises, 0) + 1
        elif ratio * SURPRISE_RATIO < 1.0:
            self._surprises = min(self._surprises, 0) - 1
        else:
            self._surprises = 0
        return FORGET_AFTER_CHANGE if abs(self._surprises) >= SURPRISES else FORGET

    def _descend(self) -> None:
        weights = self._weights
        before = list(weights)
        for _ in range(SWEEPS):
            for i, row in enumerate(self._gram):
                curvature = row[i]
                if curvature <= 0.0:
                    continue
                slope = self._target[i] - sum(
                    value * weight for value, weight in zip(row, weights, strict=True)
                )
                pull = PULL * curvature
                step = (slope + pull * (before[i] - weights[i])) / (curvature + pull)
                weights[i] = max(0.0, weights[i] + step)
