"""Bodies of jobs on their way in and out: a few at a time, and none that hardly moves.

Each holds memory for as long as its client likes. So where all places are taken, the slowest
client loses its place to the next, if it moves less than a connection of 2G would.

Only the time that is spent waiting for the client counts: the server may be slow as well.
"""

from collections.abc import Callable

from predictor.core.errors import QueueFull

MAX_STREAMS = 64  # of one edge; each holds a few MiB
MIN_BYTES_PER_S = 16 << 10
WINDOW_S = 10.0  # of waiting, over which a pace is measured


class Stream:
    """One body, and how fast its client moves it."""

    def __init__(self, give_up: Callable[[], None] = lambda: None) -> None:
        self.give_up = give_up  # ends the wait for the client that is under way
        self.too_slow = False
        self._bytes = 0.0
        self._waited_s = 0.0
        self._since_s: float | None = None

    def waits(self, now_s: float) -> None:
        """For the client, from now on."""
        self._since_s = now_s

    def moved(self, size: int, now_s: float) -> None:
        """The client sent or took so much."""
        if self._since_s is not None:
            self._waited_s += now_s - self._since_s
            self._since_s = None
        self._bytes += size
        if self._waited_s >= WINDOW_S:  # what is older counts half
            self._waited_s /= 2
            self._bytes /= 2

    def bytes_per_s(self, now_s: float) -> float | None:
        """None where the client was not waited for long enough to tell."""
        waiting_s = 0.0 if self._since_s is None else now_s - self._since_s
        waited_s = self._waited_s + waiting_s
        return self._bytes / waited_s if waited_s >= WINDOW_S / 2 > 0 else None


class Streams:
    """The places."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: set[Stream] = set()

    def enter(self, stream: Stream, now_s: float) -> None:
        """Take a place, that of the slowest if need be. Raises QueueFull."""
        if len(self._streams) >= self._most:
            self._drop_slowest(now_s)
        self._streams.add(stream)

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def _drop_slowest(self, now_s: float) -> None:
        paces = {stream: stream.bytes_per_s(now_s) for stream in self._streams}
        known = {stream: pace for stream, pace in paces.items() if pace is not None}
        slowest = min(known, key=lambda stream: known[stream], default=None)
        if slowest is None or known[slowest] >= MIN_BYTES_PER_S:
            raise QueueFull("this server moves as many jobs as it can; try again shortly")
        self._streams.discard(slowest)
        slowest.too_slow = True
        slowest.give_up()
