"""HTTP with one row a request: the highest rate within an SLO, and gRPC beside it."""

from loadtest.bench.plan import EncoderWork, Protocol
from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.findings import Findings, Measure, errors_of, known_of, rate_of, ratio

REQUIRED_RATE_PER_S = 10_000.0
SLO_MS = 20.0
# The client's clock starts before the server's and stops after it.
SERVER_SLO_MS = 18.0
PATIENT_SLO_MS = 60_000.0
IN_FLIGHT = 256
ONE_ROW = EncoderWork()


def run(context: GpuContext) -> Findings:
    found = context.capacity(SLO_MS, SERVER_SLO_MS, ONE_ROW)
    server = context.server(PATIENT_SLO_MS)
    context.say("closed loops: HTTP")
    over_http = context.closed_loop(server, IN_FLIGHT, work=ONE_ROW)
    context.say("closed loops: gRPC")
    over_grpc = context.closed_loop(server, IN_FLIGHT, work=ONE_ROW, protocol=Protocol.GRPC)
    latency = found.report.latency if found.report else None
    times = f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms" if latency else "-"
    return Findings(
        title="GPU: HTTP, 1 row a request",
        intro=(
            f"{context.model_name}, {context.workers} edge processes, Poisson arrivals of "
            f"requests with one row of `input_ids` as JSON. The rate is the highest at which 99% "
            f"are answered rightly within {SLO_MS:.0f} ms, refusals counted as late; a rate "
            "fails only if two runs fail."
        ),
        measures=[
            Measure(
                f"requests/s at p99 ≤ {SLO_MS:.0f} ms",
                rate_of(found),
                f"≥ {REQUIRED_RATE_PER_S:.0f}",
                found.rate_per_s >= REQUIRED_RATE_PER_S,
            ),
            Measure("of the answered, at that rate", times),
            *(
                Measure(
                    f"{name}, {IN_FLIGHT} in flight",
                    f"{report.answered_per_s:.0f} requests/s; the generator's busiest process "
                    f"{report.generator_cpu_share:.0%}; "
                    f"{errors_of(report)}",
                )
                for name, report in (("HTTP", over_http), ("gRPC", over_grpc))
            ),
            Measure(
                "gRPC ÷ HTTP", f"{ratio(over_grpc.answered_per_s, over_http.answered_per_s):.2f}"
            ),
        ],
        notes=() if found.settled else (f"the search ended early; {known_of(found)}",),
    )
