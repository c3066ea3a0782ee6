"""Which row goes first: the shortest, or the one that came first."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import RunReport
from loadtest.bench.report import Table
from loadtest.bench.scenarios.context import Context
from loadtest.bench.scenarios.simulated import ADAPTIVE, PACKED_ADAPTIVE, simulated_server
from loadtest.bench.servers import running_server
from predictor.core.parameters import Order

LOAD = 0.85


class OrderRow(msgspec.Struct, frozen=True):
    order: Order
    report: RunReport


class OrderResult(msgspec.Struct, frozen=True, kw_only=True):
    rate_per_s: float
    rows: Sequence[OrderRow]

    def table(self) -> Table:
        return Table(
            title="Order",
            intro=(
                f"Latency at {self.rate_per_s:.0f} requests/s, {LOAD:.2f} of the packed capacity, "
                "the same arrivals and lengths for each order."
            ),
            columns=("order", "mean ms", "p50 ms", "p99 ms", "max ms", "not answered"),
            rows=[self._cells(row) for row in self.rows],
            notes=self._ratios(),
        )

    @staticmethod
    def _cells(row: OrderRow) -> Sequence[str]:
        latency = row.report.latency
        if latency is None:
            return (row.order, "-", "-", "-", "-", f"{row.report.scheduled}")
        return (
            row.order,
            f"{latency.mean_ms:.1f}",
            f"{latency.p50_ms:.1f}",
            f"{latency.p99_ms:.1f}",
            f"{latency.max_ms:.1f}",
            f"{row.report.scheduled - row.report.answered}",
        )

    def _ratios(self) -> Sequence[str]:
        arrival, shortest = (row.report.latency for row in self.rows)
        if arrival is None or shortest is None:
            return ()
        mean_ratio = shortest.mean_ms / arrival.mean_ms
        p99_ratio = shortest.p99_ms / arrival.p99_ms
        return (f"shortest ÷ arrival: mean {mean_ratio:.2f}, p99 {p99_ratio:.2f}",)


def run(context: Context) -> OrderResult:
    """Raises BenchError if the capacity could not be measured."""
    capacity_per_s = context.capacity_of(PACKED_ADAPTIVE).strict.rate_per_s
    if not capacity_per_s:
        raise BenchError("no rate passed, so there is no load to order; see the capacity table")
    rate_per_s = LOAD * capacity_per_s
    rows = []
    for order in (Order.ARRIVAL, Order.SHORTEST):
        batching = msgspec.structs.replace(ADAPTIVE, order=order)
        with running_server(simulated_server(True, batching)) as server:
            context.say(f"order: {order}, {rate_per_s:.0f}/s")
            report = context.open_loop(server, rate_per_s, seconds=1.5 * context.pace.run_s)
            rows.append(OrderRow(order, report))
    return OrderResult(rate_per_s=rate_per_s, rows=rows)
