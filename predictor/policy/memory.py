"""How large a batch fits into device memory: learned from the ones that did not.

What is free changes: another process may take memory for a while, and give it back. So a limit is
a guess that ages. A batch that fails takes a quarter off; what is left stands for a while, then it
grows until a batch fails again, and returns to where it was. Each such return doubles the time that
the limit stands, so one that is real costs a failed batch a minute, and one that is none is gone
within seconds.

A row that does not fit *alone* teaches no limit: no smaller batch could be made of it. It fails,
and the next is tried. Time is an argument.
"""

from math import inf

from predictor.policy.service_time import Work

FIRST_HOLD_S = 1.0
LONGEST_HOLD_S = 60.0
FORGETS_AFTER_HOLDS = 10.0  # a failure so much later than the last is the first again
DOUBLES_EVERY_S = 1.0
UNLIMITED = 1 << 62  # tokens


class MemoryLimit:
    """Of one model. Counts computed tokens, padding included."""

    __slots__ = ("_failed_s", "_hold_s", "_relaxes_s", "_stood", "fitted_tokens", "tokens")

    def __init__(self) -> None:
        self.tokens = UNLIMITED  # most in a batch of several rows
        self.fitted_tokens = 0  # most that a batch had which did fit
        self._stood = UNLIMITED  # the limit before it began to grow
        self._hold_s = FIRST_HOLD_S
        self._failed_s = -inf
        self._relaxes_s = inf

    def failed(self, work: Work, computed_tokens: int, now_s: float) -> None:
        """This work did not fit. Of a batch that is halved, each part that fails is told."""
        if work.rows < 2:
            return
        if now_s - self._failed_s > FORGETS_AFTER_HOLDS * self._hold_s:
            self._hold_s = FIRST_HOLD_S
        elif self.tokens > self._stood:
            self._hold_s = min(2.0 * self._hold_s, LONGEST_HOLD_S)
        if computed_tokens <= self.tokens:
            less = max(computed_tokens * 3 // 4, 1)
            self.tokens = self._stood = self._stood if self._stood < computed_tokens else less
        self._failed_s = now_s
        self._relaxes_s = now_s + self._hold_s

    def fitted(self, computed_tokens: int) -> None:
        """A batch did fit."""
        self.fitted_tokens = max(self.fitted_tokens, computed_tokens)

    def relax(self, now_s: float) -> None:
        """Let the limit age."""
        while now_s >= self._relaxes_s:
            self.tokens *= 2
            self._relaxes_s += DOUBLES_EVERY_S
            if self.tokens >= UNLIMITED:
                self.tokens = self._stood = UNLIMITED
                self._relaxes_s = inf
