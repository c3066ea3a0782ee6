"""How long to wait before an API server is tried again: longer each time, and never all at once.

Replicas lose their watches together, when the server is restarted. Without jitter they would all
come back together, too.
"""

import random

FIRST_S = 0.2
LONGEST_S = 10.0
STEADY_S = 5.0  # what held for so long was no failure


class Pauses:
    def __init__(
        self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, seed: int | None = None
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s
        self._random = random.Random(seed)

    @property
    def at_longest(self) -> bool:
        """Whether the failures in a row are so many that pauses grow no more."""
        return self._next_s >= self._longest_s

    def after_s(self, lasted_s: float) -> float:
        """Seconds to wait after an attempt that lasted so long before it ended."""
        step_s = self._first_s if lasted_s >= STEADY_S else self._next_s
        self._next_s = min(2 * step_s, self._longest_s)
        return step_s * self._random.uniform(0.5, 1.0)
