"""The device and its thread: batches run one after the other, in the order they are handed in.

A plain runner computes on the thread, which holds what it has been given in a queue, so that
the next batch begins without a word from the event loop. Where the device has a queue of its
own (a `PipelinedRunner`), the event loop launches a batch itself, while the one before it may
still run, and the thread waits for its results. It is one thread for both, so that a batch that
cannot be launched neither overtakes those that were, nor has their time in its own. Either way
results go back to the loop in one call per batch.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from predictor.core.rows import Batch
from predictor.engine.isolation import Ran, run_isolated, run_parts, said_by
from predictor.engine.port import AnyRunner, Launched, PipelinedRunner

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that the device is done with. Times are on the device's clock, in seconds."""

    batch: Batch
    ran: Ran
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True)
class _Given:
    """A batch that was launched, or could not be: None where the thread is to run it.

    Waiting for one whose launch failed raises the same again.
    """

    runner: AnyRunner
    batch: Batch
    launched: Launched | BaseException | None
    given_s: float

    def results(self) -> object:
        if self.launched is None:
            return run_parts(self.runner, self.batch.parts, self.batch.packing)
        if isinstance(self.launched, BaseException):
            raise self.launched
        return self.launched.results()


class Device:
    """One accelerator (or the CPU), behind its thread."""

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
        self._pipelined: dict[type[AnyRunner], bool] = {}
        self._work: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
        # A daemon: a device that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="device", daemon=True).start()

    def start(self, runner: AnyRunner, batch: Batch) -> None:
        """Run this batch as soon as those before it are done."""
        now_s = self._clock()
        launched = _launch(runner, batch) if self._is_pipelined(runner) else None
        self._work.put(_Given(runner, batch, launched, now_s))

    def _is_pipelined(self, runner: AnyRunner) -> TypeGuard[PipelinedRunner]:
        known = self._pipelined.get(type(runner))
        if known is None:  # asked once: looking at all that a protocol asks for takes 15 us
            known = self._pipelined[type(runner)] = isinstance(runner, PipelinedRunner)
        return known

    def close(self) -> None:
        """End the thread after what it has been given."""
        self._work.put(None)

    def _run(self) -> None:
        while (it := self._work.get()) is not None:
            # Launched early, it begins when the device is done with the one before.
            began_s = self._clock() if it.launched is None else max(it.given_s, self._free_s)
            try:
                ran = run_isolated(it.runner, it.batch.parts, it.batch.packing, it.results)
            except BaseException as error:  # nothing may end this thread while rows wait for it
                failure = RuntimeError(f"{type(error).__name__}: {said_by(error)}")
                ran = Ran([failure] * len(it.batch.parts), at_once=False)
            self._free_s = self._clock()
            self._tell(Finished(it.batch, ran, began_s, self._free_s))

    def _tell(self, done: Finished) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finished, done)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.close()


def _launch(runner: PipelinedRunner, batch: Batch) -> Launched | BaseException | None:
    try:
        return runner.launch([row.payload for row in batch.rows], batch.packing)
    except BaseException as error:  # whatever a model raises is its rows' answer
        return error
