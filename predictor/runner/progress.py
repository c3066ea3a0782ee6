"""A progress bar for a log: a line now and then, also where nobody watches a terminal."""

import logging
from collections.abc import Callable
from time import monotonic

WIDTH = 20
EVERY_S = 2.0


class Progress:
    """Counts to `total`; tells at the first and the last, and every few seconds between."""

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        total: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._what = what
        self._total = total
        self._clock = clock
        self._began_s = clock()
        self._told_s = float("-inf")
        self._done = 0

    def advance(self, latest: str) -> None:
        """One more is done; `latest` says which."""
        self._done += 1
        now_s = self._clock()
        if self._done < self._total and now_s - self._told_s < EVERY_S:
            return
        self._told_s = now_s
        filled = WIDTH * self._done // self._total
        self._log.info(
            "%s [%s%s] %d/%d, %s, %.1f s",
            *(self._what, "#" * filled, "." * (WIDTH - filled), self._done, self._total),
            *(latest, now_s - self._began_s),
        )
