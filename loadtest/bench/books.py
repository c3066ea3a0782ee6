"""What one process of the generator booked, and the report of all of them together.

Samples cross the pipe as they were taken, so percentiles of several processes are those of
all their samples, not a mean of percentiles.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from loadtest.bench.plan import Plan, RunReport, Spread


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """One process's counts; samples are seconds as raw doubles."""

    scheduled: int
    answered_rows: int
    answered_tokens: int
    finished_tokens: int
    scheduled_tokens: int
    mismatched: int
    failed: int
    rejected: Mapping[int, int]
    latencies_s: bytes
    overheads_s: bytes
    refusals_s: bytes
    lags_s: bytes
    services_s: bytes
    waited_for_connection: int
    connections: int
    cpu_s: float
    wall_s: float


def report_of(plan: Plan, books: Sequence[Books]) -> RunReport:
    """The report of a run whose processes kept `books`; what nobody booked is unanswered."""
    latencies_s = _merged([one.latencies_s for one in books])
    rejected: Counter[int] = Counter()
    for one in books:
        rejected.update(one.rejected)
    scheduled = sum(one.scheduled for one in books)
    mismatched = sum(one.mismatched for one in books)
    failed = sum(one.failed for one in books)
    settled = len(latencies_s) + mismatched + failed + rejected.total()
    slo_s = plan.slo_ms / 1e3
    busiest = max(books, key=lambda one: one.cpu_s)
    return RunReport(
        seconds=plan.seconds,
        scheduled=scheduled,
        answered=len(latencies_s),
        mismatched=mismatched,
        rejected=dict(rejected),
        failed=failed,
        unanswered=scheduled - settled,
        within_slo=sum(latency_s <= slo_s for latency_s in latencies_s),
        latency=spread_of(latencies_s),
        overhead=spread_of(_merged([one.overheads_s for one in books])),
        refusal=spread_of(_merged([one.refusals_s for one in books])),
        lag=spread_of(_merged([one.lags_s for one in books])),
        service=spread_of(_merged([one.services_s for one in books])),
        waited_for_connection=sum(one.waited_for_connection for one in books),
        connections=sum(one.connections for one in books),
        mean_tokens=sum(one.scheduled_tokens for one in books) / scheduled if scheduled else 0.0,
        answered_rows=sum(one.answered_rows for one in books),
        answered_tokens=sum(one.answered_tokens for one in books),
        finished_tokens=sum(one.finished_tokens for one in books),
        generator_cpu_s=busiest.cpu_s,
        generator_wall_s=busiest.wall_s,
    )


def _merged(parts: Sequence[bytes]) -> Sequence[float]:
    return array("d", b"".join(parts))


def spread_of(samples_s: Sequence[float]) -> Spread | None:
    """Mean and nearest-rank percentiles of samples in seconds; None without samples."""
    if not samples_s:
        return None
    ordered = sorted(samples_s)

    def percentile_ms(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1e3

    return Spread(
        count=len(ordered),
        mean_ms=math.fsum(ordered) / len(ordered) * 1e3,
        p50_ms=percentile_ms(0.50),
        p90_ms=percentile_ms(0.90),
        p99_ms=percentile_ms(0.99),
        max_ms=ordered[-1] * 1e3,
    )
