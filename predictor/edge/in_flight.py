"""Counts what is in flight, for a server that waits for it before it closes."""

import asyncio


class InFlight:
    """A context for each request. `idle` is set while there is none."""

    def __init__(self) -> None:
        self._count = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self._count += 1
        self.idle.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self.idle.set()
