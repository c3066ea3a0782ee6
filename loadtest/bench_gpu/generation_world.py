"""An engine with one generating model, in this process, and the traffic that it is given."""

import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import structs

from loadtest.bench.errors import BenchError
from loadtest.bench.generation_world import CHAT
from loadtest.bench_gpu.generation_findings import Burst, BurstFound, LoadFound
from predictor.core.errors import HeadwayError, QueueFull, Shed
from predictor.core.facts import Completed, Fact, Settled, Snapshot
from predictor.core.generation import GREEDY, Generated, Sampling
from predictor.core.model import ModelSpec
from predictor.core.parameters import parse_plain
from predictor.core.rows import Outcome
from predictor.engine.local import LocalEngine
from predictor.engine.port import PipelinedStepRunner, RowInput, StepRunner, Submission
from predictor.metrics.observer import PrometheusObserver
from predictor.policy.pages import chained_hashes

MODEL = "generator"
URGENT, BULK = "interactive", "bulk"
TTFT_S, ITL_S = 0.200, 0.020
NO_HURRY_S = 60.0
BULK_IN_FLIGHT = 1024
BULK_AHEAD_S = 1.0  # bulk work is under way when the first request comes
DRAIN_S = 10.0
SETTLE_S = 0.3
LONGEST_PROMPT, LONGEST_OUTPUT = 2000, 1500  # both fit into the context


@dataclass(slots=True, eq=False)
class Seen:
    """What an engine told since `clear`."""

    steps: list[Completed] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)

    def clear(self) -> None:
        self.steps, self.settled = [], []

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, Completed):
            self.steps.append(fact)
        elif isinstance(fact, Settled):
            self.settled.append(fact)

    @property
    def median_error(self) -> float:
        """Of the times that were foretold, without the first steps, which are learned from."""
        errors = [
            abs(each.batch.predicted_s / each.service_s - 1)
            for each in self.steps[len(self.steps) // 4 :]
            if each.service_s > 0
        ]
        return statistics.median(errors) if errors else 0.0

    def idle_share(self) -> float:
        steps = self.steps
        gaps = [
            max(after.started_s - before.finished_s, 0.0)
            for before, after in itertools.pairwise(steps)
        ]
        return sum(gaps) / max(steps[-1].finished_s - steps[0].started_s, 1e-9)


class World:
    """The engine, and what it told."""

    def __init__(self, engine: LocalEngine, seen: Seen, spec: ModelSpec) -> None:
        assert spec.generation is not None
        self.engine = engine
        self.seen = seen
        self._drawn = np.random.default_rng(0)
        self._vocabulary = spec.vocabulary_size
        self._page_tokens = spec.generation.page_tokens

    def row_of(self, ids: Sequence[int]) -> RowInput:
        return row_of(ids, self._page_tokens)

    def prompt(self, tokens: int, after: Sequence[int] = ()) -> RowInput:
        ids = self._drawn.integers(5, self._vocabulary, tokens - len(after))
        return self.row_of([*after, *ids.tolist()])

    def submission(self, prompt: RowInput, output: int, tier: str) -> Submission:
        sampling = Sampling(max_tokens=output, temperature=GREEDY)
        row = structs.replace(prompt, sampling=sampling)
        return Submission(model=MODEL, rows=[row], tier=tier, streams=True)


def row_of(ids: Sequence[int], page_tokens: int) -> RowInput:
    """As an edge makes it."""
    ids_of_row = np.array(ids, np.int64)
    payload = ids_of_row.tobytes()
    names = chained_hashes(payload, page_tokens * ids_of_row.itemsize)
    return RowInput(payload, len(ids), page_hashes=tuple(names))


@asynccontextmanager
async def world_of(
    runner: StepRunner, *, slo: bool, pages: int | None = None
) -> AsyncIterator[World]:
    """With deadlines for the urgent tier, or none to speak of; with fewer pages than there are."""
    parameters = parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 512, "max_batch_tokens": 8192}},
            "tiers": {
                URGENT: {
                    "priority": 1,
                    "slo_ms": (TTFT_S if slo else NO_HURRY_S) * 1e3,
                    "itl_slo_ms": (ITL_S if slo else NO_HURRY_S) * 1e3,
                    "max_queue_size": 20_000,
                },
                BULK: {"priority": 2, "max_queue_size": 20_000, "min_share": 0.05},
            },
        }
    )

    def snapshot() -> Snapshot:  # the observer and the engine need each other
        return engine.snapshot()

    counts = PrometheusObserver(snapshot, (MODEL,), lambda: parameters.tiers)
    seen = Seen()

    class Both:
        def observe(self, fact: Fact, /) -> None:
            counts.observe(fact)
            seen.observe(fact)

    if pages is not None:
        runner = WithFewerPages(runner, pages)
    engine = LocalEngine((MODEL,), parameters, Both(), exposition=counts.exposition)
    await engine.start({MODEL: lambda: runner})
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # as the server does
    yield World(engine, seen, runner.spec)
    engine.drain()
    engine.abandon()


class WithFewerPages:
    """A runner that says it has fewer pages than it has."""

    def __init__(self, runner: StepRunner, pages: int) -> None:
        assert isinstance(runner, PipelinedStepRunner)
        generation = runner.spec.generation
        assert generation is not None
        self.spec = structs.replace(
            runner.spec, generation=structs.replace(generation, pages=pages)
        )
        self.run_step = runner.run_step
        self.launch_step = runner.launch_step


async def burst(world: World, asked: Burst) -> BurstFound:
    """All at once, to the end. Raises BenchError where a row fails."""
    drawn = random.Random(1)
    submissions = [
        world.submission(
            world.prompt(drawn.randint(*asked.prompt_tokens)),
            drawn.randint(*asked.output_tokens),
            URGENT,
        )
        for _ in range(asked.prompts)
    ]
    world.seen.clear()
    tokens = 0

    def take(generated: Generated) -> bool:
        nonlocal tokens
        tokens += len(generated.tokens)
        return True

    began_s, cpu_s = time.perf_counter(), time.thread_time()
    ended = await asyncio.gather(
        *[world.engine.submit(each, take) for each in submissions], return_exceptions=True
    )
    elapsed_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
    for each in ended:
        if isinstance(each, BaseException):
            raise BenchError(f"a row was not generated: {each}")
    return BurstFound(
        tokens_per_s=tokens / elapsed_s,
        idle_share=world.seen.idle_share(),
        cpu_us=cpu_s / tokens * 1e6,
        median_error=world.seen.median_error,
    )


class Arrivals:
    """Requests that come at a rate, whatever becomes of those before, and perhaps bulk work."""

    def __init__(self, world: World, rate_per_s: float, seconds: float, seed: int = 1) -> None:
        self._world = world
        self._rate_per_s = rate_per_s
        self._seconds = seconds
        self._random = random.Random(seed)
        self._lengths: Iterator[tuple[int, int]] = CHAT.lengths(self._random)
        self._first_s: list[float] = []
        self._gaps_s: list[float] = []
        self._refusals_s: list[float] = []
        self._urgent: set[asyncio.Future[Any]] = set()
        self._bulk: set[asyncio.Future[Any]] = set()
        self._tokens = 0
        self._bulk_going = False

    async def run(self, *, bulk: bool = False) -> LoadFound:
        loop = asyncio.get_running_loop()
        self._bulk_going = bulk
        if bulk:
            for _ in range(BULK_IN_FLIGHT):
                self._send_bulk()
            await asyncio.sleep(BULK_AHEAD_S)
        self._world.seen.clear()
        self._tokens = 0
        began_s = loop.time()
        due_s, offered = began_s, 0
        while self._rate_per_s and due_s < began_s + self._seconds:
            due_s += self._random.expovariate(self._rate_per_s)
            loop.call_at(due_s, self._send, due_s)
            offered += 1
        await asyncio.sleep(self._seconds)
        tokens_per_s = self._tokens / (loop.time() - began_s)
        self._bulk_going = False
        if self._urgent:
            await asyncio.wait(self._urgent, timeout=DRAIN_S)
        seen = self._world.seen
        settled = [each for each in seen.settled if each.tier == URGENT]
        met = sum(each.outcome is Outcome.OK and each.deadline_met for each in settled)
        for each in [*self._urgent, *self._bulk]:
            each.cancel()
        await asyncio.sleep(SETTLE_S)
        return LoadFound(
            rate_per_s=self._rate_per_s,
            offered=offered,
            in_time=met / max(offered, 1),
            refused=len(self._refusals_s),
            ttft_p99_ms=_quantile(self._first_s, 0.99) * 1e3,
            gap_p99_ms=_quantile(self._gaps_s, 0.99) * 1e3,
            refusal_p50_ms=_quantile(self._refusals_s, 0.5) * 1e3,
            tokens_per_s=tokens_per_s,
            median_error=seen.median_error,
        )

    def _send(self, due_s: float) -> None:
        prompt, output = next(self._lengths)
        last_s = due_s

        def take(generated: Generated) -> bool:
            nonlocal last_s
            now_s = time.monotonic()
            (self._first_s if last_s == due_s else self._gaps_s).append(now_s - last_s)
            last_s = now_s
            self._tokens += len(generated.tokens)
            return True

        world = self._world
        submission = world.submission(self._prompt(prompt), min(output, LONGEST_OUTPUT), URGENT)
        future = world.engine.submit(structs.replace(submission, arrived_s=due_s), take)
        self._urgent.add(future)
        future.add_done_callback(lambda done: self._ended(done, due_s))

    def _prompt(self, tokens: int) -> RowInput:
        return self._world.prompt(min(tokens, LONGEST_PROMPT))

    def _ended(self, future: asyncio.Future[Any], due_s: float) -> None:
        self._urgent.discard(future)
        if not future.cancelled() and isinstance(future.exception(), Shed | QueueFull):
            self._refusals_s.append(time.monotonic() - due_s)

    def _send_bulk(self) -> None:
        world = self._world
        prompt, output = next(self._lengths)

        def take(generated: Generated) -> bool:
            self._tokens += len(generated.tokens)
            return True

        submission = world.submission(self._prompt(prompt), min(output, LONGEST_OUTPUT), BULK)
        future = world.engine.submit(submission, take)
        self._bulk.add(future)

        def ended(done: asyncio.Future[Any]) -> None:
            self._bulk.discard(done)
            failed = done.cancelled() or isinstance(done.exception(), HeadwayError)
            if self._bulk_going and not failed:
                self._send_bulk()

        future.add_done_callback(ended)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else 0.0
