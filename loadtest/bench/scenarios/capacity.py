"""How much of the accelerator the batching gets out, padded and packed, at p99 within the SLO."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import Context, MeasuredCapacity
from loadtest.bench.scenarios.simulated import (
    LARGEST_BATCH,
    PACKED_ADAPTIVE,
    PACKED_CONSTANT,
    PADDED_ADAPTIVE,
    PADDED_CONSTANT,
    PATIENT_SLO_MS,
    SLO_MS,
    Setup,
    bound_per_s,
)

REQUIRED_RATIOS = {PACKED_ADAPTIVE: 0.85, PADDED_ADAPTIVE: 0.45}
SETUPS = (PACKED_ADAPTIVE, PADDED_ADAPTIVE, PACKED_CONSTANT, PADDED_CONSTANT)


class CapacityRow(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    rate_per_s: float
    bound_per_s: float
    required_ratio: float | None
    tolerant_rate_per_s: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    settled: bool

    @property
    def ratio(self) -> float:
        return self.rate_per_s / self.bound_per_s

    @property
    def held(self) -> bool | None:
        return None if self.required_ratio is None else self.ratio >= self.required_ratio


class CapacityResult(msgspec.Struct, frozen=True):
    rows: Sequence[CapacityRow]

    def table(self) -> Table:
        unsettled = [row.label for row in self.rows if not row.settled]
        return Table(
            title="Capacity",
            intro=(
                f"Highest rate of Poisson arrivals with p99 ≤ {SLO_MS:.0f} ms and no error, of the "
                "simulated accelerator (5 ms + 10 µs a token). The bound is a device that always "
                f"runs {LARGEST_BATCH} rows without padding, at the mean length really sent. "
                "*99% in time* is the highest rate at which 99% are answered within the SLO, "
                "refusals counted as late. A rate fails only if two runs fail. The tier's SLO is "
                f"{PATIENT_SLO_MS:.0f} ms here: with {SLO_MS:.0f} a burst would be shed, not late."
            ),
            columns=(
                *("server", "requests/s", "bound", "ratio", "required", "held"),
                *("99% in time", "p50 ms", "p99 ms", "generator lag p99 ms"),
            ),
            rows=[self._cells(row) for row in self.rows],
            notes=[f"{label}: the search ended early; a lower bound" for label in unsettled],
        )

    @staticmethod
    def _cells(row: CapacityRow) -> Sequence[str]:
        required = "-" if row.required_ratio is None else f"≥ {row.required_ratio:.2f}"
        return (
            row.label,
            f"{row.rate_per_s:.0f}",
            f"{row.bound_per_s:.0f}",
            f"{row.ratio:.2f}",
            required,
            verdict(row.held),
            f"{row.tolerant_rate_per_s:.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.lag_p99_ms:.1f}",
        )


def run(context: Context) -> CapacityResult:
    return CapacityResult([_row(setup, context.capacity_of(setup)) for setup in SETUPS])


def _row(setup: Setup, measured: MeasuredCapacity) -> CapacityRow:
    report = measured.strict.report
    latency = report.latency if report else None
    lag = report.lag if report else None
    return CapacityRow(
        label=setup.label,
        rate_per_s=measured.strict.rate_per_s,
        bound_per_s=bound_per_s(report.mean_tokens if report else 0.0),
        required_ratio=REQUIRED_RATIOS.get(setup),
        tolerant_rate_per_s=measured.tolerant.rate_per_s,
        p50_ms=latency.p50_ms if latency else 0.0,
        p99_ms=latency.p99_ms if latency else 0.0,
        lag_p99_ms=lag.p99_ms if lag else 0.0,
        settled=measured.strict.settled and measured.tolerant.settled,
    )
