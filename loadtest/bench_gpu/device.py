"""The device without a server: offline, and through the engine alone."""

from collections.abc import Sequence

from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.device_findings import Throughput
from loadtest.bench_gpu.findings import Findings, Measure, at_least, ratio

REQUIRED_ENGINE_RATIO = 0.90


def run(context: GpuContext) -> Findings:
    found = context.on_device()
    form = "packed" if found.packed else "padded, as the runner does not pack"
    engine = found.engine
    return Findings(
        title="GPU: device and engine",
        intro=(
            f"{context.model_name} with 8 labels and random weights, {context.dtype}, rows of the "
            "benchmark's lengths (lognormal, median 64, sigma 0.8, 8 to 512 tokens). Real tokens "
            "count, padding does not. Offline batches run back to back with two on the device; "
            "the engine gets submissions of 8 rows, without HTTP."
        ),
        measures=[
            *_rows(f"offline, {form}", found.offline),
            *_rows("offline, captured graphs off", found.eager),
            *_rows("offline, padded in order of arrival", found.padded),
            Measure("engine", _throughput(engine)),
            at_least(
                "engine ÷ best offline, real tokens/s",
                ratio(engine.tokens_per_s, found.best.tokens_per_s),
                REQUIRED_ENGINE_RATIO,
            ),
        ],
        notes=[f"loading, captured graphs included, took {found.loading_s:.1f} s"],
    )


def _rows(label: str, figures: Sequence[Throughput]) -> Sequence[Measure]:
    return [
        Measure(
            f"{label}, {each.label}",
            f"{_throughput(each)}, {each.batch_ms:.2f} ms a batch, padding "
            f"{each.padding_share:.0%}",
        )
        for each in figures
    ]


def _throughput(figure: Throughput) -> str:
    return f"{figure.tokens_per_s / 1e6:.3f} M tokens/s ({figure.rows_per_s:.0f} rows/s)"
