"""A real model on this machine's CPU: batches against one at a time."""

import contextlib
import statistics
from collections.abc import Sequence

import msgspec

from loadtest.bench.generator import generate_load
from loadtest.bench.plan import ClosedLoop, Plan, RunReport, TextWork
from loadtest.bench.report import Table
from loadtest.bench.scenarios.context import Context
from loadtest.bench.servers import (
    RunningServer,
    ServerCommand,
    one_model_parameters,
    running_server,
)
from predictor.core.parameters import ModelParameters

MODEL = "topics"
IN_FLIGHT = 16
# Far above any latency here: what is compared is throughput, not what is refused.
SERVER_SLO_MS = 10_000.0
ADAPTIVE = ModelParameters(max_batch_size=64)
ONE_AT_A_TIME = ModelParameters(max_batch_size=1)


class MiniLMRow(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of the rounds. `alone` is one request in flight."""

    label: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    alone_p50_ms: float
    errors: int


class MiniLMResult(msgspec.Struct, frozen=True, kw_only=True):
    adaptive: MiniLMRow
    one_at_a_time: MiniLMRow
    mean_words: float

    def table(self) -> Table:
        ratio = self.adaptive.requests_per_s / (self.one_at_a_time.requests_per_s or 1.0)
        return Table(
            title="MiniLM on the CPU",
            intro=(
                f"The default `topic` task, one text a request, from headlines to paragraphs "
                f"(mean {self.mean_words:.0f} words), {IN_FLIGHT} requests in flight; the load "
                "generator and the edge share the cores with the model."
            ),
            columns=("server", "texts/s", "p50 ms", "p99 ms", "p50 ms alone", "errors"),
            rows=[self._cells(row) for row in (self.adaptive, self.one_at_a_time)],
            notes=(f"adaptive ÷ one at a time: {ratio:.2f}",),
        )

    @staticmethod
    def _cells(row: MiniLMRow) -> Sequence[str]:
        return (
            row.label,
            f"{row.requests_per_s:.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.alone_p50_ms:.1f}",
            f"{row.errors}",
        )


def run(context: Context) -> MiniLMResult:
    """Both servers stay up and take turns."""
    context.say("minilm: starting both servers")
    commands = [_command(batching) for batching in (ADAPTIVE, ONE_AT_A_TIME)]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_server(command)) for command in commands]
        crowded: list[list[RunReport]] = [[], []]
        alone: list[list[RunReport]] = [[], []]
        for round_number in range(context.pace.rounds):
            context.say(f"minilm: round {round_number + 1}")
            for index, server in enumerate(servers):
                crowded[index].append(_closed_loop(server, IN_FLIGHT, context.pace.run_s * 0.6))
                alone[index].append(_closed_loop(server, 1, context.pace.run_s * 0.2))
    return MiniLMResult(
        adaptive=_row("adaptive", crowded[0], alone[0]),
        one_at_a_time=_row("one at a time", crowded[1], alone[1]),
        mean_words=statistics.fmean(report.mean_tokens for report in crowded[0]),
    )


def _command(batching: ModelParameters) -> ServerCommand:
    return ServerCommand(
        module="predictor",
        model=MODEL,
        flags=("--task", "topic", "--device", "cpu", "--host", "127.0.0.1"),
        parameters=one_model_parameters(MODEL, batching, SERVER_SLO_MS),
    )


def _closed_loop(server: RunningServer, in_flight: int, seconds: float) -> RunReport:
    return generate_load(
        Plan(
            port=server.http_port,
            model=server.model,
            load=ClosedLoop(in_flight=in_flight),
            work=TextWork(),
            seconds=seconds,
            slo_ms=SERVER_SLO_MS,
        )
    )


def _row(label: str, crowded: Sequence[RunReport], alone: Sequence[RunReport]) -> MiniLMRow:
    latencies = [report.latency for report in crowded if report.latency]
    alone_p50_ms = [report.latency.p50_ms for report in alone if report.latency]
    return MiniLMRow(
        label=label,
        requests_per_s=statistics.median(report.answered_per_s for report in crowded),
        p50_ms=statistics.median(spread.p50_ms for spread in latencies) if latencies else 0.0,
        p99_ms=statistics.median(spread.p99_ms for spread in latencies) if latencies else 0.0,
        alone_p50_ms=statistics.median(alone_p50_ms) if alone_p50_ms else 0.0,
        errors=sum(report.scheduled - report.answered for report in (*crowded, *alone)),
    )
