"""What one request takes when it has the GPU to itself, with captured graphs and without."""

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import EncoderWork, RunReport, Spread
from loadtest.bench.scrapes import scrape
from loadtest.bench_gpu.context import GpuContext, Target
from loadtest.bench_gpu.findings import Findings, Measure, at_most
from predictor.metrics import names

RATE_PER_S = 10.0
WARM_RATE_PER_S = 200.0  # caches still hold what the last request used
TOKENS = 128
MOST_P50_MS = 2.0
MOST_CAPTURE_RATIO = 0.25
SLO_MS = 200.0
WORK = EncoderWork(median_tokens=TOKENS, sigma=0.0)


def run(context: GpuContext) -> Findings:
    spread, _ = _measured(context, workers=context.workers)
    captured, service_ms = _measured(context)
    warm, _ = _measured(context, rate_per_s=WARM_RATE_PER_S)
    measures = [
        at_most("p50, ms", captured.p50_ms, MOST_P50_MS),
        Measure("p90 and p99, ms", f"{captured.p90_ms:.2f}, {captured.p99_ms:.2f}"),
        Measure("of which on the device, mean ms", f"{service_ms:.2f}"),
        Measure(f"with {context.workers} edge processes: p50, ms", f"{spread.p50_ms:.2f}"),
        Measure(f"at {WARM_RATE_PER_S:.0f} requests/s: p50, ms", f"{warm.p50_ms:.2f}"),
    ]
    notes = []
    try:
        eager, eager_service_ms = _measured(context, capture=False)
    except BenchError as error:
        notes.append(f"captured graphs could not be turned off: {str(error).splitlines()[-1]}")
    else:
        measures += [
            Measure("captured graphs off: p50, ms", f"{eager.p50_ms:.2f}"),
            Measure("captured graphs off: on the device, mean ms", f"{eager_service_ms:.2f}"),
            at_most(
                "p50, captured graphs on ÷ off", captured.p50_ms / eager.p50_ms, MOST_CAPTURE_RATIO
            ),
        ]
    return Findings(
        title="GPU: low load",
        intro=(
            f"{context.model_name}, {RATE_PER_S:.0f} requests/s of one row of {TOKENS} tokens, "
            "HTTP with JSON, from the client's first byte to the last of the answer. Edge and "
            "engine in one process, as the flags' defaults have it."
        ),
        measures=measures,
        notes=notes,
    )


def _measured(
    context: GpuContext,
    *,
    capture: bool = True,
    workers: int = 1,
    rate_per_s: float = RATE_PER_S,
) -> tuple[Spread, float]:
    """Latency, and the mean service time in ms."""
    server = context.server(SLO_MS, capture=capture, workers=workers)
    context.say(f"low load, {rate_per_s:.0f}/s, captured graphs {'on' if capture else 'off'}")
    before = scrape(server.http_port)
    report: RunReport = context.open_loop(
        Target(server.http_port, server.model),
        rate_per_s,
        slo_ms=SLO_MS,
        seconds=context.pace.low_load_s,
        work=WORK,
    )
    if report.latency is None or report.answered != report.scheduled:
        raise BenchError(f"{report.scheduled - report.answered} requests were not answered rightly")
    service_s = scrape(server.http_port).since(before).mean(names.SERVICE_TIME.name)
    return report.latency, service_s * 1e3
