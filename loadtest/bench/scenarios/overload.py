"""What is left of the capacity when more arrives than can be served."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import HTTP_TOO_MANY_REQUESTS, RunReport
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.simulated import PACKED_ADAPTIVE, PADDED_ADAPTIVE
from loadtest.bench.servers import running_server

OVERLOADS = (1.5, 2.0)
REQUIRED_GOODPUT_RATIO = 0.95
LONGEST_REFUSAL_MS = 10.0


class OverloadRow(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    overload: float  # offered rate / capacity
    capacity_per_s: float
    report: RunReport

    @property
    def goodput_ratio(self) -> float:
        return self.report.goodput_per_s / self.capacity_per_s

    @property
    def refused_share(self) -> float:
        refused = self.report.rejected.get(HTTP_TOO_MANY_REQUESTS, 0)
        return refused / self.report.scheduled if self.report.scheduled else 0.0

    @property
    def other_errors(self) -> int:
        refused = self.report.rejected.get(HTTP_TOO_MANY_REQUESTS, 0)
        return self.report.scheduled - self.report.answered - refused

    @property
    def held(self) -> bool:
        refusal = self.report.refusal
        prompt = refusal is None or refusal.p50_ms <= LONGEST_REFUSAL_MS
        return prompt and self.goodput_ratio >= REQUIRED_GOODPUT_RATIO


class OverloadResult(msgspec.Struct, frozen=True):
    rows: Sequence[OverloadRow]

    def table(self) -> Table:
        return Table(
            title="Overload",
            intro=(
                "Answers within the SLO per second (goodput) when more than the capacity of the "
                "same run arrives, and how soon the excess is told. Required: goodput ≥ "
                f"{REQUIRED_GOODPUT_RATIO:.2f} of capacity, refusals within "
                f"{LONGEST_REFUSAL_MS:.0f} ms at the median."
            ),
            columns=(
                *("server", "offered ÷ capacity", "capacity/s", "goodput/s", "ratio"),
                *("refused", "refusal p50 ms", "refusal p99 ms", "p99 ms of answers"),
                *("other errors", "held"),
            ),
            rows=[self._cells(row) for row in self.rows],
        )

    @staticmethod
    def _cells(row: OverloadRow) -> Sequence[str]:
        refusal, latency = row.report.refusal, row.report.latency
        return (
            row.label,
            f"{row.overload:g}",
            f"{row.capacity_per_s:.0f}",
            f"{row.report.goodput_per_s:.0f}",
            f"{row.goodput_ratio:.2f}",
            f"{row.refused_share:.0%}",
            f"{refusal.p50_ms:.1f}" if refusal else "-",
            f"{refusal.p99_ms:.1f}" if refusal else "-",
            f"{latency.p99_ms:.1f}" if latency else "-",
            f"{row.other_errors}",
            verdict(row.held),
        )


def run(context: Context) -> OverloadResult:
    """Raises BenchError if the capacity to exceed could not be measured."""
    rows = []
    for setup in (PACKED_ADAPTIVE, PADDED_ADAPTIVE):
        capacity_per_s = context.capacity_of(setup).strict.rate_per_s
        if not capacity_per_s:
            raise BenchError(f"{setup.label}: no rate passed, so there is nothing to overload")
        with running_server(setup.command()) as server:
            for overload in OVERLOADS:
                context.say(f"overload: {setup.label}, {overload:g} x {capacity_per_s:.0f}/s")
                report = context.open_loop(
                    server, overload * capacity_per_s, seconds=context.pace.run_s
                )
                rows.append(
                    OverloadRow(
                        label=setup.label,
                        overload=overload,
                        capacity_per_s=capacity_per_s,
                        report=report,
                    )
                )
    return OverloadResult(rows)
