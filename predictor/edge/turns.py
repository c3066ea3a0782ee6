"""When a request really arrived, and whether this edge can keep up.

An edge is one event loop. While it works on some requests, the others wait in their sockets,
where nothing has a clock. But a loop works in turns: it reads all that has come, then works on
it. What it works on now was sent at the earliest when the turn before began to work. So the
length of the turns tells how long requests wait unseen, and counting that time keeps deadlines
and latencies true. An edge that takes much of an SLO for that must refuse the rest while
refusing is still cheaper than working: behind it, the engine has no way to help.

A request and its answer pass through three such turns: half of one in the socket, its own, half
of one until the answer is read, and that one, at whose end it is sent. Hence the limit of a
sixth of the SLO, which leaves the engine the other half. What is still to come, the last one
and a half, is told to the engine, so that it lets in what will be in time at the client's end.
"""

from collections.abc import Callable
from time import monotonic

MAX_SHARE_OF_SLO = 1 / 6  # of the tightest SLO, that a request may wait before it is read
SHRINKS = 0.75  # a turn that is so much shorter than the one before works off a backlog
TURNS_BACK = 1.5  # of an answer: half a turn until it is read, and that one


class Turns:
    """Watches the turns in which requests come; costs nothing while none do."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`call_soon` runs a function in the next turn, as an event loop's does."""
        self._call_soon = call_soon
        self._clock = clock
        self._watching = False
        self._busy = False  # a request came in this turn
        self._refused = False  # a request in this turn, and in the one before
        self._refused_last = False
        self._began_s = 0.0
        self._last_s = 0.0  # how long the turn before took, and the one before that
        self._last_but_one_s = 0.0

    def arrival(self, now_s: float) -> float:
        """When the request that is looked at now reached the socket, as well as can be told."""
        self._busy = True
        if not self._watching:
            self._watching = True
            self._began_s = now_s
            self._last_s = self._last_but_one_s = 0.0
            self._call_soon(self._next)
        return self._began_s - self._last_s / 2

    def overrun(self, arrived_s: float, now_s: float, slo_s: float) -> bool:
        """Whether requests have been waiting too long here, this one included.

        One long turn is a hiccup, and the turns behind it, which work off what came meanwhile,
        are long, too, but ever shorter. Those of an edge that is too slow only are if it refuses.
        """
        limit_s = MAX_SHARE_OF_SLO * slo_s
        if now_s - arrived_s <= limit_s:
            return False
        if self._last_s < SHRINKS * self._last_but_one_s and not self._refused_last:
            return False
        self._refused = 2 * min(self._last_s, self._last_but_one_s) >= limit_s
        return self._refused

    @property
    def return_s(self) -> float:
        """What an answer's way back will take at this pace; 0 where little comes."""
        return TURNS_BACK * min(self._last_s, self._last_but_one_s) if self._watching else 0.0

    def _next(self) -> None:
        now_s = self._clock()
        self._last_but_one_s, self._last_s = self._last_s, now_s - self._began_s
        self._began_s = now_s
        self._refused_last, self._refused = self._refused, False
        if self._busy:
            self._busy = False
            self._call_soon(self._next)
        else:
            self._watching = False
