"""What is left of the capacity when half as much again arrives."""

from loadtest.bench.plan import HTTP_TOO_MANY_REQUESTS
from loadtest.bench_gpu.context import GpuContext, Target
from loadtest.bench_gpu.findings import Findings, Measure, at_least
from loadtest.bench_gpu.single import ONE_ROW, SERVER_SLO_MS, SLO_MS

OVERLOAD = 1.5
REQUIRED_RATIO = 0.95


def run(context: GpuContext) -> Findings:
    capacity_per_s = context.capacity(SLO_MS, SERVER_SLO_MS, ONE_ROW).rate_per_s
    notes: list[str] = []
    if not capacity_per_s:
        capacity_per_s = context.likely_rate_per_s()
        notes.append(
            f"no rate passed the search: {capacity_per_s:.0f}/s, where it began, stands for the"
            " capacity"
        )
    server = context.server(SERVER_SLO_MS)
    context.say(f"overload: {OVERLOAD:g} x {capacity_per_s:.0f}/s")
    report = context.open_loop(
        Target(server.http_port, server.model),
        OVERLOAD * capacity_per_s,
        slo_ms=SLO_MS,
        seconds=context.pace.run_s,
        work=ONE_ROW,
        seed=5,
    )
    refused = report.rejected.get(HTTP_TOO_MANY_REQUESTS, 0)
    return Findings(
        title="GPU: overload",
        intro=(
            f"One row a request at {OVERLOAD:g} times the rate that was found to be the capacity "
            f"at p99 ≤ {SLO_MS:.0f} ms in the same run. Goodput: right answers within the SLO."
        ),
        measures=[
            Measure("capacity, requests/s", f"{capacity_per_s:.0f}"),
            Measure("goodput, requests/s", f"{report.goodput_per_s:.0f}"),
            at_least("goodput ÷ capacity", report.goodput_per_s / capacity_per_s, REQUIRED_RATIO),
            Measure("refused", f"{refused / max(1, report.scheduled):.0%}"),
            Measure("refusal, p50 ms", f"{report.refusal.p50_ms:.1f}" if report.refusal else "-"),
            Measure(
                "answers, p50 and p99 ms",
                f"{report.latency.p50_ms:.1f}, {report.latency.p99_ms:.1f}"
                if report.latency
                else "-",
            ),
            Measure("other errors", f"{report.scheduled - report.answered - refused}"),
            Measure("generator lag, p99 ms", f"{report.lag.p99_ms:.1f}" if report.lag else "-"),
        ],
        notes=notes,
    )
