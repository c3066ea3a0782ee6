"""Tells when the device hangs: nothing it was given ends within the time that a batch may take."""

import asyncio
from collections.abc import Callable


class Watchdog:
    """On the running event loop. Not armed, it costs nothing."""

    def __init__(self, limit_s: float, hung: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._hung = hung
        self._timer: asyncio.TimerHandle | None = None

    @property
    def armed(self) -> bool:
        return self._timer is not None

    def rearm(self, *, busy: bool) -> None:
        """Give what the device does its time from now, if it does anything."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limit_s, self._hung) if busy else None
