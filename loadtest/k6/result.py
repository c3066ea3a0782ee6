"""What a k6 run measured, as its summary tells it."""

from collections.abc import Mapping
from pathlib import Path

import msgspec


class TierResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of the requests of one tier. Times in ms, as the client saw them."""

    requests: int
    ok: int  # answered 200, and every check passed
    within_slo: int  # of those, within the tier's SLO
    refused: int  # status 429 or RESOURCE_EXHAUSTED
    failed: int  # anything else: status, transport, a check
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class K6Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. It is invalid where iterations were dropped: the load was not what was asked."""

    script: str
    settings: Mapping[str, str]
    seconds: float
    dropped: int
    tiers: Mapping[str, TierResult]
    thresholds_ok: bool
    folder: Path  # run.json (settings, generation, revision, machine) and summary.json lie there

    @property
    def valid(self) -> bool:
        return self.dropped == 0
