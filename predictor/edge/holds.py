"""Refusals that need not ask the engine: it has just said no to the same.

The engine refuses in microseconds, but it is one process, and under a flood it would spend its
time on refusals. So where it sheds a request, this edge refuses the next ones like it for a
moment: about as long as the engine's word took to come, and never so long that the queue, which
is then as long as the SLO allows, could run dry.
"""

from collections.abc import Hashable

ANSWER_TIMES = 2.0  # of what the refusal took, is how long it holds
MAX_SHARE_OF_SLO = 0.25


class Holds:
    """Kinds of requests that are refused for a moment. Time comes in as an argument."""

    def __init__(self) -> None:
        self._until_s: dict[Hashable, float] = {}

    def shed(self, kind: Hashable, took_s: float, slo_s: float, now_s: float) -> None:
        """The engine refused a request of this kind, `took_s` after it was asked."""
        self._until_s[kind] = now_s + min(ANSWER_TIMES * took_s, MAX_SHARE_OF_SLO * slo_s)

    def holds(self, kind: Hashable, now_s: float) -> bool:
        """Whether the next request of this kind is to be refused, too."""
        until_s = self._until_s.get(kind)
        if until_s is None:
            return False
        if now_s < until_s:
            return True
        del self._until_s[kind]
        return False
