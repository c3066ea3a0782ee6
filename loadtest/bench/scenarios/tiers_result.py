"""The table of interactive and bulk requests on one device."""

from collections.abc import Sequence

import msgspec

from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.simulated import SERVER_SLO_MS, SLO_MS
from loadtest.bench.sharing import REQUIRED_BULK_RATIO, Sharing

TIERS = "tiers"


class TierRow(msgspec.Struct, frozen=True, kw_only=True):
    scheduler: str
    load: float
    max_slice_ms: float | None
    sharing: Sharing

    @property
    def asked(self) -> bool:
        """Baselines are there to compare with, and a shorter slice gives bulk away."""
        return self.scheduler == TIERS and self.max_slice_ms is None


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """Interactive at more than capacity. `share`: of device time, bulk's, by tokens.

    `slice_share` is one slice over the run: whether the last one ends in it is chance.
    """

    load: float
    min_share: float
    share: float
    slice_share: float
    goodput_ratio: float  # interactive goodput over the capacity, were there no bulk

    @property
    def held(self) -> bool:
        return self.share >= self.min_share - self.slice_share


class TiersResult(msgspec.Struct, frozen=True, kw_only=True):
    rows: Sequence[TierRow]
    curve: Sequence[TierRow]  # by ever shorter slices
    overload: Overload
    best_tokens_per_s: float
    longest_batch_ms: float

    def table(self) -> Table:
        return Table(
            title="Tiers",
            intro=(
                "Interactive requests of one row, Poisson, at a share of the capacity (load), with "
                "bulk always waiting (64 requests of 16 rows in flight; alone "
                f"{self.best_tokens_per_s:,.0f} tokens/s, the best). The device takes 2 ms + 10 µs "
                f"a token, a full batch {self.longest_batch_ms:.0f} ms. SLO {SLO_MS:.0f} ms at the "
                f"client, {SERVER_SLO_MS:.0f} ms in the tier. *Allowed* is min(SLO, p99 alone + "
                "longest batch with bulk rows + what top-up added to interactive batches, at "
                "p99); a row fails only if two runs fail. Strict priority and FIFO (one tier for "
                "all) send a batch of up to the same size as soon as the device is free, and drop "
                "nothing."
            ),
            columns=(
                *(
                    "scheduler",
                    "load",
                    "`max_slice_ms`",
                    "alone p50, p99 ms",
                    "with bulk p50, p99 ms",
                ),
                *("slice ms", "top-up ms", "allowed ms", "held", "in time"),
                *("bulk tokens/s", "÷ ((1 - load) best)", f"≥ {REQUIRED_BULK_RATIO} held"),
            ),
            rows=[self._cells(row) for row in (*self.rows, *self.curve)],
            notes=(
                self._overload_note(),
                "bulk tokens count when their answer comes; (1 - load) is by what really arrived",
            ),
        )

    def _overload_note(self) -> str:
        over = self.overload
        return (
            f"interactive at load {over.load:g}: bulk has {over.share:.3f} of device time "
            f"(`min_share` {over.min_share:g}, to one slice of {over.slice_share:.3f}; held: "
            f"{verdict(over.held)}), and interactive "
            f"answers in time are {over.goodput_ratio:.2f} of the capacity"
        )

    @staticmethod
    def _cells(row: TierRow) -> Sequence[str]:
        sharing = row.sharing
        return (
            row.scheduler,
            f"{row.load:g}",
            "-" if row.max_slice_ms is None else f"{row.max_slice_ms:g}",
            *(
                f"{spread.p50_ms:.1f}, {spread.p99_ms:.1f}" if spread else "-"
                for spread in (sharing.alone.latency, sharing.interactive.latency)
            ),
            f"{sharing.slice_ms:.1f}",
            f"{sharing.growth_ms:.1f}",
            f"{sharing.allowed_ms:.1f}" if row.asked else "-",
            verdict(sharing.is_prompt if row.asked else None),
            f"{sharing.in_time:.1%}",
            f"{sharing.bulk.finished_tokens_per_s:,.0f}",
            f"{sharing.bulk_ratio:.2f}",
            verdict(sharing.is_efficient if row.asked else None),
        )
