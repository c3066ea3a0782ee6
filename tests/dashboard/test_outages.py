"""What a Prometheus knows of an outage: failures of no tier, replicas that left, that hang."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboard.ports import UNREAD_TIER, Filter, Series, Slo, TierNow, Window
from dashboard.sources.prometheus import PrometheusMetrics
from predictor.core.facts import Completed, EdgeRefused, Fact, Offered, Settled, Snapshot
from predictor.core.parameters import DEFAULT_PARAMETERS
from predictor.core.rows import Batch, DispatchReason, Outcome, Packing, Row
from predictor.metrics.observer import PrometheusObserver
from tests.dashboard.prometheus_process import WHY, Past, PrometheusProcess, Target, missing, until

pytestmark = pytest.mark.skipif(missing, reason=WHY)

MODEL = "topics"
START_S = 1_700_006_400.0
LASTS_S, SCRAPE_S = 300, 5
WINDOW = Window(START_S, START_S + LASTS_S)
ONE = {"job": "headway", "instance": "a:80", "pool": "spot"}
OTHER = {"job": "headway", "instance": "b:80", "pool": "spot"}


def predictor() -> PrometheusObserver:
    idle = Snapshot(queues=(), service_models=(), overloaded=False)
    return PrometheusObserver(
        lambda: idle, [MODEL], lambda: DEFAULT_PARAMETERS.tiers, read_devices=list
    )


def settled(outcome: Outcome, *, in_time: bool = False) -> Iterator[Fact]:
    yield Offered(MODEL, "interactive", 1, 40, 0.001)
    yield Settled(MODEL, "interactive", outcome, 1, 0.3, deadline_met=in_time)


@contextmanager
def reading(folder: Path, past: Past) -> Iterator[PrometheusMetrics]:
    prometheus = PrometheusProcess(folder)
    past.write(prometheus.data)
    prometheus.start()
    try:
        yield PrometheusMetrics(prometheus.url, lambda: WINDOW.end_s - 1)
    finally:
        prometheus.stop()


def last(lines: tuple[Series, ...]) -> dict[str, float]:
    return {line.name: line.values[-1] for line in lines}


def test_whatever_becomes_of_a_request_is_counted_and_adds_up(tmp_path: Path) -> None:
    """Each second ten of a tier, and five that edges ended before they knew a tier."""
    past, subject = Past(), predictor()
    for elapsed_s in range(LASTS_S + 1):
        if elapsed_s % SCRAPE_S == 0:
            past.scraped(subject, START_S + elapsed_s, **ONE)
        for fact in (
            *(fact for _ in range(4) for fact in settled(Outcome.OK, in_time=True)),
            *settled(Outcome.OK),
            *settled(Outcome.FAILED),
            *settled(Outcome.EXPIRED),
            *settled(Outcome.QUEUE_FULL),
            *settled(Outcome.CANCELLED),
            *settled(Outcome.UNAVAILABLE),
            EdgeRefused(MODEL, "http", Outcome.EXPIRED),
            EdgeRefused(MODEL, "http", Outcome.EXPIRED),
            EdgeRefused(MODEL, "http", Outcome.UNAVAILABLE),
            EdgeRefused("no such model", "http", Outcome.UNAVAILABLE),  # too many connections
            EdgeRefused(MODEL, "http", Outcome.INVALID),  # the client's own fault
        ):
            subject.observe(fact)
    with reading(tmp_path, past) as metrics:
        found = {(tier.model, tier.tier): tier for tier in metrics.tiers(WINDOW)}
        tier = found[MODEL, "interactive"]
        assert rates(tier) == pytest.approx([10, 4, 1, 1, 3, 1], rel=0.03)
        assert tier.failures == pytest.approx(
            {"failed": 1, "expired": 1, "unavailable": 1}, rel=0.03
        )
        assert tier.slo == Slo(0.2)
        unread = found[MODEL, UNREAD_TIER]
        assert rates(unread) == pytest.approx([3, 0, 0, 0, 3, 0], rel=0.03)
        assert unread.failures == pytest.approx({"expired": 2, "unavailable": 1}, rel=0.03)
        assert rates(found["unknown", UNREAD_TIER])[4] == pytest.approx(1, rel=0.03)

        over_time = metrics.traffic(WINDOW)
        assert last(over_time.failed)[f"{MODEL}/{UNREAD_TIER}"] == pytest.approx(3, rel=0.03)
        assert last(over_time.failed)[f"{MODEL}/interactive"] == pytest.approx(3, rel=0.03)
        assert last(over_time.late)[f"{MODEL}/interactive"] == pytest.approx(1, rel=0.03)
        assert last(over_time.given_up)[f"{MODEL}/interactive"] == pytest.approx(1, rel=0.03)
        assert last(over_time.offered)[f"{MODEL}/{UNREAD_TIER}"] == pytest.approx(3, rel=0.03)

        alone = metrics.tiers(WINDOW, Filter(models=(MODEL,), tiers=("interactive",)))
        assert [each.tier for each in alone] == ["interactive"]
        of_model = metrics.tiers(WINDOW, Filter(models=(MODEL,)))
        assert {each.model for each in of_model} == {MODEL}


def rates(tier: TierNow) -> list[float]:
    """Asked for; in time, late, refused, failed, given up."""
    return [
        *(tier.offered_per_s, tier.good_per_s, tier.late_per_s),
        *(tier.refused_per_s, tier.failed_per_s, tier.given_up_per_s),
    ]


def test_refusals_of_edges_alone_are_of_no_tier_and_not_lost(tmp_path: Path) -> None:
    """Nothing is shed by an engine: no tier can be held to have asked for what edges refused."""
    past, subject = Past(), predictor()
    for elapsed_s in range(LASTS_S + 1):
        if elapsed_s % SCRAPE_S == 0:
            past.scraped(subject, START_S + elapsed_s, **ONE)
        for fact in settled(Outcome.OK, in_time=True):
            subject.observe(fact)
        subject.observe(EdgeRefused(MODEL, "http", Outcome.SHED))
    with reading(tmp_path, past) as metrics:
        unread = next(each for each in metrics.tiers(WINDOW) if each.tier == UNREAD_TIER)
        assert unread.refused_per_s == pytest.approx(1.0, rel=0.03)
        assert unread.unread_per_s == unread.refused_per_s
        refused = last(metrics.traffic(WINDOW).refused)
        assert refused[f"{MODEL}/{UNREAD_TIER}"] == pytest.approx(1.0, rel=0.03)


def test_busy_is_of_the_devices_that_were_there_as_long_as_they_were(tmp_path: Path) -> None:
    """Two replicas are busy for a fifth of the time; one of them leaves halfway."""
    batch = Batch(
        MODEL, [Row(MODEL, "bulk", 40, 0.0)], Packing.PADDED, DispatchReason.IDLE, 0.2, 40
    )

    def busy(subject: PrometheusObserver) -> Target:
        return Target(subject, before=lambda: subject.observe(Completed(batch, 0.0, 0.2)))

    stays, leaves = busy(predictor()), busy(predictor())
    targets = [{"address": each.address, "pool": "spot"} for each in (stays, leaves)]
    prometheus = PrometheusProcess(tmp_path, targets).start()  # which scrapes each once a second
    try:
        metrics = PrometheusMetrics(prometheus.url)
        leaves.wait_for_scrapes(8)
        leaves.stop()
        until(lambda: sorted(each.up for each in metrics.replicas()) == [False, True])
        stays.wait_for_scrapes(16)
        used = metrics.utilisation(Window.last(60.0, metrics.scrapes().newest_s))
        assert used.busy == pytest.approx(0.2, rel=0.2)  # 0.3 by the devices at the end
    finally:
        prometheus.stop()
        stays.stop()


def test_a_replica_that_hangs_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    hanging, gone = Target(predictor()), Target(predictor())
    targets = [{"address": each.address, "pool": "spot"} for each in (hanging, gone)]
    prometheus = PrometheusProcess(tmp_path, targets).start()
    try:
        metrics = PrometheusMetrics(prometheus.url)
        hanging.wait_for_scrapes(3)
        gone.wait_for_scrapes(3)
        until(lambda: len(metrics.replicas()) == 2)
        hanging.hang()
        gone.stop()
        until(lambda: not any(each.up for each in metrics.replicas()))
        silent = {each.instance: each.silent for each in metrics.replicas()}
        assert silent == {hanging.address: True, gone.address: False}
        assert all(each.answered_at_s is not None for each in metrics.replicas())
        (tier, *_) = metrics.tiers(Window.last(60.0, metrics.scrapes().newest_s))
        assert tier.slo is not None  # what was in force last
        assert not math.isnan(tier.slo.slo_s)
    finally:
        prometheus.stop()
        hanging.stop()
