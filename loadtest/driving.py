"""The port to k6: what capacity, sweep and replay ask of it, and the settings they share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from loadtest.k6.result import K6Result, TierResult

START_AND_DRAIN_S = 60.0  # k6 starts, compiles, and waits for late answers


class RunK6(Protocol):
    """Runs one scenario of `loadtest`. Raises BenchError where it cannot."""

    def __call__(
        self,
        script: str,
        settings: Mapping[str, str],
        *,
        results: Path,
        limit_s: float,
        prometheus_url: str | None = None,
    ) -> K6Result: ...


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What every run of one capacity search or sweep has in common."""

    url: str
    model: str
    task: str  # text or simulated
    tier: str
    slo_ms: float
    seconds: float
    arrivals: str = "poisson"  # or even; lib/arrivals.js makes them
    lengths: str = "mixed"  # of lib/payloads.js: short, mixed, long, lognormal:MEDIAN:SIGMA
    more: Mapping[str, str] = {}  # more settings of the script

    def at(self, url: str) -> "Load":
        return msgspec.structs.replace(self, url=url)

    def settings(self, rate_per_s: float, attempt: int = 0) -> Mapping[str, str]:
        return {
            **self.more,
            "URL": self.url,
            "MODEL": self.model,
            "TASK": self.task,
            "TIERS": self.tier,
            "ARRIVALS": self.arrivals,
            "LENGTHS": self.lengths,
            "SLO_MS": f"{self.slo_ms:g}",
            "RATE": f"{rate_per_s:.3f}".rstrip("0").rstrip("."),
            "DURATION": f"{self.seconds:g}s",
            "SEED": str(1 + attempt),
        }


class Driver(msgspec.Struct, frozen=True):
    """Runs `steady` at one rate after another."""

    run_k6: RunK6
    load: Load
    results: Path
    prometheus_url: str | None = None

    def steady(self, rate_per_s: float, attempt: int = 0) -> K6Result:
        return self.run_k6(
            "steady",
            self.load.settings(rate_per_s, attempt),
            results=self.results,
            limit_s=self.load.seconds + START_AND_DRAIN_S,
            prometheus_url=self.prometheus_url,
        )


def whole(result: K6Result) -> TierResult:
    """All tiers as one: counts are added, and of each latency it is the worst.

    `steady` sends one tier, of which it is exact.
    """
    tiers = list(result.tiers.values())
    return TierResult(
        requests=sum(tier.requests for tier in tiers),
        ok=sum(tier.ok for tier in tiers),
        within_slo=sum(tier.within_slo for tier in tiers),
        refused=sum(tier.refused for tier in tiers),
        failed=sum(tier.failed for tier in tiers),
        mean_ms=max((tier.mean_ms for tier in tiers), default=0.0),
        p50_ms=max((tier.p50_ms for tier in tiers), default=0.0),
        p95_ms=max((tier.p95_ms for tier in tiers), default=0.0),
        p99_ms=max((tier.p99_ms for tier in tiers), default=0.0),
    )
