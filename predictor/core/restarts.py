"""When a process that died is started again. Time is an argument."""

from collections import deque

QUICK_S = 10.0  # a process that dies sooner after its start died quickly
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 10.0
WINDOW_S = 60.0
MOST_DEATHS = 5  # in the window


class Restarts:
    """Of one process: at once, later when it keeps dying, and not for ever."""

    def __init__(self) -> None:
        self._deaths_s: deque[float] = deque(maxlen=MOST_DEATHS + 1)
        self._quick = 0  # deaths in a row that were quick

    def delay_s(self, started_s: float, died_s: float) -> float | None:
        """Seconds to wait before the next start; None when it died too often."""
        self._deaths_s.append(died_s)
        if len(self._deaths_s) > MOST_DEATHS and died_s - self._deaths_s[0] < WINDOW_S:
            return None
        self._quick = self._quick + 1 if died_s - started_s < QUICK_S else 0
        if self._quick < 2:
            return 0.0
        return min(FIRST_DELAY_S * 2.0 ** (self._quick - 2), LONGEST_DELAY_S)
