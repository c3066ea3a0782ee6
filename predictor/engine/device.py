"""The device and its threads: batches run one after the other, in the order they are handed in.

A plain runner computes on a thread of the device, which holds what it has been given in a
queue, so that the next batch begins without a word from the event loop. Where the device has
a queue of its own (a `PipelinedRunner`), the event loop launches a batch itself, while the one
before it may still run, and a second thread waits for its results. Either way results go back
to the loop in one call per batch.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from predictor.core.rows import Batch
from predictor.engine.isolation import Ran, run_isolated
from predictor.engine.port import Launched, PipelinedRunner, Runner

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that the device is done with. Times are on the device's clock, in seconds."""

    batch: Batch
    ran: Ran
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True)
class _OnItsWay:
    """A batch that was launched, or could not be: then waiting for it raises the same again."""

    runner: Runner
    batch: Batch
    launched: Launched | Exception
    launched_s: float

    def results(self) -> Sequence[bytes]:
        if isinstance(self.launched, Exception):
            raise self.launched
        return self.launched.results()


class Device:
    """One accelerator (or the CPU), behind its threads."""

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
        self._free_s = float("-inf")
        self._pipelined: dict[type[Runner], bool] = {}
        self._work: queue.SimpleQueue[tuple[Runner, Batch] | None] = queue.SimpleQueue()
        self._launched: queue.SimpleQueue[_OnItsWay | None] = queue.SimpleQueue()
        for name, run in (("device", self._run), ("device-results", self._collect)):
            # Daemons: a device that hangs must not keep the process from ending.
            threading.Thread(target=run, name=name, daemon=True).start()

    def start(self, runner: Runner, batch: Batch) -> None:
        """Run this batch as soon as those before it are done."""
        if self._is_pipelined(runner):
            now_s = self._clock()
            launched = _launch(runner, batch)
            if launched is not None:
                self._launched.put(_OnItsWay(runner, batch, launched, now_s))
                return
        self._work.put((runner, batch))

    def _is_pipelined(self, runner: Runner) -> TypeGuard[PipelinedRunner]:
        known = self._pipelined.get(type(runner))
        if known is None:  # asked once: looking at all that a protocol asks for takes 15 us
            known = self._pipelined[type(runner)] = isinstance(runner, PipelinedRunner)
        return known

    def close(self) -> None:
        """End the threads after what they have been given."""
        self._work.put(None)
        self._launched.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            runner, batch = item
            started_s = self._clock()
            ran = run_isolated(runner, batch.rows, batch.packing)
            self._tell(Finished(batch, ran, started_s, self._clock()))

    def _collect(self) -> None:
        while (it := self._launched.get()) is not None:
            ran = run_isolated(it.runner, it.batch.rows, it.batch.packing, it.results)
            finished_s = self._clock()
            # Launched early, it began when the device had done with the one before.
            started_s = max(it.launched_s, self._free_s)
            self._free_s = finished_s
            self._tell(Finished(it.batch, ran, started_s, finished_s))

    def _tell(self, done: Finished) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finished, done)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.close()


def _launch(runner: PipelinedRunner, batch: Batch) -> Launched | Exception | None:
    try:
        return runner.launch([row.payload for row in batch.rows], batch.packing)
    except Exception as error:  # whatever a model raises is its rows' answer
        return error
