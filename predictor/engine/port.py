"""The two seams of the engine: edges call it, and it calls runners.

`Engine` is the one interface through which an edge reaches the queues, whether it lives in
the same process or at the other end of a Unix socket. One submission is one message there
and one `Reply` back: the engine joins the rows, in order, so a request settles exactly once.
To cancel, cancel the future: rows that still wait leave the queue and never run, and those that
generate take part in no further step.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from predictor.core.facts import EdgeFact
from predictor.core.generation import Generated, Sampled, Sampling
from predictor.core.model import ModelSpec
from predictor.core.rows import NO_DEADLINE, Packing, Piece


class RowInput(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row: a 1-D array of the model's `row_datatype` as raw bytes, and its length.

    Of a row that generates, `page_hashes` names each full page of its prompt, for the prefix cache
    (see policy/pages.py). The edge makes them: it has more cores than an engine's one thread.
    """

    payload: bytes
    tokens: int
    sampling: Sampling | None = None  # of a row that generates
    page_hashes: tuple[bytes, ...] = ()


class Submission(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A decoded request. `tier` or `priority` (or neither) choose the queue.

    `arrived_s` is when the request reached the edge, on CLOCK_MONOTONIC, which all processes
    of a machine share; None is now. `timeout_s` is the client's own deadline from then, if it
    has one; the tier's SLO applies where it is shorter. `return_s` is what the answer's way back
    through the edge is expected to take: the engine ends that much before the SLO does.
    """

    model: str
    rows: Sequence[RowInput]
    tier: str | None = None
    priority: int | None = None
    timeout_s: float | None = None
    arrived_s: float | None = None
    return_s: float = 0.0
    streams: bool = False  # what its rows generate is wanted as it comes


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All results of a submission, in its order, as raw bytes of `result_datatype`.

    The times and the batch are those of the row that finished last. `generated` holds the output
    of rows that generate instead, whole, unless the submission streams: then it came in parts.
    """

    results: Sequence[bytes]
    queue_s: float
    service_s: float
    batch_size: int
    generated: tuple[Generated, ...] = ()


class EngineStatus(msgspec.Struct, frozen=True):
    """What the engine serves now.

    `models` holds the loaded ones, `loading` the names that are on their way. A loaded
    model is ready unless the engine is draining. `tightest_slo_s` is the shortest SLO of any
    tier; infinite where none has one. `bulk_tier` is the least urgent tier without an SLO, where
    jobs run that name no tier; empty where there is none. `tiers`: the priority of each, the most
    urgent first; `slos_s`: the SLO of those whose rows are given up when it is over.

    Of an engine in another process: `edges_missing` edges of the replica are not connected to it;
    it is `silent` where it does not answer, and not `alive` where only a restart can help.
    """

    draining: bool
    generation: int
    models: Mapping[str, ModelSpec]
    loading: tuple[str, ...] = ()
    tightest_slo_s: float = NO_DEADLINE
    bulk_tier: str = ""
    tiers: Mapping[str, int] = {}
    slos_s: Mapping[str, float] = {}
    edges_missing: int = 0
    silent: bool = False
    alive: bool = True


class Engine(Protocol):
    """What an edge needs. All methods are called on the edge's event loop."""

    def submit(
        self, submission: Submission, part: Callable[[Generated], bool] | None = None
    ) -> asyncio.Future[Reply]:
        """Queue the rows.

        Where the submission streams, `part` is called with what rows generate, in order and before
        the future ends; if it returns False, that row has ended, and generates no more.

        The future ends with a Reply or with one of core.errors: InvalidRequest (unknown
        tier, row too long), UnknownModel, QueueFull, Shed, DeadlineExceeded, RowFailed,
        Unavailable. Never raises itself, and the future never stays pending for ever.
        """
        ...

    def status(self) -> EngineStatus: ...

    def report(self, fact: EdgeFact) -> None:
        """Count what an edge did or saw: a request that it answered or refused, the jobs."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The exposition of all metrics, and its content type."""
        ...


class Runner(Protocol):
    """A loaded model on a device. `run` is never called on the event loop.

    Implementations raise DeviceMemoryExhausted when the device has no room for the batch,
    DeviceLost when it is gone for good, which ends the engine, and anything else when the
    model itself fails; the engine then runs the rows in halves until the rows at fault stand
    alone.
    """

    @property
    def spec(self) -> ModelSpec: ...

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        """Results in the order of rows; both as raw bytes, coded as `spec` says."""
        ...


class Launched(Protocol):
    """A batch that the device has been given, and that runs or waits there."""

    def results(self) -> Sequence[bytes]:
        """Wait until the device is done with it; what `Runner.run` returns, or raises."""
        ...


@runtime_checkable
class PipelinedRunner(Runner, Protocol):
    """A runner whose device has a queue of its own.

    Batches run in the order in which they were launched. The next one may be launched while
    one runs, so that the device goes on without waiting for Python in between.
    """

    def launch(self, rows: Sequence[bytes], packing: Packing) -> Launched | None:
        """Hand a batch to the device within a fraction of a millisecond, without waiting for it.

        Called on the event loop: two threads that both work in Python would spend their time
        waiting for each other's interpreter lock. None for a batch that cannot be launched so
        quickly; it is then run by `run` on the device's thread. Raises as `run`.
        """
        ...


@runtime_checkable
class StepRunner(Protocol):
    """A loaded model whose rows run more than once. `run_step` is never called on the event loop.

    Raises as `Runner.run` does. A step that raises has advanced no row, so the engine may run it
    again with fewer pieces.
    """

    @property
    def spec(self) -> ModelSpec: ...

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        """In the order of pieces: the token that a piece sampled, None for one that samples none,
        and what is wrong where one row alone cannot go on, as with logits that are no numbers."""
        ...


class LaunchedStep(Protocol):
    """A step that the device has been given, and that runs or waits there."""

    def results(self) -> Sequence[Sampled | Exception | None]:
        """Wait until the device is done with it; what `StepRunner.run_step` returns, or raises."""
        ...


@runtime_checkable
class PipelinedStepRunner(StepRunner, Protocol):
    """A step runner whose device has a queue of its own: what a row was given last stays there, so
    a step may be launched before the one before it has ended."""

    def launch_step(self, pieces: Sequence[Piece]) -> LaunchedStep:
        """Hand a step to the device within a fraction of a millisecond, without waiting for it.

        Called on the event loop, as `PipelinedRunner.launch`, and never while a step that could
        not be launched has yet to be run by `run_step`. Raises as `run_step`.
        """
        ...


AnyRunner = Runner | StepRunner


class DeviceMemoryExhausted(Exception):
    """The batch did not fit into device memory."""


class DeviceLost(Exception):
    """The device answers no more, and only a new process can use it again."""
