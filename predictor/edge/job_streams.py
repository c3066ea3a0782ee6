"""Places for the streams of jobs, their uploads and their results.

Each stream holds some MiB, so there are few places. A client that moves a byte now and then would
keep one for as long as it likes; when all are taken, the slowest below a minimum pace gives its
place to the one that comes. Only the time that a stream waits for its client counts.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from predictor.core.errors import BodyTimeout, QueueFull

T = TypeVar("T")
LEAST_BYTES_PER_S = 1 << 14
PATIENCE_S = 5.0  # of waiting, before a pace says anything


class JobStream:
    """One stream, which is moved by the task that opened it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._task = asyncio.current_task()
        self._bytes = 0
        self._waited_s = 0.0  # without the wait that goes on
        self._waits_since_s: float | None = None
        self.given_up = False

    async def waiting(self, moved: Awaitable[T]) -> T:
        """What the client does next: `moved` is awaited on its account."""
        self._waits_since_s = self._clock()
        try:
            return await moved
        finally:
            self._waited_s += self._clock() - self._waits_since_s
            self._waits_since_s = None

    def moved(self, size: int) -> None:
        self._bytes += size

    def bytes_per_s(self) -> float | None:
        """None where it did not wait for long enough to tell."""
        waited_s = self._waited_s
        if self._waits_since_s is not None:
            waited_s += self._clock() - self._waits_since_s
        return self._bytes / waited_s if waited_s >= PATIENCE_S else None

    def give_up(self) -> None:
        """End it, with what `JobStreams.open` raises."""
        self.given_up = True
        if self._task is not None:
            self._task.cancel()

    def ends_here(self) -> bool:
        """Whether `give_up`, and nothing else, cancelled the task."""
        return self.given_up and (self._task is None or not self._task.uncancel())


class JobStreams:
    """Those that are open."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[JobStream, None] = {}

    @contextlib.contextmanager
    def open(self, most: int) -> Iterator[JobStream]:
        """One of `most` places.

        Raises QueueFull where there is none, and BodyTimeout when it is given up.
        """
        if len(self._open) >= most:
            self._make_room()
        stream = JobStream(self._clock)
        self._open[stream] = None
        try:
            yield stream
        except asyncio.CancelledError:
            if not stream.ends_here():
                raise
            raise BodyTimeout(
                f"the job moved fewer than {LEAST_BYTES_PER_S} bytes a second, and its place was "
                "needed; try again, from nearer or with a smaller job"
            ) from None
        finally:
            self._open.pop(stream, None)

    def _make_room(self) -> None:
        slowest: JobStream | None = None
        least = float(LEAST_BYTES_PER_S)
        for stream in self._open:
            pace = stream.bytes_per_s()
            if pace is not None and pace < least:
                slowest, least = stream, pace
        if slowest is None:
            raise QueueFull("this server moves as many jobs as it can; try again shortly")
        del self._open[slowest]
        slowest.give_up()
