"""Stands in for k6: sends a request or two, and tells of a server with a capacity it was given."""

import http.client
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.k6.result import K6Result, TierResult

SECONDS = 2.0


def tier_result(
    requests: int, *, latency_ms: float, refused: int = 0, slo_ms: float = 1e9
) -> TierResult:
    ok = requests - refused
    return TierResult(
        requests=requests,
        ok=ok,
        within_slo=ok if latency_ms <= slo_ms else 0,
        refused=refused,
        failed=0,
        mean_ms=latency_ms / 2,
        p50_ms=latency_ms / 2,
        p95_ms=latency_ms,
        p99_ms=latency_ms,
    )


class FakeK6:
    """Calm up to `capacity_per_s`, late above. `before` is called with the number of the run.

    `busy_above_per_s`: where it cannot send what it should, and drops some.
    """

    def __init__(
        self,
        capacity_per_s: float,
        before: Callable[[int], None] = lambda run: None,
        busy_above_per_s: float = math.inf,
    ) -> None:
        self.runs: list[Mapping[str, str]] = []
        self.scripts: list[str] = []
        self._capacity_per_s = capacity_per_s
        self._before = before
        self._busy_above_per_s = busy_above_per_s

    def __call__(
        self,
        script: str,
        settings: Mapping[str, str],
        *,
        results: Path,
        limit_s: float,
        prometheus_url: str | None = None,
    ) -> K6Result:
        self._before(len(self.runs))
        self.runs.append(settings)
        self.scripts.append(script)
        send_one(settings)
        rate_per_s, slo_ms = float(settings.get("RATE", "1")), float(settings["SLO_MS"])
        latency_ms = slo_ms / 2 if rate_per_s <= self._capacity_per_s else 2 * slo_ms
        sent = max(1, round(rate_per_s * SECONDS))
        tier = tier_result(sent, latency_ms=latency_ms, slo_ms=slo_ms)
        return K6Result(
            script=script,
            settings=settings,
            seconds=SECONDS,
            dropped=int(rate_per_s > self._busy_above_per_s),
            tiers={settings["TIERS"]: tier},
            thresholds_ok=True,
            folder=results,
        )


def send_one(settings: Mapping[str, str]) -> None:
    """To the simulated model: 10 ids."""
    parts = urlsplit(settings["URL"])
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    ids = {"name": "input_ids", "datatype": "INT64", "shape": [1, 10], "data": list(range(10))}
    try:
        path = f"/v2/models/{settings['MODEL']}/infer"
        connection.request(
            "POST", path, json.dumps({"inputs": [ids]}), {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == http.client.OK
    finally:
        connection.close()
