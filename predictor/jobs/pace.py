"""How many lines of a model to hold. Time is an argument; nothing here waits or asks a clock.

A replica holds what its slack runs in about a second: as many lines as ended in the last second.
By Little's law that many keep a line a second on its way, and as urgent requests take the device,
fewer end, so fewer are held, and the lines stay for replicas with more slack. It never falls
below `least`, two batches or so, with which the pace is found anew (it may double every time
that lines end), and never rises above `most`, which bounds memory.

When the engine refuses a line there is no slack at all: nothing is claimed for a while, and for
twice as long each time, until a line is answered again.
"""

from collections import deque

WINDOW_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
WORTH_A_CLAIM = 0.25  # of what is held at most: not one round trip for each line that ends


class Pace:
    """Of one model."""

    def __init__(self, least: int, most: int) -> None:
        self._least = min(least, most)
        self._most = most
        self._ended: deque[tuple[float, int]] = deque()
        self._pause_s = FIRST_PAUSE_S
        self.resumes_s = float("-inf")  # nothing is claimed before

    def ended(self, now_s: float, lines: int) -> None:
        """So many lines were answered or parked just now."""
        self._ended.append((now_s, lines))
        self._forget(now_s)
        if lines and now_s >= self.resumes_s:
            self._pause_s = FIRST_PAUSE_S

    def refused(self, now_s: float, retry_after_s: float = 0.0) -> None:
        """The engine would not take a line. What is refused during a pause does not prolong it."""
        if now_s < self.resumes_s:
            return
        pause_s = min(max(self._pause_s, retry_after_s), LONGEST_PAUSE_S)
        self.resumes_s = now_s + pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def to_claim(self, now_s: float, held: int) -> int:
        """How many lines to claim now, where `held` are running or not settled yet."""
        if now_s < self.resumes_s:
            return 0
        self._forget(now_s)
        target = min(max(sum(lines for _, lines in self._ended), self._least), self._most)
        room = target - held
        return room if room >= WORTH_A_CLAIM * target else 0

    def _forget(self, now_s: float) -> None:
        while self._ended and self._ended[0][0] <= now_s - WINDOW_S:
            self._ended.popleft()
