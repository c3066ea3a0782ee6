"""One deadline of a connection, which moves with each thing that happens on it."""

import asyncio
from collections.abc import Callable


class MovingDeadline:
    """Calls `missed` when it passes.

    A timer that goes off before the deadline, which has moved since, starts again; so moving it
    costs no timer, and a request neither.
    """

    __slots__ = ("_loop", "_missed", "_timer", "_timer_s", "due_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, missed: Callable[[], None]) -> None:
        self.due_s: float | None = None  # on the loop's clock; set to None, it is off
        self._loop = loop
        self._missed = missed
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0

    def within(self, seconds: float) -> None:
        """From now on."""
        due_s = self.due_s = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._loop.call_at(due_s, self._look)

    def end(self) -> None:
        """For good."""
        self.due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        due_s = self.due_s
        if due_s is None:
            return
        left_s = due_s - self._loop.time()
        if left_s > 0:
            self.within(left_s)
        else:
            self.due_s = None
            self._missed()
