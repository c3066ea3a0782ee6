"""What the device does at best, and what the engine gets out of it: a process of its own.

    echo '{"model_dir": "/tmp/bert", "device": "cuda"}' | python -m loadtest.bench_gpu.device_runs

Both are measured with the same loaded runner, so that their ratio is of one run. The answer
is one line of JSON, after whatever the loading said.
"""

import asyncio
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import uvloop

from loadtest.bench.errors import BenchError
from loadtest.bench.lengths import lognormal_lengths
from loadtest.bench_gpu.device_findings import DeviceFindings, DeviceRuns, Throughput
from predictor.core.facts import Snapshot
from predictor.core.model import ModelSettings, Task
from predictor.core.parameters import ModelParameters
from predictor.core.rows import Packing
from predictor.engine.local import LocalEngine
from predictor.engine.port import (
    Launched,
    PipelinedRunner,
    Reply,
    RowInput,
    Runner,
    Submission,
)
from predictor.metrics.observer import PrometheusObserver
from predictor.runner.loading import load_runner

MODEL = "bert"
ROWS = 16_384  # a second of traffic, used again and again
ROWS_OF_SUBMISSION = 8
WARMUP_SHARE = 0.15
DEPTH = 2  # batches that the device holds: one runs, one waits
NO_SLO_MS = 60_000.0


class _Done:
    """A batch of a runner without a queue of its own: launching it ran it."""

    def __init__(self, results: Sequence[bytes]) -> None:
        self._results = results

    def results(self) -> Sequence[bytes]:
        return self._results


Launch = Callable[[Sequence[bytes], Packing], Launched]


def launch_of(runner: Runner) -> Launch:
    """Launches where the runner can at once, else runs."""
    if not isinstance(runner, PipelinedRunner):
        return lambda rows, packing: _Done(runner.run(rows, packing))

    def launch(rows: Sequence[bytes], packing: Packing) -> Launched:
        return runner.launch(rows, packing) or _Done(runner.run(rows, packing))

    return launch


def traffic(seed: int = 7) -> Sequence[bytes]:
    """Rows of the benchmark's lengths, as runners take them."""
    source = np.random.default_rng(seed)
    return [
        source.integers(1000, 30_000, length, dtype=np.int64).tobytes()
        for length in lognormal_lengths(ROWS, seed)
    ]


def length_of(row: bytes) -> int:
    return len(row) // 8


def by_tokens(rows: Sequence[bytes], budget: int) -> Sequence[Sequence[bytes]]:
    """Whole rows, in order, as many as the budget holds."""
    batches: list[list[bytes]] = [[]]
    room = budget
    for row in rows:
        if length_of(row) > room and batches[-1]:
            batches.append([])
            room = budget
        batches[-1].append(row)
        room -= length_of(row)
    return batches[:-1] or batches  # the last one may be short


def by_rows(rows: Sequence[bytes], count: int) -> Sequence[Sequence[bytes]]:
    return [rows[first : first + count] for first in range(0, len(rows) - count + 1, count)]


def back_to_back(
    launch: Launch, label: str, batches: Sequence[Sequence[bytes]], packing: Packing, seconds: float
) -> Throughput:
    """Run the batches with DEPTH of them on the device; what warms it up is not counted."""
    upcoming = cycle(batches)
    _run_for(launch, upcoming, packing, seconds * WARMUP_SHARE)
    began_s = perf_counter()
    ran = _run_for(launch, upcoming, packing, seconds)
    elapsed_s = perf_counter() - began_s
    rows = sum(map(len, ran))
    tokens = sum(length_of(row) for batch in ran for row in batch)
    computed = tokens
    if packing is Packing.PADDED:
        computed = sum(len(batch) * max(map(length_of, batch)) for batch in ran)
    return Throughput(
        label=label,
        tokens_per_s=tokens / elapsed_s,
        rows_per_s=rows / elapsed_s,
        batch_ms=elapsed_s / len(ran) * 1e3,
        padding_share=1 - tokens / computed,
    )


def _run_for(
    launch: Launch, batches: Iterator[Sequence[bytes]], packing: Packing, seconds: float
) -> Sequence[Sequence[bytes]]:
    """At least one batch, and those that fit into the time; all are done at the end."""
    ran: list[Sequence[bytes]] = []
    waiting: deque[Launched] = deque()
    ends_s = perf_counter() + seconds
    while not ran or perf_counter() < ends_s:
        batch = next(batches)
        ran.append(batch)
        waiting.append(launch(batch, packing))
        if len(waiting) == DEPTH:
            waiting.popleft().results()
    for launched in waiting:
        launched.results()
    return ran


async def through_engine(runner: Runner, runs: DeviceRuns, rows: Sequence[bytes]) -> Throughput:
    """The engine saturated with submissions, without an edge."""
    from loadtest.bench.servers import one_model_parameters

    batching = ModelParameters(
        max_batch_size=runs.max_batch_size, max_batch_tokens=runs.max_batch_tokens
    )
    parameters = one_model_parameters(
        MODEL, batching, NO_SLO_MS, max_queue_size=2 * runs.submissions * ROWS_OF_SUBMISSION
    )

    def snapshot() -> Snapshot:  # the observer and the engine need each other
        return engine.snapshot()

    observer = PrometheusObserver(snapshot, (MODEL,), lambda: parameters.tiers)
    engine = LocalEngine((MODEL,), parameters, observer, exposition=observer.exposition)
    await engine.start({MODEL: lambda: runner})
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # as the server does
    inputs = [RowInput(row, length_of(row)) for row in rows]
    upcoming = cycle(by_rows_of(inputs, ROWS_OF_SUBMISSION))
    answered_rows = answered_tokens = 0
    failures: list[BaseException] = []
    going = True

    def submit() -> None:
        submission = Submission(model=MODEL, rows=next(upcoming))
        future = engine.submit(submission)
        future.add_done_callback(lambda ended: answered(ended, submission))

    def answered(future: asyncio.Future[Reply], submission: Submission) -> None:
        nonlocal answered_rows, answered_tokens
        error = future.exception()
        if error is not None:
            failures.append(error)
            return
        answered_rows += len(submission.rows)
        answered_tokens += sum(row.tokens for row in submission.rows)
        if going:
            submit()

    for _ in range(runs.submissions):
        submit()
    await asyncio.sleep(max(0.5, runs.seconds * WARMUP_SHARE))
    began_s, rows_before, tokens_before = perf_counter(), answered_rows, answered_tokens
    await asyncio.sleep(2 * runs.seconds)
    elapsed_s = perf_counter() - began_s
    counted_rows, counted_tokens = answered_rows - rows_before, answered_tokens - tokens_before
    going = False
    if failures:
        raise BenchError(f"the engine refused or failed a submission: {failures[0]}")
    return Throughput(
        label="engine",
        tokens_per_s=counted_tokens / elapsed_s,
        rows_per_s=counted_rows / elapsed_s,
        batch_ms=0.0,
        padding_share=0.0,
    )


def by_rows_of(inputs: Sequence[RowInput], count: int) -> Sequence[Sequence[RowInput]]:
    return [inputs[first : first + count] for first in range(0, len(inputs) - count + 1, count)]


def settings_of(runs: DeviceRuns, **more: Any) -> ModelSettings:
    return ModelSettings(
        name=MODEL,
        task=Task.TEXT_CLASSIFICATION,
        model_dir=str(Path(runs.model_dir)),
        device=runs.device,
        dtype=runs.dtype,
        **more,
    )


def measure(runs: DeviceRuns) -> DeviceFindings:
    rows = traffic()
    began_s = perf_counter()
    runner = load_runner(settings_of(runs))
    loading_s = perf_counter() - began_s
    launch = launch_of(runner)
    packed = runner.spec.packed
    packing = Packing.PACKED if packed else Packing.PADDED

    def at_budgets(launch: Launch) -> Sequence[Throughput]:
        return [
            back_to_back(
                launch, f"{budget:,} tokens", by_tokens(rows, budget), packing, runs.seconds
            )
            for budget in runs.token_budgets
        ]

    offline = at_budgets(launch)
    padded = [
        back_to_back(launch, f"{count} rows", by_rows(rows, count), Packing.PADDED, runs.seconds)
        for count in runs.padded_rows
    ]
    engine = uvloop.run(through_engine(runner, runs, rows))
    eager: Sequence[Throughput] = ()
    if "capture_graphs" in ModelSettings.__struct_fields__:
        eager = at_budgets(launch_of(load_runner(settings_of(runs, capture_graphs=False))))
    return DeviceFindings(
        offline=offline,
        eager=eager,
        padded=padded,
        engine=engine,
        packed=packed,
        loading_s=loading_s,
    )


if __name__ == "__main__":
    sys.setswitchinterval(5e-4)  # as the server does
    found = measure(msgspec.json.decode(sys.stdin.buffer.read(), type=DeviceRuns))
    print(msgspec.json.encode(found).decode(), flush=True)
