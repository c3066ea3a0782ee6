"""The default model of text generation on this machine's CPU, beside transformers' `generate`."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context
from predictor.core.errors import StartupError
from predictor.core.generation import GREEDY, Sampling
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Piece, Progress, Row
from predictor.engine.port import StepRunner

Generate = Callable[[Sequence[int]], None]  # OUTPUT_TOKENS after one prompt

# Rows that generate together, and how much faster than one prompt after the other that is to be.
BOUNDS = {1: 0.9, 4: 2.0, 16: 3.0}
PROMPT_TOKENS = 24
OUTPUT_TOKENS = 64


class GenerationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens per second, medians of the rounds, prompts included in the time."""

    threads: int
    one_by_one_per_s: float
    together_per_s: dict[int, float]

    def table(self) -> Table:
        return Table(
            title="Text generation on the CPU",
            intro=(
                f"The default `text-generation` model, SmolLM2-135M-Instruct, in float32 on"
                f" {self.threads} thread(s): prompts of {PROMPT_TOKENS} tokens, {OUTPUT_TOKENS}"
                " generated after each, greedy. The runner alone, its rows in one step, beside"
                " `generate` of transformers with one prompt after the other, in turns."
            ),
            columns=("rows together", "tokens/s", "÷ `generate`", "bound", "held"),
            rows=[
                ("`generate`, 1", f"{self.one_by_one_per_s:.1f}", "1", "-", "-"),
                *(self._cells(rows, per_s) for rows, per_s in self.together_per_s.items()),
            ],
        )

    def _cells(self, rows: int, per_s: float) -> Sequence[str]:
        ratio, bound = per_s / self.one_by_one_per_s, BOUNDS[rows]
        return (f"{rows}", f"{per_s:.1f}", f"{ratio:.2f}", f"≥ {bound:g}", verdict(ratio >= bound))


def run(context: Context) -> GenerationResult:
    """Raises BenchError where the model cannot be loaded."""
    import torch

    context.say("generation: loading")
    try:
        runner, generate = _load()
    except StartupError as error:
        raise BenchError(str(error)) from None
    drawn = np.random.default_rng(0).integers(
        3, runner.spec.vocabulary_size, (max(BOUNDS), PROMPT_TOKENS)
    )
    prompts: list[list[int]] = drawn.tolist()
    generate(prompts[0])
    _seconds(runner, prompts[:1])
    alone: list[float] = []
    together: dict[int, list[float]] = {rows: [] for rows in BOUNDS}
    for round_number in range(context.pace.rounds):
        context.say(f"generation: round {round_number + 1}")
        started_s = time.perf_counter()
        generate(prompts[round_number % len(prompts)])
        alone.append(OUTPUT_TOKENS / (time.perf_counter() - started_s))
        for rows, rates in together.items():
            rates.append(rows * OUTPUT_TOKENS / _seconds(runner, prompts[:rows]))
    return GenerationResult(
        threads=torch.get_num_threads(),
        one_by_one_per_s=statistics.median(alone),
        together_per_s={rows: statistics.median(rates) for rows, rates in together.items()},
    )


def _load() -> tuple[StepRunner, Generate]:
    """Both of the same checkpoint. Imports torch, and has it use the cores that a server would."""
    import torch
    from transformers import AutoModelForCausalLM

    from predictor.runner.generation_loading import load_generator
    from predictor.runner.small_model import small_model_folder

    settings = ModelSettings(name="bench", task=Task.TEXT_GENERATION, device="cpu")
    runner = load_generator(settings)
    model: Any = AutoModelForCausalLM.from_pretrained(small_model_folder(), dtype=torch.float32)
    model.generation_config.eos_token_id = None

    def generate(prompt: Sequence[int]) -> None:
        ids = torch.tensor(prompt)[None]
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=OUTPUT_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )

    return runner, generate


def _seconds(runner: StepRunner, prompts: Sequence[Sequence[int]]) -> float:
    """For all prompts in one step, and then a step for each token."""
    generation = runner.spec.generation
    assert generation is not None
    row_pages = -(-(PROMPT_TOKENS + OUTPUT_TOKENS) // generation.page_tokens)
    first = [
        Piece(
            row=_row(prompt),
            slot=slot,
            start=0,
            tokens=PROMPT_TOKENS,
            pages=range(slot * row_pages, (slot + 1) * row_pages),
            fresh=True,
            samples=True,
        )
        for slot, prompt in enumerate(prompts)
    ]
    started_s = time.perf_counter()
    _check(runner.run_step(first))
    for position in range(PROMPT_TOKENS, PROMPT_TOKENS + OUTPUT_TOKENS - 1):
        step = [
            Piece(each.row, each.slot, position, 1, (), fresh=False, samples=True) for each in first
        ]
        _check(runner.run_step(step))
    return time.perf_counter() - started_s


def _row(prompt: Sequence[int]) -> Row:
    payload = np.array(prompt, dtype=np.int64).tobytes()
    sampling = Sampling(max_tokens=OUTPUT_TOKENS, temperature=GREEDY)
    progress = Progress(sampling, prefill=PROMPT_TOKENS)
    return Row("bench", "", PROMPT_TOKENS, 0.0, payload=payload, progress=progress)


def _check(results: Sequence[object]) -> None:
    for result in results:
        if result is None or isinstance(result, Exception):
            raise BenchError(f"a row did not generate: {result}")
