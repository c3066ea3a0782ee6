"""What is asked of the generation runs, which are a process of their own, and what they found."""

from collections.abc import Mapping, Sequence

import msgspec

from loadtest.bench_gpu.processes import run_module

LIMIT_S = 420.0


class StepCase(msgspec.Struct, frozen=True):
    """A step: so many rows decode after `context` positions, and a chunk of a prompt."""

    rows: int
    context: int = 0
    chunk: int = 0

    def __str__(self) -> str:
        parts = [f"{self.rows} rows after {self.context}"] if self.rows else []
        parts += [f"a chunk of {self.chunk}"] if self.chunk else []
        return ", ".join(parts)


class Burst(msgspec.Struct, frozen=True):
    """Prompts that come at once, of lengths drawn evenly, and how much is generated after each."""

    prompts: int
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]


class GenerationRuns(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure of one model."""

    model_dir: str
    device: str
    dtype: str = "bfloat16"
    steps: Sequence[StepCase] = ()
    bursts: Mapping[str, Burst] = {}
    alone_tokens: int = 0  # of one row by itself
    prefix: bool = False
    slo: bool = False
    rival: bool = False  # transformers' continuous batching of the first burst
    probe_s: float = 6.0


class BurstFound(msgspec.Struct, frozen=True, kw_only=True):
    """`idle_share`: of the time, in which the device had no step; `cpu_us`: of the engine's main
    thread, a token; the model of a step's time was `median_error` off."""

    tokens_per_s: float
    idle_share: float
    cpu_us: float
    median_error: float


class LoadFound(msgspec.Struct, frozen=True, kw_only=True):
    """Of requests that came at a rate: the share in time, refusals counted as missed."""

    rate_per_s: float
    offered: int
    in_time: float
    refused: int
    ttft_p99_ms: float
    gap_p99_ms: float
    refusal_p50_ms: float
    tokens_per_s: float  # of all tiers
    median_error: float


class PrefixFound(msgspec.Struct, frozen=True, kw_only=True):
    """First tokens, medians, of prompts that share a beginning and of others."""

    shared_ms: float
    unshared_ms: float


class GenerationFindings(msgspec.Struct, frozen=True, kw_only=True):
    loading_s: float
    step_ms: Sequence[tuple[StepCase, float]]
    bursts: Mapping[str, BurstFound]
    alone_tokens_per_s: float = 0.0
    rival_tokens_per_s: float = 0.0
    prefix: PrefixFound | None = None
    capacity: LoadFound | None = None
    at_most_of_it: LoadFound | None = None  # at 0.7 of the capacity
    overloads: Sequence[tuple[float, LoadFound]] = ()
    bulk_alone_tokens_per_s: float = 0.0
    beside_bulk: LoadFound | None = None
    short_of_pages: LoadFound | None = None
    recomputed_share: float = 0.0


def run_generation(runs: GenerationRuns) -> GenerationFindings:
    """Measure in a process of its own. Raises BenchError if that fails."""
    return run_module("loadtest.bench_gpu.generation_runs", runs, GenerationFindings, LIMIT_S)
