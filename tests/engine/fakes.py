"""A runner that waits to be let go, and an observer that remembers."""

import threading
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from predictor.core.facts import Fact, Settled
from predictor.core.model import ModelSpec, Task
from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Outcome, Packing
from predictor.engine.device import Clock
from predictor.engine.local import LocalEngine
from predictor.engine.port import DeviceMemoryExhausted, RowInput, Submission

MODEL = "sums"
F = TypeVar("F", bound=Fact)


def row(*ids: int) -> RowInput:
    return RowInput(array("q", ids).tobytes(), len(ids))


def submission(*rows: RowInput, model: str = MODEL, **rest: Any) -> Submission:
    return Submission(model=model, rows=rows, **rest)


def total(result: bytes) -> int:
    return array("q", result)[0]


class Sums:
    """Adds up ids. A negative id raises, more than `room` tokens are too many for memory."""

    def __init__(self, name: str = MODEL, room: int = 1 << 30) -> None:
        self.spec = ModelSpec(name, Task.SIMULATED, "INT64", "INT64", 1, max_tokens=512)
        self.ran: list[list[int]] = []  # the first id of each row, per run
        self.room = room
        self._open = threading.Event()
        self._open.set()
        self._entered = threading.Semaphore(0)

    def load(self) -> "Sums":
        return self

    def hold(self) -> None:
        """From now on runs do not return until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def wait_until_running(self) -> None:
        """Blocks until a run that began after `hold` is under way. Not on the event loop."""
        assert self._entered.acquire(timeout=30)

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        values = [array("q", each) for each in rows]
        self.ran.append([each[0] for each in values])
        if not self._open.is_set():
            self._entered.release()
            assert self._open.wait(30)
        if sum(map(len, values)) > self.room:
            raise DeviceMemoryExhausted("no room")
        if any(each[0] < 0 for each in values):
            raise ValueError("a negative id")
        return [array("q", [sum(each)]).tobytes() for each in values]


class Pipeline(Sums):
    """Sums on a device with a queue of its own. `hold` and `release` are for its results.

    More than `most` rows cannot be launched. `run` is for those, and for what failed.
    """

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        self.launched: list[list[int]] = []  # the first id of each row, per launch
        self.ran_on: list[str] = []  # names of threads
        self._most = most

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        self.ran_on.append(threading.current_thread().name)
        return super().run(rows, packing)

    def launch(self, rows: Sequence[bytes], packing: Packing) -> "InPipeline | None":
        if len(rows) > self._most:
            return None
        values = [array("q", each) for each in rows]
        self.launched.append([each[0] for each in values])
        if any(each[0] < 0 for each in values):
            raise ValueError("a negative id")
        return InPipeline(self._open, [array("q", [sum(each)]).tobytes() for each in values])


class InPipeline:
    """A launched batch; its results are there when the runner is released."""

    def __init__(self, opened: threading.Event, results: Sequence[bytes]) -> None:
        self._opened = opened
        self._results = results

    def results(self) -> Sequence[bytes]:
        assert self._opened.wait(30)
        return self._results


class Memory:
    """An observer that keeps every fact."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def observe(self, fact: Fact, /) -> None:
        self.facts.append(fact)

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def outcomes(self) -> list[Outcome]:
        return [fact.outcome for fact in self.of(Settled)]


def parameters(generation: int = 1, **tier: Any) -> Parameters:
    interactive = {"priority": 1, "slo_ms": None, "max_queue_size": 1000, **tier}
    return parse_plain(
        {
            "generation": generation,
            "tiers": {"interactive": interactive, "bulk": {"priority": 2}},
        }
    )


@asynccontextmanager
async def running(
    *runners: Sums,
    given: Parameters | None = None,
    batch_timeout_s: float = 60,
    max_queued_bytes: int | None = None,
    clock: Clock = time.monotonic,
) -> AsyncIterator[tuple[LocalEngine, Memory]]:
    """An engine with these models loaded, and what it tells."""
    memory = Memory()
    names = [runner.spec.name for runner in runners]
    engine = LocalEngine(
        names,
        given or parameters(),
        memory,
        exposition=lambda _: (b"", ""),
        batch_timeout_s=batch_timeout_s,
        max_queued_bytes=max_queued_bytes,
        clock=clock,
    )
    await engine.start({runner.spec.name: runner.load for runner in runners})
    for runner in runners:
        runner.ran.clear()
    try:
        yield engine, memory
    finally:
        for runner in runners:
            runner.release()
