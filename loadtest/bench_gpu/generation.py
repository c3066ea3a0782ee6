"""Text generation on the device and through the engine, without HTTP."""

from collections.abc import Mapping, Sequence

from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.decoder_checkpoints import write_decoder_apart
from loadtest.bench_gpu.findings import Findings, Measure, at_least, at_most, ratio
from loadtest.bench_gpu.generation_findings import (
    Burst,
    GenerationFindings,
    GenerationRuns,
    LoadFound,
    StepCase,
    run_generation,
)
from loadtest.bench_gpu.generation_world import ITL_S, TTFT_S

# Of an H200: bytes a second, FLOP a second, and what a step of the Llama shape may take, in ms.
BYTES_PER_S, FLOP_PER_S = 4.3e12, 790e12
WEIGHTS = 1.04e9  # of the Llama shape, without the embedding
KV_BYTES = 2 * 2 * 16 * 8 * 64  # a position
LLAMA_STEPS: Mapping[StepCase, float | None] = {
    StepCase(1, 300): 1.0,
    StepCase(64, 300): 1.2,
    StepCase(256, 300): 2.0,
    StepCase(512, 300): 3.4,
    StepCase(256, 300, 512): 4.2,
    StepCase(0, 0, 2048): 2048 / 230e3 * 1e3,
}
EVEN = Burst(512, (16, 256), (128, 128))
LONG = Burst(256, (100, 1024), (100, 1024))
TINY = Burst(8, (4, 16), (8, 8))
LEAST_PER_S = {"llama-1.2b": 65e3, "qwen3-0.6b": 65e3, "long": 23e3, "alone": 600.0}
LEAST_OF_RIVAL = 15.0
MOST_IDLE, MOST_CPU_US, MOST_ERROR, MOST_LOADING_S = 0.05, 2.0, 0.05, 30.0
MOST_OF_TTFT = 0.3
IN_TIME, IN_TIME_BESIDE_BULK, GOODPUT, OF_BULK = 0.995, 0.99, 0.95, 0.90
MOST_RECOMPUTED, MOST_REFUSAL_MS = 0.05, 5.0


def limit_ms(case: StepCase) -> float:
    """What reading weights and keys, or the arithmetic, takes at least on an H200."""
    read = 2 * WEIGHTS + case.rows * case.context * KV_BYTES
    computed = 2 * WEIGHTS * (case.rows + case.chunk)
    return max(read / BYTES_PER_S, computed / FLOP_PER_S) * 1e3


def run(context: GpuContext) -> Findings:
    context.stop_server()  # it would share the device
    if context.tiny:
        return _rehearse(context)
    llama = _measure(context, "llama-1.2b", {"even": EVEN}, tuple(LLAMA_STEPS), whole=True)
    qwen = _measure(context, "qwen3-0.6b", {"even": EVEN, "long": LONG}, ())
    even = llama.bursts["even"]
    return Findings(
        title="GPU: text generation",
        intro=(
            f"Random weights, {context.dtype}: a Llama of 1.2 B weights (16 layers, 2,048 wide, 8"
            " key heads of 64) and the shape of Qwen3-0.6B. Steps run one behind the other; bursts"
            " are 512 prompts of 16 to 256 tokens at once, 128 generated after each, and 256 of 100"
            " to 1,024 in and out, through the engine without HTTP. Under SLO: first tokens within"
            f" {TTFT_S * 1e3:.0f} ms, later ones within {ITL_S * 1e3:.0f} ms (a request's p99),"
            " Poisson arrivals of the chat mix, refusals counted as missed."
        ),
        measures=[
            at_most("Llama, loading with all captures, s", llama.loading_s, MOST_LOADING_S, ".1f"),
            *(_step(case, took_ms) for case, took_ms in llama.step_ms),
            at_least("Llama, burst, tokens/s", even.tokens_per_s, LEAST_PER_S["llama-1.2b"], ".0f"),
            at_least(
                "the same ÷ transformers' continuous batching",
                ratio(even.tokens_per_s, llama.rival_tokens_per_s),
                LEAST_OF_RIVAL,
                ".1f",
            ),
            at_most("idle between steps", even.idle_share, MOST_IDLE, ".3f"),
            at_most("engine's main thread, us a token", even.cpu_us, MOST_CPU_US, ".1f"),
            at_most("a step's time foretold, median error", even.median_error, MOST_ERROR, ".3f"),
            at_least(
                "Qwen3, burst, tokens/s",
                qwen.bursts["even"].tokens_per_s,
                LEAST_PER_S["qwen3-0.6b"],
                ".0f",
            ),
            at_least(
                "Qwen3, long burst, tokens/s",
                qwen.bursts["long"].tokens_per_s,
                LEAST_PER_S["long"],
                ".0f",
            ),
            at_least(
                "Qwen3, one row alone, tokens/s",
                qwen.alone_tokens_per_s,
                LEAST_PER_S["alone"],
                ".0f",
            ),
            *_of_prefix(llama),
            *_under_slo(llama),
        ],
    )


def _measure(
    context: GpuContext,
    shape: str,
    bursts: Mapping[str, Burst],
    steps: Sequence[StepCase],
    *,
    whole: bool = False,
) -> GenerationFindings:
    context.say(f"generation: making {shape}")
    folder = write_decoder_apart(context.folder / shape, shape)
    context.say(f"generation: measuring {shape}")
    return run_generation(
        GenerationRuns(
            model_dir=str(folder),
            device=context.device,
            dtype=context.dtype,
            steps=steps,
            bursts=bursts,
            alone_tokens=512,
            prefix=whole,
            slo=whole,
            rival=whole,
        )
    )


def _rehearse(context: GpuContext) -> Findings:
    context.say("generation: a tiny Llama")
    folder = write_decoder_apart(context.folder / "decoder", "tiny")
    found = run_generation(
        GenerationRuns(
            model_dir=str(folder),
            device=context.device,
            dtype=context.dtype,
            steps=(StepCase(1, 30), StepCase(4, 30, 16)),
            bursts={"even": TINY},
            alone_tokens=8,
            prefix=True,
        )
    )
    return Findings(
        title="GPU: text generation",
        intro="A rehearsal: a tiny Llama, a few rows.",
        measures=[
            *(Measure(f"step, {case}", f"{took:.2f} ms") for case, took in found.step_ms),
            Measure("burst", f"{found.bursts['even'].tokens_per_s:.0f} tokens/s"),
            Measure("one row alone", f"{found.alone_tokens_per_s:.0f} tokens/s"),
            *_of_prefix(found),
        ],
    )


def _step(case: StepCase, took_ms: float) -> Measure:
    most = LLAMA_STEPS[case]
    limit = limit_ms(case)
    return Measure(
        f"Llama, step: {case}",
        f"{took_ms:.2f} ms (limit {limit:.2f}, {limit / took_ms:.2f} of it)",
        "-" if most is None else f"≤ {most:.2f} ms",
        None if most is None else took_ms <= most,
    )


def _of_prefix(found: GenerationFindings) -> Sequence[Measure]:
    if found.prefix is None:
        return ()
    shared, unshared = found.prefix.shared_ms, found.prefix.unshared_ms
    share = at_most(
        "first token after 1,024 cached tokens ÷ computed", shared / unshared, MOST_OF_TTFT
    )
    return [share, Measure("the two", f"{shared:.1f} and {unshared:.1f} ms")]


def _under_slo(found: GenerationFindings) -> Sequence[Measure]:
    capacity, some, short = found.capacity, found.at_most_of_it, found.short_of_pages
    bulk = found.beside_bulk
    if capacity is None or some is None or bulk is None or short is None:
        return ()
    peak_per_s = capacity.rate_per_s * capacity.in_time
    return [
        Measure("capacity, 99% in time", f"{capacity.rate_per_s:.0f} requests/s", "-"),
        at_least("0.7 of it, in time", some.in_time, IN_TIME, ".3f"),
        *(
            at_least(
                f"goodput at {times:g} of it ÷ peak",
                load.rate_per_s * load.in_time / peak_per_s,
                GOODPUT,
            )
            for times, load in found.overloads
        ),
        at_most(
            "refusals, p50 ms, at twice", found.overloads[-1][1].refusal_p50_ms, MOST_REFUSAL_MS
        ),
        at_least("0.3 of it beside bulk, in time", bulk.in_time, IN_TIME_BESIDE_BULK, ".3f"),
        at_least(
            "tokens/s beside bulk ÷ bulk alone",
            ratio(bulk.tokens_per_s, found.bulk_alone_tokens_per_s),
            OF_BULK,
        ),
        at_least("short of pages, in time", short.in_time, IN_TIME_BESIDE_BULK, ".3f"),
        at_most("recomputed there", found.recomputed_share, MOST_RECOMPUTED, ".3f"),
        Measure("errors of foretold steps", _errors(capacity, some, bulk, short)),
    ]


def _errors(*loads: LoadFound) -> str:
    return ", ".join(f"{load.median_error:.3f}" for load in loads)
