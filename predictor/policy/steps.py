"""Service times of a device that runs in steps: captured graphs of fixed sizes.

A packed batch runs in the smallest step that holds its tokens and its rows, and takes what
that step takes, however full it is. So the model is a table: a time for each step, which
moves toward what is measured. All steps run on one device, and what slows one down slows all,
so the others follow a little. Times never fall from a step to the next larger one: where they
would, the newest measurement is right. Batches beyond the last step are predicted by the
smooth model underneath, which learns from all.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import inf

from predictor.core.model import Step
from predictor.core.rows import Packing
from predictor.policy.service_time import ServiceTimeModel, Work

OWN_RATE = 0.1  # how far a step's time moves toward a measured one
SHARED_RATE = 0.02  # how far the times of all other steps move, in proportion
STEP_PREFIX = "step_"
MOST_CHANGE = 2.0  # a hiccup counts as no more than this


class SteppedServiceTime(ServiceTimeModel):
    """Learns a time for each step, and a `ServiceTimeModel` for what is beyond them."""

    def __init__(
        self,
        steps: Sequence[Step],
        weights: Sequence[float] | None = None,
        times_s: Sequence[float] | None = None,
    ) -> None:
        """`steps` from small to large, by tokens and then by rows.

        `weights` and `times_s` (of each step, 0: not seen) are what another one has learned.
        """
        super().__init__(Packing.PACKED, weights)
        self._steps = list(steps)
        self._tokens = [step.tokens for step in steps]
        self._measured_s = list(times_s or [0.0] * len(steps))  # 0: never seen
        self._times_s = list(accumulate(self._measured_s, max))
        self._least_s = next(filter(None, self._times_s), inf)  # of those seen

    def predict_s(self, work: Work) -> float:
        index = self._index(work)
        if index is None:
            return max(super().predict_s(work), self._times_s[-1])
        return self._times_s[index] or min(super().predict_s(work), self._least_s)

    def computed_tokens(self, work: Work) -> int:
        index = self._index(work)
        return super().computed_tokens(work) if index is None else self._tokens[index]

    @property
    def weights(self) -> dict[str, float]:
        times = zip(self._steps, self._times_s, strict=True)
        return super().weights | {
            f"{STEP_PREFIX}{step.tokens}_{step.rows}": time_s for step, time_s in times
        }

    def learn(self, work: Work, measured_s: float) -> None:
        super().learn(work, measured_s)
        index = self._index(work)
        if index is None:
            return
        known_s = self._measured_s[index]
        if known_s:
            ratio = min(max(measured_s / known_s, 1 / MOST_CHANGE), MOST_CHANGE)
            shared = 1.0 + SHARED_RATE * (ratio - 1.0)
            self._measured_s = [time_s * shared for time_s in self._measured_s]
            self._measured_s[index] = known_s * (1.0 + OWN_RATE * (ratio - 1.0))
        else:
            self._measured_s[index] = measured_s
        self._correct_others(index)
        self._times_s = list(accumulate(self._measured_s, max))
        self._least_s = next(filter(None, self._times_s))

    def _correct_others(self, index: int) -> None:
        """What was measured longer ago, and a while may be long for a step that is rarely used."""
        newest_s, known = self._measured_s[index], self._measured_s
        smaller = [min(time_s, newest_s) for time_s in known[:index]]
        larger = [time_s and max(time_s, newest_s) for time_s in known[index + 1 :]]
        self._measured_s = [*smaller, newest_s, *larger]

    def _index(self, work: Work) -> int | None:
        """Of the smallest step that holds this work."""
        for index in range(bisect_left(self._tokens, work.tokens), len(self._steps)):
            if self._steps[index].rows >= work.rows:
                return index
        return None


def restored(packing: Packing, weights: Mapping[str, float]) -> ServiceTimeModel:
    """A model that knows what another one told as its `weights`, its steps included.

    Raises ValueError where they are no such weights.
    """
    smooth = ServiceTimeModel(packing)
    known = [weights.get(name, 0.0) for name in smooth.names]
    steps = sorted(
        (*map(int, name.removeprefix(STEP_PREFIX).split("_")), time_s)
        for name, time_s in weights.items()
        if name.startswith(STEP_PREFIX)
    )
    if not steps:
        return ServiceTimeModel(packing, known)
    sizes = [Step(int(tokens), int(rows)) for tokens, rows, _ in steps]
    return SteppedServiceTime(sizes, known, [time_s for _, _, time_s in steps])
