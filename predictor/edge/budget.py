"""How many bytes of decoded input one process holds at a time.

A small body may hold much: 119 KB of FLAC are half an hour of silence, which is 115 MB of samples.
So queues that are bounded in rows do not bound memory. Each request reserves what it will hold
before it is decoded, corrects that to what it does hold, and gives it back once, when it has ended.

A client's request is refused where there is no room. A line of a job, which nobody waits for, waits
until there is some. All lines together have half of the budget, or one line that is larger alone:
else a job would have everybody else refused.
"""

import asyncio
from collections import deque

from predictor.core.errors import RequestTooLarge, Unavailable
from predictor.freed_memory import HighWater

DEFAULT_BYTES = 1 << 30
RETRY_S = 1.0
_LINES_SHARE = 0.5


class DecodedBytes:
    """The budget of one process. All methods belong to its event loop."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._high_water = HighWater()
        self._held_by_lines = 0
        self._lines_limit = int(limit * _LINES_SHARE)
        self.line_turn = asyncio.Lock()
        self._waiting: deque[tuple[asyncio.Future[None], Reservation, int]] = deque()

    def reservation(self, *, of_line: bool = False) -> "Reservation":
        """Of nothing yet."""
        return Reservation(self, of_line)

    def add(self, size: int, of_line: bool) -> None:
        """For reservations alone. Negative: there is more room again."""
        self.held += size
        self._high_water.note(self.held)
        if of_line:
            self._held_by_lines += size
        if size < 0 and self._waiting:
            self._let_in()

    def has_room(self, size: int) -> bool:
        return self.held + size <= self.limit

    async def room_for_line(self, reservation: "Reservation", size: int) -> None:
        """Reserve so much when there is room, after those that wait already."""
        if not self._waiting and self._has_room_for_line(size):
            reservation.correct(size)
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((granted, reservation, size))
        try:
            await granted
        except asyncio.CancelledError:
            self._let_in()  # those behind it need not wait for it
            raise

    def _has_room_for_line(self, size: int) -> bool:
        fits = self._held_by_lines + size <= self._lines_limit or not self._held_by_lines
        return fits and self.has_room(size)

    def _let_in(self) -> None:
        while self._waiting:
            granted, reservation, size = self._waiting[0]
            if not granted.done():
                if not self._has_room_for_line(size):
                    return
                reservation.correct(size)
                granted.set_result(None)
            self._waiting.popleft()


class Reservation:
    """What one request holds of the budget. To be released in the end, whatever became of it."""

    __slots__ = ("_budget", "_has_turn", "_of_line", "size")

    def __init__(self, budget: DecodedBytes, of_line: bool) -> None:
        self._budget = budget
        self._of_line = of_line
        self._has_turn = False
        self.size = 0

    async def turn(self) -> None:
        """Before a line is read: only one is read at a time, until it has its room.

        What is read of a line, and waits, would be held without being counted.
        """
        await self._budget.line_turn.acquire()
        self._has_turn = True

    def take(self, size: int) -> None:
        """Reserve so many bytes now. Raises Unavailable, and RequestTooLarge where that is no use.

        For a request of a client.
        """
        budget = self._budget
        if budget.held + size > budget.limit:
            self._check_ever(size)
            raise Unavailable(
                f"this server holds as much decoded input as it may ({budget.limit} bytes);"
                " try again shortly",
                RETRY_S,
            )
        budget.add(size - self.size, self._of_line)
        self.size = size

    async def wait(self, size: int) -> None:
        """Reserve so many bytes when there is room. Raises RequestTooLarge.

        For a line of a job.
        """
        self._check_ever(size)
        await self._budget.room_for_line(self, size)
        self._end_turn()

    def correct(self, size: int) -> None:
        """It is so much in truth, and held in any case."""
        change, self.size = size - self.size, size
        self._budget.add(change, self._of_line)

    def release(self) -> None:
        if self._has_turn:
            self._end_turn()
        if self.size:
            size, self.size = self.size, 0
            self._budget.add(-size, self._of_line)

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._budget.line_turn.release()

    def _check_ever(self, size: int) -> None:
        if size > self._budget.limit:
            raise RequestTooLarge(
                f"the request holds up to {size} bytes when it is decoded, and this server holds"
                f" {self._budget.limit} at most; send fewer rows, or shorter ones"
            )
