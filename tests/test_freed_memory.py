"""Memory that goes back to the system when nothing large is left."""

import subprocess
import sys

import pytest

from predictor.freed_memory import MUCH_BYTES, HighWater, _LargeReads

MIB = 1 << 20
# What decoding does: blocks of some megabytes, between small ones that stay.
HOLES = """
import os, sys
from predictor.freed_memory import _MALLOC_TRIM, give_back
from tests.server.jobs import resident_bytes
if _MALLOC_TRIM is None:
    sys.exit(77)
bytearray(30 << 20)  # once freed, smaller blocks come from the heaps
before = resident_bytes(os.getpid())
large, small = [], []
for _ in range(48):
    large.append(b"x" * (2 << 20))
    small.append(b"y" * 3000)
del large
freed = resident_bytes(os.getpid())
give_back()
print(freed - before, resident_bytes(os.getpid()) - before)
"""


def test_what_was_freed_goes_back() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=False
    )
    if ended.returncode == 77:
        pytest.skip("another C library")
    kept, left = map(int, ended.stdout.split())
    assert kept > 16 * MIB, "nothing to give back: this checks nothing"
    assert left < 8 * MIB


def test_it_is_asked_for_once_after_much() -> None:
    asked: list[int] = []
    high_water = HighWater(lambda: asked.append(1))
    for held in (MUCH_BYTES - 1, 0, 0, MUCH_BYTES, MUCH_BYTES - 1):
        high_water.note(held)
    assert not asked
    for held in (0, 0, 1, 0):
        high_water.note(held)
    assert asked == [1]


def test_large_bodies_that_are_refused_count_too() -> None:
    asked: list[int] = []
    reads = _LargeReads(lambda: asked.append(1))
    for _ in range(9):
        reads.ended(MUCH_BYTES // 4)
    assert asked == [1, 1]
