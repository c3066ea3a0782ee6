"""Which requests have waited for as long as they may: one timer for all that are due together.

A timer for each request would cost as much as the rest of sending it, and nearly all are answered
before theirs. So requests are kept in slots of `GRAIN_S`, and only slots have timers. What is kept
is bounded by the requests that wait.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

GRAIN_S = 0.05
FARTHEST_S = 86_400.0  # beyond it, nobody waits
NEVER = 0


class Timer(Protocol):
    def cancel(self) -> object: ...


CallLater = Callable[[float, Callable[[int], None], int], Timer]


class _Slot:
    __slots__ = ("ids", "timer")

    def __init__(self, timer: Timer) -> None:
        self.ids: set[int] = set()
        self.timer = timer


class Deadlines:
    """Of requests by their ids. `due` is called with those whose time is over."""

    def __init__(
        self, due: Callable[[Collection[int]], None], call_later: CallLater | None = None
    ) -> None:
        """`call_later` is that of the running event loop, if not given."""
        self._due = due
        self._call_later = call_later or _call_later
        self._slots: dict[int, _Slot] = {}

    def add(self, request_id: int, due_s: float, now_s: float) -> int:
        """The slot of a request that is due at `due_s`: to be given when it has ended."""
        left_s = due_s - now_s
        if left_s > FARTHEST_S:
            return NEVER
        number = int(due_s / GRAIN_S) + 1
        slot = self._slots.get(number)
        if slot is None:
            delay_s = max(number * GRAIN_S - now_s, 0.0)
            slot = self._slots[number] = _Slot(self._call_later(delay_s, self._fire, number))
        slot.ids.add(request_id)
        return number

    def ended(self, request_id: int, number: int) -> None:
        """The request needs no deadline any more."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.ids.discard(request_id)
            if not slot.ids:
                slot.timer.cancel()
                del self._slots[number]

    def clear(self) -> None:
        for slot in self._slots.values():
            slot.timer.cancel()
        self._slots.clear()

    def __len__(self) -> int:
        return len(self._slots)

    def _fire(self, number: int) -> None:
        slot = self._slots.pop(number, None)
        if slot is not None:
            self._due(slot.ids)


def _call_later(delay_s: float, callback: Callable[[int], None], number: int) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, callback, number)
