"""The table of what was foretold and what was measured."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from loadtest.bench.report import Table, verdict

MOST_P99_OFF = 0.15
MOST_BUSY_OFF = 0.05
MOST_GOODPUT_OFF = 0.05


class Asked(StrEnum):
    """What a row is judged by."""

    LATENCY = "latency"  # p99, and how busy the device is
    GOODPUT = "goodput"


class PreviewRow(msgspec.Struct, frozen=True, kw_only=True):
    """`chance`: what p99s of runs of this length differ by, as a ratio (standard deviation)."""

    setting: str
    load: str
    tier: str
    asked: Asked
    rate_per_s: float
    predicted_p50_ms: float
    predicted_p99_ms: float
    p50_ms: float
    p99_ms: float
    seen_p99_ms: float  # by Prometheus, on the server's clock
    predicted_busy: float
    busy: float
    predicted_goodput_per_s: float
    goodput_per_s: float
    chance: float = 0.0

    @property
    def p99_off(self) -> float:
        return self.predicted_p99_ms / self.p99_ms - 1.0

    @property
    def goodput_off(self) -> float:
        return (
            self.predicted_goodput_per_s / self.goodput_per_s - 1.0 if self.goodput_per_s else 0.0
        )

    @property
    def held(self) -> bool | None:
        """Goodput, where more comes than can be done; else p99, and how busy the device is."""
        if self.asked is Asked.GOODPUT:
            return abs(self.goodput_off) <= MOST_GOODPUT_OFF
        busy_off = abs(self.predicted_busy - self.busy)
        return abs(self.p99_off) <= MOST_P99_OFF and busy_off <= MOST_BUSY_OFF


class PreviewResult(msgspec.Struct, frozen=True):
    rows: Sequence[PreviewRow]

    def table(self) -> Table:
        return Table(
            title="Preview",
            intro=(
                "What the dashboard's preview foretells from what Prometheus saw of a run, beside "
                "what the clients of that run measured: Poisson arrivals at a share of what full "
                "batches would do (load), on the simulated accelerator (5 ms + 10 µs a token), SLO "
                f"200 ms. *Chance* is what p99s of such runs differ by (standard deviation, of "
                "several in virtual time); the preview's own differs by less. Required: p99 within "
                f"{MOST_P99_OFF:.0%} and busy within {MOST_BUSY_OFF * 100:.0f} points; beyond "
                f"capacity, goodput within {MOST_GOODPUT_OFF:.0%}. A row fails only if two runs "
                "fail."
            ),
            columns=(
                *("setting", "load", "tier", "requests/s"),
                *("p50 ms", "p99 ms, predicted", "measured", "by Prometheus", "off", "chance"),
                *("busy", "goodput/s", "held"),
            ),
            rows=[self._cells(row) for row in self.rows],
            notes=(
                "pairs are predicted, measured; *by Prometheus* is on the server's clock",
                "bulk that always waits comes from clients that send again when they are answered",
            ),
        )

    @staticmethod
    def _cells(row: PreviewRow) -> Sequence[str]:
        return (
            row.setting,
            row.load,
            row.tier,
            f"{row.rate_per_s:.0f}",
            f"{row.predicted_p50_ms:.1f}, {row.p50_ms:.1f}",
            f"{row.predicted_p99_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.seen_p99_ms:.1f}",
            f"{row.p99_off:+.0%}",
            f"±{row.chance:.0%}",
            f"{row.predicted_busy:.2f}, {row.busy:.2f}",
            f"{row.predicted_goodput_per_s:.0f}, {row.goodput_per_s:.0f}",
            verdict(row.held),
        )
