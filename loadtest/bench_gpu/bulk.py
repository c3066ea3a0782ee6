"""HTTP with 8 rows a request, saturated; and where the time goes meanwhile."""

import time
from collections.abc import Sequence

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import EncoderWork, RunReport
from loadtest.bench.scrapes import Scrape, busiest_shares, cpu_seconds, scrape
from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.findings import Findings, Measure, at_least, errors_of, ratio
from predictor.metrics import names

REQUIRED_RATIO = 0.80
ROWS = 8
IN_FLIGHT = 256
NO_SLO_MS = 60_000.0
STAGES = ("decode", "tokenise", "encode")


def run(context: GpuContext) -> Findings:
    notes = []
    try:
        best_tokens_per_s = context.on_device().best.tokens_per_s
    except BenchError:
        best_tokens_per_s = 0.0
        notes.append("the device's own throughput could not be measured, so there is no ratio")
    server = context.server(NO_SLO_MS)
    context.say(f"HTTP, {ROWS} rows a request, JSON")
    as_json = context.closed_loop(server, IN_FLIGHT, work=EncoderWork(rows=ROWS))
    context.say(f"HTTP, {ROWS} rows a request, binary tensors")
    before, cpu_before, began_s = (
        scrape(server.http_port),
        cpu_seconds(server.pid),
        time.monotonic(),
    )
    binary = context.closed_loop(server, IN_FLIGHT, work=EncoderWork(rows=ROWS, binary=True))
    elapsed_s = time.monotonic() - began_s
    cpu = busiest_shares(cpu_before, cpu_seconds(server.pid), elapsed_s)
    after = scrape(server.http_port)
    return Findings(
        title="GPU: HTTP, 8 rows a request",
        intro=(
            f"{context.model_name}, {context.workers} edge processes, {IN_FLIGHT} requests of "
            f"{ROWS} rows in flight (`input_ids` and `attention_mask`), {context.generators} "
            "generator processes on the same host. Beside it what the server's own metrics say "
            "of the run with binary tensors."
        ),
        measures=[
            *_measures("binary tensors", binary, best_tokens_per_s),
            *_measures("JSON", as_json, best_tokens_per_s),
            *_inside(after.since(before), after),
            Measure(
                "CPU of the server's processes, shares of a core",
                ", ".join(f"{share:.2f}" for share in cpu) or "-",
            ),
        ],
        notes=notes,
    )


def _measures(form: str, report: RunReport, best_tokens_per_s: float) -> Sequence[Measure]:
    latency = report.latency
    times = f", p50 {latency.p50_ms:.0f} ms, p99 {latency.p99_ms:.0f} ms" if latency else ""
    return [
        Measure(
            f"{form}: real tokens/s",
            f"{report.tokens_per_s / 1e6:.3f} M ({report.rows_per_s:.0f} rows/s{times}); "
            f"{errors_of(report)}; generator at most {report.generator_cpu_share:.0%}",
        ),
        at_least(
            f"{form}: ÷ best offline",
            ratio(report.tokens_per_s, best_tokens_per_s),
            REQUIRED_RATIO,
        ),
    ]


def _inside(run: Scrape, after: Scrape) -> Sequence[Measure]:
    """What happened between two scrapes, and errors of predictions as they stand."""
    real = run.total(f"{names.TOKENS.name}")
    padding = run.total(f"{names.PADDING_TOKENS.name}")
    gap_s = run.total(f"{names.IDLE_GAP.name}_sum")
    busy_s = run.total(names.DEVICE_BUSY.name)
    errors = [
        f"{dict(labels).get('packing', '?')} {value:.1%}"
        for (name, labels), value in after.samples.items()
        if name == names.SERVICE_MODEL_ERROR.name
    ]
    stages = [
        f"{stage} {run.mean(names.EDGE_STAGE.name, stage=stage, protocol='http') * 1e3:.3f}"
        for stage in STAGES
    ]
    return [
        Measure("idle gap between batches, mean", f"{run.mean(names.IDLE_GAP.name) * 1e6:.0f} µs"),
        Measure("idle gaps, share of the time", f"{ratio(gap_s, gap_s + busy_s):.2%}"),
        Measure("padding, share of computed tokens", f"{ratio(padding, real + padding):.2%}"),
        Measure(
            "a batch, mean",
            f"{run.mean(names.BATCH_ROWS.name):.0f} rows, "
            f"{run.mean(names.BATCH_TOKENS.name):.0f} tokens",
        ),
        Measure("service-time model, median error", ", ".join(sorted(errors)) or "-"),
        Measure("edge stages, mean ms a request", ", ".join(stages)),
        Measure("queue, mean ms", f"{run.mean(names.QUEUE_WAIT.name) * 1e3:.1f}"),
        Measure("service, mean ms", f"{run.mean(names.SERVICE_TIME.name) * 1e3:.1f}"),
    ]
