"""What a generating model does on the device and in the engine: a process of its own.

    echo '{"model_dir": "/tmp/llama", "device": "cuda"}' | \
        python -m loadtest.bench_gpu.generation_runs

All is measured with the same loaded model, so that ratios are of one run. The answer is one line of
JSON, after whatever the loading said.
"""

import logging
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import uvloop
from msgspec import structs

from loadtest.bench_gpu.generation_findings import (
    Burst,
    BurstFound,
    GenerationFindings,
    GenerationRuns,
    LoadFound,
    PrefixFound,
    StepCase,
)
from loadtest.bench_gpu.generation_world import (
    MODEL,
    URGENT,
    Arrivals,
    World,
    burst,
    world_of,
)
from predictor.core.generation import Generated, Sampled
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Piece
from predictor.engine.port import LaunchedStep, PipelinedStepRunner, StepRunner
from predictor.engine.step_warmup import Shape, first_pieces
from predictor.runner.loading import load_model

STEP_SECONDS = 0.25
DEPTH = 2  # steps that the device holds
START_RATE_PER_S = 40.0
MOST_PROBES = 9
RESOLUTION = 1.06
OF_CAPACITY, BULK_LOAD, OVERLOADS = 0.7, 0.3, (1.5, 2.0)
SHARED_TOKENS, OWN_TOKENS, PREFIX_PROMPTS = 1024, 32, 16
PAGES_SHARE = 0.5


class _Done:
    """A step of a runner whose device has no queue: launching it ran it."""

    def __init__(self, results: Sequence[Sampled | Exception | None]) -> None:
        self._results = results

    def results(self) -> Sequence[Sampled | Exception | None]:
        return self._results


def launch_of(runner: StepRunner) -> Callable[[Sequence[Piece]], LaunchedStep]:
    """Launches where the runner can, else runs."""
    if isinstance(runner, PipelinedStepRunner):
        return runner.launch_step
    return lambda pieces: _Done(runner.run_step(pieces))


def step_ms(runner: StepRunner, case: StepCase) -> float:
    """Steps of one kind, one behind the other."""
    limits = runner.spec.generation
    assert limits is not None
    launch = launch_of(runner)
    first = first_pieces(runner.spec.name, Shape(case.rows, case.context, case.chunk).parts, limits)
    runner.run_step(first)
    again = [structs.replace(piece, pages=(), fresh=False) for piece in first]
    waiting: deque[LaunchedStep] = deque()

    def run_for(seconds: float) -> float:
        steps, began_s = 0, time.perf_counter()
        while time.perf_counter() < began_s + seconds:
            waiting.append(launch(again))
            steps += 1
            if len(waiting) == DEPTH:
                waiting.popleft().results()
        while waiting:
            waiting.popleft().results()
        return (time.perf_counter() - began_s) / steps * 1e3

    run_for(STEP_SECONDS / 5)
    return run_for(STEP_SECONDS)


async def in_bursts(runner: StepRunner, asked: GenerationRuns) -> dict[str, BurstFound]:
    async with world_of(runner, slo=False) as world:
        found = {}
        for name, each in asked.bursts.items():
            await burst(world, structs.replace(each, prompts=min(each.prompts, 64)))
            found[name] = await burst(world, each)
        return found


async def one_alone(runner: StepRunner, tokens: int) -> float:
    """Tokens a second after the first one."""
    async with world_of(runner, slo=False) as world:
        times: list[float] = []

        def take(_: Generated) -> bool:
            times.append(time.perf_counter())
            return True

        await world.engine.submit(world.submission(world.prompt(100), tokens, URGENT), take)
        return (len(times) - 1) / (times[-1] - times[0])


async def prefixes(runner: StepRunner) -> PrefixFound:
    """The first token of prompts one after the other, with a beginning that is cached and
    without."""
    async with world_of(runner, slo=False) as world:
        system = [5 + index % 97 for index in range(SHARED_TOKENS)]

        async def first_s(beginning: Sequence[int]) -> float:
            began_s = time.perf_counter()
            first = 0.0

            def take(_: Generated) -> bool:
                nonlocal first
                first = first or time.perf_counter() - began_s
                return True

            prompt = world.prompt(SHARED_TOKENS + OWN_TOKENS, beginning)
            await world.engine.submit(world.submission(prompt, 4, URGENT), take)
            return first

        await first_s(system)
        shared = [await first_s(system) for _ in range(PREFIX_PROMPTS)]
        unshared = [await first_s(()) for _ in range(PREFIX_PROMPTS)]
        return PrefixFound(
            shared_ms=statistics.median(shared) * 1e3,
            unshared_ms=statistics.median(unshared) * 1e3,
        )


async def find_capacity(world: World, seconds: float) -> LoadFound:
    """The highest rate at which 99% are in time, by doubling and then halving the interval."""
    low: LoadFound | None = None
    high_per_s, rate_per_s = 0.0, START_RATE_PER_S
    for probe in range(MOST_PROBES):
        found = await Arrivals(world, rate_per_s, seconds, seed=probe + 1).run()
        say(f"  {rate_per_s:.0f}/s: {found.in_time:.1%} in time, {found.tokens_per_s:.0f} tokens/s")
        if found.in_time >= 0.99:
            low = found
        else:
            high_per_s = rate_per_s
        if low is not None and high_per_s and high_per_s / low.rate_per_s < RESOLUTION:
            break
        base = low.rate_per_s if low is not None else 0.0
        if not high_per_s:
            rate_per_s = 2 * rate_per_s
        else:
            rate_per_s = (base * high_per_s) ** 0.5 if base else high_per_s / 2
    assert low is not None, "no rate was served in time"
    return low


async def under_slo(runner: StepRunner, runs: GenerationRuns, found: dict[str, Any]) -> None:
    async with world_of(runner, slo=True) as world:
        capacity = await find_capacity(world, runs.probe_s)
        found["capacity"] = capacity
        rate = capacity.rate_per_s

        async def at(rate_per_s: float, *, bulk: bool = False) -> LoadFound:
            load = await Arrivals(world, rate_per_s, runs.probe_s, seed=77).run(bulk=bulk)
            say(f"  {rate_per_s:.0f}/s, bulk {bulk}: {load}")
            return load

        found["at_most_of_it"] = await at(OF_CAPACITY * rate)
        found["overloads"] = [(times, await at(times * rate)) for times in OVERLOADS]
        found["bulk_alone_tokens_per_s"] = (await at(0.0, bulk=True)).tokens_per_s
        found["beside_bulk"] = await at(BULK_LOAD * rate, bulk=True)
    generation = runner.spec.generation
    assert generation is not None
    # What bulk rows in all slots would fill, of which there is half.
    pages = int(PAGES_SHARE * generation.slots * 700 / generation.page_tokens)
    async with world_of(runner, slo=True, pages=min(pages, generation.pages)) as world:
        short = await Arrivals(world, BULK_LOAD * rate, runs.probe_s, seed=78).run(bulk=True)
        say(f"  short of pages: {short}")
        found["short_of_pages"] = short
        (seen,) = world.engine.snapshot().generation
        computed = sum(step.batch.tokens for step in world.seen.steps)
        found["recomputed_share"] = seen.recomputed_tokens / max(computed, 1)


def rival_tokens_per_s(runs: GenerationRuns, asked: Burst) -> float:
    """transformers' continuous batching of some of the same prompts."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(
        runs.model_dir, dtype=getattr(torch, runs.dtype), attn_implementation="paged|sdpa"
    )
    model = model.to(runs.device).eval()
    drawn = torch.Generator().manual_seed(0)
    low, high = asked.prompt_tokens
    prompts = [
        torch.randint(5, model.config.vocab_size, (length,), generator=drawn).tolist()
        for length in torch.randint(low, high, (min(asked.prompts, 128),), generator=drawn).tolist()
    ]
    make_config: Any = GenerationConfig
    config = make_config(
        max_new_tokens=asked.output_tokens[1], eos_token_id=-1, pad_token_id=0, do_sample=False
    )
    batching = ContinuousBatchingConfig()

    def run(some: Sequence[Sequence[int]]) -> int:
        made = model.generate_batch(
            inputs=some, generation_config=config, continuous_batching_config=batching
        )
        return sum(len(each.generated_tokens) for each in made.values())

    run(prompts[:8])
    began_s = time.perf_counter()
    tokens = run(prompts)
    return tokens / (time.perf_counter() - began_s)


def measure(runs: GenerationRuns) -> GenerationFindings:
    began_s = time.perf_counter()
    settings = ModelSettings(
        name=MODEL,
        task=Task.TEXT_GENERATION,
        model_dir=runs.model_dir,
        device=runs.device,
        dtype=runs.dtype,
        kv_cache_gib=None if runs.device == "cuda" else 0.25,
    )
    runner = load_model(settings)
    assert isinstance(runner, StepRunner)
    loading_s = time.perf_counter() - began_s
    say(f"loaded in {loading_s:.1f} s")
    steps = []
    for case in runs.steps:
        steps.append((case, step_ms(runner, case)))
        say(f"  {case}: {steps[-1][1]:.3f} ms")
    found: dict[str, Any] = {}

    def tell(name: str, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        say(name)
        made = uvloop.run(run())
        say(f"  {made}")
        return made

    bursts = tell("bursts", lambda: in_bursts(runner, runs)) if runs.bursts else {}
    if runs.alone_tokens:
        found["alone_tokens_per_s"] = tell("alone", lambda: one_alone(runner, runs.alone_tokens))
    if runs.prefix:
        found["prefix"] = tell("prefixes", lambda: prefixes(runner))
    if runs.slo:
        tell("under SLO", lambda: under_slo(runner, runs, found))
    if runs.rival:
        del runner
        found["rival_tokens_per_s"] = rival_tokens_per_s(runs, next(iter(runs.bursts.values())))
    return GenerationFindings(loading_s=loading_s, step_ms=steps, bursts=bursts, **found)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.setswitchinterval(5e-4)  # as the server does
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)6.0f ms  %(message)s")
    answer = measure(msgspec.json.decode(sys.stdin.buffer.read(), type=GenerationRuns))
    print(msgspec.json.encode(answer).decode(), flush=True)
