"""What the way in and out costs: requests/s of a model that does nothing, beside the SDK's."""

import contextlib
import statistics
from collections.abc import Sequence

import msgspec

from loadtest.bench.generator import generate_load
from loadtest.bench.plan import ClosedLoop, Plan, Protocol, RunReport
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.simulated import no_op_server
from loadtest.bench.servers import RunningServer, ServerCommand, running_server

IN_FLIGHT = 16
REQUIRED_HTTP_RATIO = 4.0
SDK_NO_OP = ServerCommand(module="loadtest.bench.sdk_noop", model="noop")


class EdgeRow(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    requests_per_s: float  # median of the rounds
    p50_ms: float
    generator_cpu_share: float
    errors: int


class EdgeResult(msgspec.Struct, frozen=True, kw_only=True):
    http: EdgeRow
    sdk_http: EdgeRow
    grpc: EdgeRow
    sdk_grpc: EdgeRow

    @property
    def held(self) -> bool:
        return _ratio(self.http, self.sdk_http) >= REQUIRED_HTTP_RATIO

    def table(self) -> Table:
        rows = (self.http, self.sdk_http, self.grpc, self.sdk_grpc)
        return Table(
            title="Edge",
            intro=(
                f"Requests/s with {IN_FLIGHT} in flight, one server process, one `input_ids` of "
                "the benchmark's lengths a request. Headway runs its whole path around a device "
                "that takes no time; the SDK runs its own server around a model that only sums."
            ),
            columns=("server", "requests/s", "p50 ms", "generator's share of a core", "errors"),
            rows=[self._cells(row) for row in rows],
            notes=(
                (
                    f"HTTP, ours ÷ SDK's: {_ratio(self.http, self.sdk_http):.1f} "
                    f"(required ≥ {REQUIRED_HTTP_RATIO:.0f}; held: {verdict(self.held)})"
                ),
                f"gRPC, ours ÷ SDK's: {_ratio(self.grpc, self.sdk_grpc):.1f}",
                f"ours, gRPC ÷ HTTP: {_ratio(self.grpc, self.http):.2f}",
                "a generator that uses a whole core is what was measured, not the server",
            ),
        )

    @staticmethod
    def _cells(row: EdgeRow) -> Sequence[str]:
        return (
            row.label,
            f"{row.requests_per_s:.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.generator_cpu_share:.0%}",
            f"{row.errors}",
        )


def run(context: Context) -> EdgeResult:
    """Both servers stay up and take turns, so that a slow minute of the machine hits all."""
    context.say("edge: starting both servers")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(running_server(no_op_server()))
        sdk = stack.enter_context(running_server(SDK_NO_OP))
        rivals = [(server, protocol) for protocol in Protocol for server in (ours, sdk)]
        reports: list[list[RunReport]] = [[] for _ in rivals]
        for round_number in range(context.pace.rounds):
            for (server, protocol), found in zip(rivals, reports, strict=True):
                context.say(f"edge: {protocol} {server.model}, round {round_number + 1}")
                found.append(_closed_loop(server, protocol, context.pace.run_s / 3))
    return EdgeResult(
        http=_row("Headway HTTP", reports[0]),
        sdk_http=_row("KServe SDK HTTP", reports[1]),
        grpc=_row("Headway gRPC", reports[2]),
        sdk_grpc=_row("KServe SDK gRPC", reports[3]),
    )


def _closed_loop(server: RunningServer, protocol: Protocol, seconds: float) -> RunReport:
    port = server.http_port if protocol is Protocol.HTTP else server.grpc_port
    return generate_load(
        Plan(
            port=port,
            model=server.model,
            load=ClosedLoop(in_flight=IN_FLIGHT),
            protocol=protocol,
            seconds=seconds,
        )
    )


def _row(label: str, reports: Sequence[RunReport]) -> EdgeRow:
    return EdgeRow(
        label=label,
        requests_per_s=statistics.median(report.answered_per_s for report in reports),
        p50_ms=statistics.median(
            report.latency.p50_ms if report.latency else 0.0 for report in reports
        ),
        generator_cpu_share=max(report.generator_cpu_share for report in reports),
        errors=sum(report.scheduled - report.answered for report in reports),
    )


def _ratio(one: EdgeRow, other: EdgeRow) -> float:
    return one.requests_per_s / other.requests_per_s if other.requests_per_s else 0.0
