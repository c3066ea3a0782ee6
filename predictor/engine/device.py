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
from typing import cast

from predictor.core.rows import Batch
from predictor.engine.isolation import Ran, run_isolated, run_parts, said_by
from predictor.engine.port import (
    AnyRunner,
    Launched,
    LaunchedStep,
    PipelinedRunner,
    PipelinedStepRunner,
)

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
    launched: Launched | LaunchedStep | BaseException | None
    given_s: float

    @property
    def is_left_to_thread(self) -> bool:
        """Whether it is a step that runs on the thread, for the first time or in halves."""
        failed = self.launched is None or isinstance(self.launched, BaseException)
        return failed and bool(self.batch.pieces)

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
        self._launchers: dict[type[AnyRunner], _Launcher | None] = {}
        # Steps go on from one another. So while one that could not be launched has yet to be run by
        # the thread, those behind it are not launched either. Each is counted by one thread alone.
        self._left_to_thread = 0
        self._run_by_thread = 0
        self._work: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
        # A daemon: a device that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="device", daemon=True).start()

    def start(self, runner: AnyRunner, batch: Batch) -> None:
        """Run this batch as soon as those before it are done."""
        now_s = self._clock()
        launch = self._launcher_of(runner)
        launched = None
        if launch is not None and not (batch.pieces and self._thread_is_behind):
            launched = launch(runner, batch)
        given = _Given(runner, batch, launched, now_s)
        self._left_to_thread += given.is_left_to_thread
        self._work.put(given)

    @property
    def _thread_is_behind(self) -> bool:
        return self._left_to_thread > self._run_by_thread

    def _launcher_of(self, runner: AnyRunner) -> "_Launcher | None":
        kind = type(runner)
        if kind not in self._launchers:  # asked once: to look at all of a protocol takes 15 us
            self._launchers[kind] = _launcher_of(runner)
        return self._launchers[kind]

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
            self._run_by_thread += it.is_left_to_thread
            self._free_s = self._clock()
            self._tell(Finished(it.batch, ran, began_s, self._free_s))

    def _tell(self, done: Finished) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finished, done)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.close()


_Launcher = Callable[[AnyRunner, Batch], Launched | LaunchedStep | BaseException | None]


def _launcher_of(runner: AnyRunner) -> _Launcher | None:
    if isinstance(runner, PipelinedStepRunner):
        return _launch_step
    return _launch if isinstance(runner, PipelinedRunner) else None


def _launch(runner: AnyRunner, batch: Batch) -> Launched | BaseException | None:
    try:
        return cast("PipelinedRunner", runner).launch(
            [row.payload for row in batch.rows], batch.packing
        )
    except BaseException as error:  # whatever a model raises is its rows' answer
        return error


def _launch_step(runner: AnyRunner, batch: Batch) -> LaunchedStep | BaseException:
    try:
        return cast("PipelinedStepRunner", runner).launch_step(batch.pieces)
    except BaseException as error:
        return error
