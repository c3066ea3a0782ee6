"""What batching costs a request that finds the device free: it should be nothing."""

import contextlib
import statistics
from collections.abc import Sequence

import msgspec

from loadtest.bench.plan import RunReport
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.simulated import (
    ADAPTIVE,
    FIXED_MS,
    TOKEN_US,
    no_op_server,
    simulated_server,
)
from loadtest.bench.servers import running_server

RATE_PER_S = 10.0
MOST_ADDED_MS = 1.0


class LowLoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds of each run's p50. `overhead`: latency minus service time."""

    no_op_p50_ms: float
    latency_p50_ms: float
    overhead_p50_ms: float
    requests: int
    errors: int

    @property
    def added_ms(self) -> float:
        return self.overhead_p50_ms - self.no_op_p50_ms

    @property
    def held(self) -> bool:
        return self.added_ms <= MOST_ADDED_MS and self.errors == 0

    def table(self) -> Table:
        return Table(
            title="Low load",
            intro=(
                f"p50 at {RATE_PER_S:.0f} requests/s, one row a request, {self.requests} requests. "
                f"Service time is {FIXED_MS:.0f} ms + {TOKEN_US:.0f} µs a token; what client, "
                "network and edge take is seen on the device that takes no time."
            ),
            columns=("what", "ms", "required", "held"),
            rows=(
                ("p50, device that takes no time", f"{self.no_op_p50_ms:.2f}", "-", "-"),
                ("p50", f"{self.latency_p50_ms:.2f}", "-", "-"),
                ("p50 minus service time", f"{self.overhead_p50_ms:.2f}", "-", "-"),
                ("added", f"{self.added_ms:.2f}", f"≤ {MOST_ADDED_MS:.0f}", verdict(self.held)),
            ),
            notes=[f"{self.errors} requests were not answered rightly"] if self.errors else (),
        )


def run(context: Context) -> LowLoadResult:
    context.say("low load: starting both servers")
    no_op_reports: list[RunReport] = []
    reports: list[RunReport] = []
    with contextlib.ExitStack() as stack:
        no_op = stack.enter_context(running_server(no_op_server()))
        device = stack.enter_context(running_server(simulated_server(False, ADAPTIVE)))
        for round_number in range(context.pace.rounds):
            context.say(f"low load: round {round_number + 1}")
            seconds, seed = context.pace.run_s, round_number
            no_op_reports.append(context.open_loop(no_op, RATE_PER_S, seconds=seconds, seed=seed))
            reports.append(
                context.open_loop(
                    device,
                    RATE_PER_S,
                    seconds=seconds,
                    seed=seed,
                    service_fixed_ms=FIXED_MS,
                    service_token_us=TOKEN_US,
                )
            )
    everything = no_op_reports + reports
    return LowLoadResult(
        no_op_p50_ms=_median([r.latency.p50_ms for r in no_op_reports if r.latency]),
        latency_p50_ms=_median([r.latency.p50_ms for r in reports if r.latency]),
        overhead_p50_ms=_median([r.overhead.p50_ms for r in reports if r.overhead]),
        requests=sum(report.scheduled for report in reports),
        errors=sum(report.scheduled - report.answered for report in everything),
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
