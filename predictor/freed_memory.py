"""Gives memory back to the system when large inputs are gone, or a model has been loaded.

glibc keeps what is freed: once a block of some megabytes was freed, it takes the next of that size
from its own heaps, of which it returns the tops and keeps the holes. After 20 files of ten minutes
of audio, a process stayed 90 MiB larger, although nothing held anything. A lower threshold for
blocks of their own (`M_MMAP_THRESHOLD`) would return all, too, but cost a model on the CPU page
faults with each batch. So it is asked for what is free once nothing large is left.
"""

import asyncio
import ctypes
from collections.abc import Callable

MUCH_BYTES = 32 << 20  # for less, looking through all heaps is not worth its milliseconds


def _found() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library
        return None
    return trim


_MALLOC_TRIM = _found()


def give_back() -> None:
    """Return what is free, now."""
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)  # other threads may run meanwhile


def give_back_soon() -> None:
    """The same on a thread, after this turn of the loop: its caller may still refer to much."""
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.run_in_executor(None, give_back))


class _LargeReads:
    """Large bodies that were read, whatever became of them: each thread has heaps of its own."""

    def __init__(self, much_was_read: Callable[[], None] = give_back_soon) -> None:
        self._bytes = 0
        self._much_was_read = much_was_read

    def ended(self, size: int) -> None:
        """One of so many bytes, which are held no longer than this turn of the loop."""
        self._bytes += size
        if self._bytes >= MUCH_BYTES:
            self._bytes = 0
            self._much_was_read()


LARGE_READS = _LargeReads()  # of this process, as its heaps are


class HighWater:
    """Says when nothing is held any more of what was much."""

    def __init__(self, much_is_gone: Callable[[], None] = give_back_soon) -> None:
        self._most = 0
        self._much_is_gone = much_is_gone

    def note(self, held: int) -> None:
        """It is so many bytes now."""
        if held:
            self._most = max(self._most, held)
            return
        most, self._most = self._most, 0
        if most >= MUCH_BYTES:
            self._much_is_gone()
