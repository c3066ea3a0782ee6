"""The device's own thread: runs batches one after the other, in the order they are handed in.

It holds what it has been given in a queue, so that the next batch begins without a word
from the event loop. Results go back to the loop in one call per batch.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from predictor.core.rows import Batch
from predictor.engine.isolation import Ran, run_isolated
from predictor.engine.port import Runner

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that the device is done with. Times are on the device's clock, in seconds."""

    batch: Batch
    ran: Ran
    started_s: float
    finished_s: float


class Device:
    """One accelerator (or the CPU), behind one thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[Finished], None],
        clock: Clock = time.monotonic,
    ) -> None:
        """`finished` is called on `loop` for each batch, in order."""
        self._loop = loop
        self._finished = finished
        self._clock = clock
        self._work: queue.SimpleQueue[tuple[Runner, Batch] | None] = queue.SimpleQueue()
        # A daemon: a device that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def start(self, runner: Runner, batch: Batch) -> None:
        """Run this batch as soon as those before it are done."""
        self._work.put((runner, batch))

    def close(self) -> None:
        """End the thread after what it has been given."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            runner, batch = item
            started_s = self._clock()
            ran = run_isolated(runner, batch.rows, batch.packing)
            done = Finished(batch, ran, started_s, self._clock())
            try:
                self._loop.call_soon_threadsafe(self._finished, done)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
