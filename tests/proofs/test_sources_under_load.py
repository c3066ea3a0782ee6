"""What the dashboard says of a real predictor under a real k6 load, beside what k6 says of it.

Requests are sent evenly, so that any part of the run has the rate of the whole. The device is slow,
so that what client and network add to a latency is small beside it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboard.ports import Pool, Price, TierNow, Window
from dashboard.sources.prometheus import PrometheusMetrics
from dashboard.views.costs import pool_costs
from loadtest.bench.prometheus import running_prometheus
from loadtest.bench.scenarios.simulated import ADAPTIVE, simulated_server
from loadtest.bench.servers import HOST, running_server
from loadtest.k6.result import K6Result
from loadtest.k6.run import run_k6
from predictor.local.prometheus import Target
from tests.dashboard.prometheus_process import WHY, missing, until

pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(180),
    pytest.mark.skipif(missing, reason=WHY),
]

TIER = "interactive"
RATE = 40
LASTS_S = 24
# Of the run's time, that which is surely within it: k6 starts and ends some time around it.
FROM_END_S, TO_END_S = 20, 4
PRICE = Price(Pool.SPOT, 72.0, "price table")
CENT = 0.01
# How late k6 may have been, which is in its latencies; a run in which it was later is no measure.
MOST_LAG_MS = 10.0
RUNS = 3


@dataclass(frozen=True)
class Proof:
    k6: K6Result
    metrics: PrometheusMetrics
    answered: float  # as Prometheus counted them
    whole: Window  # from before the first request to after the last
    steady: Window

    def tier(self, window: Window) -> TierNow:
        return next(each for each in self.metrics.tiers(window) if each.tier == TIER)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    folder = tmp_path_factory.mktemp("k6")
    command = simulated_server(True, ADAPTIVE, fixed_ms=20, token_us=200, slo_ms=2000)
    with running_server(command) as server:
        target = Target(f"{HOST}:{server.http_port}", {"pool": "spot"})
        with running_prometheus([target]) as url:
            metrics = PrometheusMetrics(url)
            for _ in range(RUNS):
                made = measured(f"http://{HOST}:{server.http_port}", server.model, folder, metrics)
                if made.k6.lag_p99_ms <= MOST_LAG_MS:
                    break
            yield made


def measured(url: str, model: str, folder: Path, metrics: PrometheusMetrics) -> Proof:
    before, began_s = counted(metrics), time.time()
    k6 = run_steadily(url, model, folder)
    ended_s = time.time()
    until(lambda: counted(metrics) >= before + k6.tiers[TIER].ok)
    return Proof(
        k6,
        metrics,
        counted(metrics) - before,
        Window(began_s, time.time()),
        Window(ended_s - FROM_END_S, ended_s - TO_END_S),
    )


def run_steadily(url: str, model: str, folder: Path) -> K6Result:
    settings = {
        "URL": url,
        "MODEL": model,
        "TASK": "simulated",
        "LENGTHS": "lognormal:24:0.5",
        "ARRIVALS": "even",
        "RATE": str(RATE),
        "DURATION": f"{LASTS_S}s",
        "SLO_MS": "2000",
    }
    return run_k6("steady", settings, results=folder, limit_s=120.0)


def counted(metrics: PrometheusMetrics) -> float:
    """Answered requests that Prometheus knows of."""
    query = 'sum(headway_requests_total{outcome="ok"})'
    (found,) = metrics._connection.instant(query, time.time())
    return found.value


def test_every_request_is_counted_once(proof: Proof) -> None:
    sent = proof.k6.tiers[TIER]
    assert proof.k6.valid, proof.k6.missed
    assert sent.ok == sent.requests == RATE * LASTS_S
    assert proof.answered == sent.ok


def test_requests_a_second_are_those_of_k6(proof: Proof) -> None:
    tier = proof.tier(proof.steady)
    sent_per_s = proof.k6.tiers[TIER].requests / proof.k6.seconds
    assert tier.offered_per_s == pytest.approx(sent_per_s, rel=0.02)
    assert tier.answered_per_s == pytest.approx(sent_per_s, rel=0.02)
    assert tier.good_per_s == pytest.approx(sent_per_s, rel=0.02)


def test_latencies_are_those_of_k6(proof: Proof) -> None:
    """k6's own has the client and the network in it, and Prometheus knows it to a bucket."""
    assert proof.k6.lag_p99_ms <= MOST_LAG_MS, "k6 was late: this machine is too busy to compare"
    tier, sent = proof.tier(proof.whole), proof.k6.tiers[TIER]
    for seen_s, sent_ms in ((tier.p99_s, sent.p99_ms), (tier.p50_s, sent.p50_ms)):
        assert seen_s is not None
        assert abs(seen_s * 1e3 - sent_ms) <= 0.10 * sent_ms + 5.0


def test_cost_is_the_hand_calculation_to_the_cent(proof: Proof) -> None:
    (cost,) = pool_costs(proof.metrics.pools(proof.steady), {PRICE.pool: PRICE})
    sent_per_s = proof.k6.tiers[TIER].ok / proof.k6.seconds
    by_hand = PRICE.usd_per_hour / 3600.0 / sent_per_s * 1000.0
    assert by_hand == pytest.approx(0.50)
    assert cost.usd_per_1000 == pytest.approx(by_hand, abs=CENT / 2.0)
    assert cost.usd == pytest.approx(PRICE.usd_per_hour / 3600.0 * 16.0, abs=CENT / 2.0)
