"""Queries against a real Prometheus, which holds ten minutes of two predictors."""

import math
import random
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from dashboard.ports import (
    ALL,
    Filter,
    NoData,
    Pool,
    PoolUse,
    Series,
    Slo,
    SourceDown,
    Split,
    Stage,
    Token,
    Window,
)
from dashboard.sources import latency, promql
from dashboard.sources.prometheus import PrometheusMetrics
from dashboard.sources.reading import Reading
from dashboard.sources.rules import rule_file
from predictor.core.facts import (
    Completed,
    Dispatched,
    EdgeRefused,
    EdgeTimed,
    Fact,
    FirstToken,
    GenerationSnapshot,
    Offered,
    ParametersInForce,
    QueueSnapshot,
    ServiceModelSnapshot,
    Settled,
    Snapshot,
    TokensCame,
)
from predictor.core.parameters import DEFAULT_PARAMETERS
from predictor.core.rows import Batch, DispatchReason, Outcome, Packing, Row
from predictor.metrics.devices import DeviceReading
from predictor.metrics.observer import PrometheusObserver
from tests.dashboard.prometheus_process import WHY, Past, PrometheusProcess, Target, missing, until

pytestmark = pytest.mark.skipif(missing, reason=WHY)

START_S = 1_700_006_400.0
SCRAPE_S = 10
LASTS_S = 600
NOW_S = START_S + LASTS_S - 5
SECOND_JOINS_S = 300
EDITED_S = 205
WINDOW = Window(START_S + 60, START_S + 560)
RATE, SHED_EACH = 20, 20  # requests a second; every twentieth is shed
SPOT = {"job": "headway", "instance": "a:80", "pool": "spot", "node": "n1", "instance_type": "g1"}
ON_DEMAND = {
    "job": "headway",
    "instance": "b:80",
    "capacity_type": "ON_DEMAND",
    "node": "n2",
    "instance_type": "g2",
}
ODD = 'to"pi\\cs'  # a model's name may be anything printable

EXPECTED_GOOD = 0.05  # seconds
FIRST_S, NEXT_S = 0.4, 0.03  # of tokens
SNAPSHOT = Snapshot(
    queues=[QueueSnapshot(ODD, "interactive", 12, 900, backlog_s=0.5, offered_load=1.25)],
    service_models=[ServiceModelSnapshot(ODD, "padded", {"fixed": 0.005, "area": 1e-5}, 0.02, 31)],
    overloaded=False,
)


def predictor(snapshot: Snapshot = SNAPSHOT) -> PrometheusObserver:
    return PrometheusObserver(
        lambda: snapshot,
        [ODD],
        lambda: DEFAULT_PARAMETERS.tiers,
        read_devices=lambda: [DeviceReading("0", 0.25, 1, 2)],
    )


def second(now_s: float, tier: str, rate: int, rng: random.Random) -> Iterator[tuple[Fact, float]]:
    """A second of traffic, evenly spaced, with the latency of what was answered."""
    for number in range(rate):
        tokens = 40 if number % 2 else 160
        yield Offered(ODD, tier, 1, tokens, 0.001), 0.0
        yield EdgeTimed(ODD, "http", decode_s=1e-4, tokenise_s=2e-4, encode_s=3e-4), 0.0
        if number % SHED_EACH == 0:
            yield Settled(ODD, tier, Outcome.SHED, 1, 0.0), 0.0
            continue
        latency_s = rng.lognormvariate(-3.0, 0.5)
        yield (
            Settled(
                ODD,
                tier,
                Outcome.OK,
                1,
                latency_s,
                queue_s=latency_s - 0.012,
                service_s=0.010,
                deadline_met=latency_s <= EXPECTED_GOOD,
            ),
            latency_s,
        )
    for number in range(rate // 2):
        rows = [Row(ODD, tier, tokens, now_s) for tokens in (40, 160)]
        batch = Batch(ODD, rows, Packing.PADDED, DispatchReason.IDLE, 0.02, 320)
        starts_s = now_s + number / rate * 2
        yield Dispatched(batch, starts_s), 0.0
        yield Completed(batch, starts_s, starts_s + 0.02), 0.0


class World:
    """What is in Prometheus, and what was put there."""

    def __init__(self, folder: Path) -> None:
        self.latencies_s: list[float] = []  # of the spot replica, within the window
        past = Past()
        rng = random.Random(1)
        spot, other = predictor(), predictor()
        spot.observe(ParametersInForce(7))
        other.observe(ParametersInForce(8))
        for elapsed_s in range(LASTS_S + 1):
            now_s = START_S + elapsed_s
            if elapsed_s % SCRAPE_S == 0:
                past.scraped(spot, now_s, **SPOT)
                past.gauge("node_total_hourly_cost", 1.2, now_s, node="n1")
                past.gauge("node_gpu_count", 4, now_s, node="n1")
                past.gauge(
                    "karpenter_cloudprovider_instance_type_offering_price_estimate",
                    0.9,
                    now_s,
                    instance_type="g2",
                    capacity_type="on-demand",
                    zone="z",
                )
                if elapsed_s >= SECOND_JOINS_S:
                    past.scraped(other, now_s, **ON_DEMAND)
            if elapsed_s == EDITED_S:
                spot.observe(ParametersInForce(8))
            for fact, latency_s in second(now_s, "interactive", RATE, rng):
                spot.observe(fact)
                if latency_s and WINDOW.start_s <= now_s < WINDOW.end_s:
                    self.latencies_s.append(latency_s)
            if elapsed_s >= SECOND_JOINS_S:
                for fact, _ in second(now_s, "bulk", 10, rng):
                    other.observe(fact)
        self.prometheus = PrometheusProcess(folder)
        past.write(self.prometheus.data)
        self.prometheus.start()
        self.metrics = PrometheusMetrics(self.prometheus.url, lambda: NOW_S)

    def quantile_s(self, q: float) -> float:
        return sorted(self.latencies_s)[int(q * len(self.latencies_s))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("prometheus"))
    yield made
    made.prometheus.stop()


def test_models_and_tiers_are_named(world: World) -> None:
    assert world.metrics.models() == [ODD]
    assert world.metrics.tier_names(Filter(models=(ODD,))) == ["bulk", "interactive"]


def test_a_tier_is_what_was_sent(world: World) -> None:
    interactive, bulk = world.metrics.tiers(WINDOW)
    assert (interactive.model, interactive.tier, bulk.tier) == (ODD, "interactive", "bulk")
    assert interactive.offered_per_s == pytest.approx(RATE, rel=0.02)
    assert interactive.answered_per_s == pytest.approx(RATE - 1, rel=0.02)
    assert interactive.refused_per_s == pytest.approx(1.0, rel=0.02)
    assert interactive.failed_per_s == 0.0
    good = sum(latency_s <= EXPECTED_GOOD for latency_s in world.latencies_s)
    assert interactive.good_per_s == pytest.approx(good / WINDOW.duration_s, rel=0.02)
    for q, seen_s in (
        (0.5, interactive.p50_s),
        (0.95, interactive.p95_s),
        (0.99, interactive.p99_s),
    ):
        assert seen_s == pytest.approx(world.quantile_s(q), rel=0.10)
    # As the rates are, of the whole window: the second replica was there for half of it.
    joined = (WINDOW.end_s - START_S - SECOND_JOINS_S) / WINDOW.duration_s
    assert interactive.queue_depth == pytest.approx(12 * (1 + joined), rel=0.02)
    assert interactive.backlog_s == pytest.approx(0.5 * (1 + joined), rel=0.02)
    assert interactive.offered_load == 1.25  # of the busiest
    assert (interactive.slo, bulk.slo) == (Slo(0.2), Slo(math.inf))


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusMetrics]:
    """A model that generated for interactive alone, beside one that does not generate."""
    held = GenerationSnapshot(ODD, 1, 0, 9, {}, 0)
    observed = predictor(msgspec.structs.replace(SNAPSHOT, generation=[held]))
    past = Past()
    for elapsed_s in range(0, LASTS_S + 1, SCRAPE_S):
        past.scraped(observed, START_S + elapsed_s, **SPOT)
        observed.observe(Offered(ODD, "bulk", 1, 5, 0.001))
        firsts = [FirstToken("interactive", FIRST_S, prompt_tokens=5)]
        observed.observe(TokensCame(ODD, firsts, {("interactive", NEXT_S): 50}))
    prometheus = PrometheusProcess(tmp_path_factory.mktemp("generating"))
    past.write(prometheus.data)
    prometheus.start()
    yield PrometheusMetrics(prometheus.url, lambda: NOW_S)
    prometheus.stop()


def test_tokens_have_times_of_their_own(generating: PrometheusMetrics) -> None:
    found = {each.tier: each.tokens for each in generating.tiers(WINDOW)}
    assert found["bulk"] is None
    times = found["interactive"]
    assert times is not None
    for seen_s, sent_s in (
        *((times.first_p50_s, FIRST_S), (times.first_p99_s, FIRST_S)),
        *((times.next_p50_s, NEXT_S), (times.next_p99_s, NEXT_S)),
    ):
        assert seen_s == pytest.approx(sent_s, rel=0.10)
    for token, sent_s in ((Token.FIRST, FIRST_S), (Token.NEXT, NEXT_S)):
        (line,) = generating.token_times(WINDOW, 0.99, token)  # none of bulk
        assert line.name == "interactive"
        assert line.values[-1] == pytest.approx(sent_s, rel=0.10)
        (line,) = generating.token_times(WINDOW, 0.5, token, ALL, Split.POOL)
        assert line.name == "spot"


def test_where_nothing_is_generated_there_are_no_times_of_tokens(world: World) -> None:
    assert [each.tokens for each in world.metrics.tiers(WINDOW)] == [None, None]
    for token in Token:
        assert not world.metrics.token_times(WINDOW, 0.99, token)


def test_quantiles_are_those_of_prometheus(world: World) -> None:
    reading = Reading(world.metrics._connection, WINDOW, ALL)
    buckets = promql.bucket(promql.LATENCY)
    for key, cumulative in latency.distributions(reading, promql.LATENCY, ("tier",)).items():
        for q in (0.01, 0.5, 0.9, 0.99, 1.0):
            theirs = reading.now(
                promql.quantile(q, reading.rate(buckets, ("tier", "le"))), ("tier",)
            )
            assert latency.quantile(cumulative, q) == pytest.approx(theirs[key])


def test_filters_by_model_tier_and_pool_narrow_what_is_read(world: World) -> None:
    (only,) = world.metrics.tiers(WINDOW, Filter(models=(ODD,), tiers=("bulk",)))
    assert only.tier == "bulk"
    here = {tier.tier: tier for tier in world.metrics.tiers(WINDOW, Filter(pools=(Pool.SPOT,)))}
    assert here["bulk"].offered_per_s == 0.0
    assert here["interactive"].offered_per_s == pytest.approx(RATE, rel=0.02)
    there = Filter(pools=(Pool.ON_DEMAND,))
    found = {tier.tier: tier for tier in world.metrics.tiers(WINDOW, there)}
    assert found["interactive"].offered_per_s == 0.0
    with pytest.raises(NoData):
        world.metrics.tiers(WINDOW, Filter(models=('x",tier=~".*',)))
    with pytest.raises(NoData):
        world.metrics.tiers(WINDOW, Filter(pools=(Pool.UNKNOWN,)))


def test_lines_over_time_have_one_value_for_each_time(world: World) -> None:
    traffic = world.metrics.traffic(WINDOW)
    named = {line.name: line for line in traffic.offered}
    line = named[f"{ODD}/interactive"]
    assert len(line.times_s) == len(line.values) <= 1500
    assert WINDOW.start_s <= line.times_s[0] < line.times_s[-1] <= WINDOW.end_s
    assert all(value == pytest.approx(RATE, rel=0.02) for value in line.values[1:])
    assert {each.name for each in traffic.queue_depth} == set(named)
    for by, names in ((Split.TIER, {"interactive", "bulk"}), (Split.POOL, {"spot", "on-demand"})):
        lines = world.metrics.latency(WINDOW, 0.99, by=by)
        assert {each.name for each in lines} == names


def test_a_long_window_stays_within_the_points(world: World) -> None:
    week = Window(WINDOW.end_s - 7 * 86400, WINDOW.end_s)
    traffic = world.metrics.traffic(week)
    assert len(traffic.offered[0].times_s) <= 1500


def test_the_heat_map_holds_every_answer(world: World) -> None:
    seen = world.metrics.latency_heatmap(WINDOW, Filter(tiers=("interactive",)))
    assert seen.unit == "s"
    assert len(seen.edges) == len(seen.counts) + 1 <= 42
    assert list(seen.edges) == sorted(seen.edges)
    per_s = [sum(column) for column in zip(*seen.counts, strict=True)]
    assert per_s[-1] == pytest.approx(RATE - 1, rel=0.02)
    assert seen.edges[0] <= min(world.latencies_s)
    assert seen.edges[-1] >= max(world.latencies_s)


def test_stages_are_the_means_that_were_measured(world: World) -> None:
    (interactive,) = world.metrics.stages(WINDOW, Filter(tiers=("interactive",)))
    seen = {time.stage: time.mean_s for time in interactive.stages}
    assert seen[Stage.DECODE] == pytest.approx(1e-4, rel=0.01)
    assert seen[Stage.TOKENISE] == pytest.approx(2e-4, rel=0.01)
    assert seen[Stage.SERVICE] == pytest.approx(0.010, rel=0.01)
    assert seen[Stage.ENCODE] == pytest.approx(3e-4, rel=0.01)
    pools = world.metrics.stages(WINDOW, by=Split.POOL)
    assert [each.group for each in pools] == ["on-demand", "spot"]
    assert pools[0].stages[0].mean_s == pytest.approx(1e-4, rel=0.01)


def test_batches_are_those_that_ran(world: World) -> None:
    seen = world.metrics.batches(WINDOW)
    assert seen.mean_rows[0].values[-1] == pytest.approx(2.0)
    assert seen.mean_tokens[0].values[-1] == pytest.approx(200.0)
    assert seen.padding_share[0].values[-1] == pytest.approx(120 / 320)
    assert seen.mean_service_s[0].values[-1] == pytest.approx(0.02, rel=0.01)
    reasons = {line.name: line.values[-1] for line in seen.reasons}
    assert reasons["idle"] == pytest.approx(RATE / 2 + 5, rel=0.02)
    assert seen.model_error[0].values[-1] == 0.02
    (fit,) = seen.fits
    assert fit.coefficients == {"fixed": 0.005, "area": 1e-5}
    assert (fit.packing, fit.batches, fit.error_ratio) == ("padded", 31, 0.02)


def test_utilisation_is_busy_useful_and_measured(world: World) -> None:
    spot = Filter(pools=(Pool.SPOT,))
    seen = world.metrics.utilisation(WINDOW, spot)
    assert seen.busy == pytest.approx(0.2, rel=0.02)
    assert seen.useful == pytest.approx(0.2 * 200 / 320, rel=0.02)
    assert (seen.measured, seen.measured_by) == (0.25, "NVML")
    lines = {line.name: line.values[-1] for line in seen.over_time}
    assert lines == {
        "busy": pytest.approx(0.2, rel=0.02),
        "useful": pytest.approx(0.125, rel=0.02),
        "NVML": 0.25,
    }
    both = world.metrics.utilisation(Window(START_S + 400, WINDOW.end_s))
    assert both.busy == pytest.approx((0.2 + 0.1) / 2, rel=0.05)


def test_replicas_have_a_pool_a_node_and_a_generation(world: World) -> None:
    spot, other = world.metrics.replicas()
    assert (spot.instance, spot.pool, spot.node, spot.generation) == ("a:80", Pool.SPOT, "n1", 8)
    assert (other.pool, other.instance_type, other.up) == (Pool.ON_DEMAND, "g2", True)


def test_an_edit_is_seen_when_its_generation_came_into_force(world: World) -> None:
    (edit,) = world.metrics.edits(WINDOW)
    assert edit.generation == 8
    assert 0 <= edit.time_s - START_S - EDITED_S <= 2 * SCRAPE_S


def test_a_pool_is_paid_for_as_long_as_it_was_there(world: World) -> None:
    uses = {use.pool: use for use in world.metrics.pools(WINDOW)}
    spot, other = uses[Pool.SPOT], uses[Pool.ON_DEMAND]
    assert spot.present_s == pytest.approx(WINDOW.duration_s, rel=0.01)
    assert other.present_s == pytest.approx(560 - SECOND_JOINS_S, abs=SCRAPE_S)
    assert spot.completed == pytest.approx((RATE - 1) * WINDOW.duration_s, rel=0.02)
    assert spot.tier_device_s["interactive"] == pytest.approx(spot.busy_s, rel=0.001)
    assert spot.model_device_s == {ODD: pytest.approx(spot.busy_s, rel=0.001)}
    assert spot.model_completed == {ODD: pytest.approx(spot.completed)}
    assert spot.over_time is not None
    assert set(spot.over_time.values) == {1.0}
    assert spot.padding_share == pytest.approx(120 / 320)
    assert (spot.devices, spot.instance_types) == (1.0, ("g1",))
    assert usd_per_1000(spot, 0.36) == pytest.approx(1000 * 0.05 / 9500, abs=0.005)


def usd_per_1000(use: PoolUse, usd_per_hour: float) -> float:
    return 1000 * usd_per_hour / 3600 * use.present_s / use.completed


def test_prices_are_a_replicas_part_of_its_node(world: World) -> None:
    seen = {price.pool: price for price in world.metrics.prices()}
    assert {pool: price.source for pool, price in seen.items()} == {
        Pool.SPOT: "OpenCost",
        Pool.ON_DEMAND: "Karpenter",
    }
    assert seen[Pool.SPOT].usd_per_hour == pytest.approx(1.2 / 4)
    assert seen[Pool.ON_DEMAND].usd_per_hour == pytest.approx(0.9)


def test_arrivals_are_what_a_preview_replays(world: World) -> None:
    (interactive,) = world.metrics.arrivals(WINDOW, Filter(tiers=("interactive",)))
    assert interactive.requests_per_s == pytest.approx(RATE, rel=0.02)
    assert interactive.rows_per_request == pytest.approx(1.0)
    assert interactive.burstiness == pytest.approx(0.0, abs=0.05)
    assert interactive.mean_tokens == pytest.approx(100.0, rel=0.02)
    (short, few), (long, many) = interactive.lengths
    assert [short, long] == pytest.approx([40, 160], rel=0.1)
    assert few == pytest.approx(many)
    assert interactive.overhead_s == pytest.approx(0.002 + 3e-4, rel=0.1)
    # Rows wait whenever it is scraped, so by Little's law there are always requests.
    mean_s = sum(world.latencies_s) / len(world.latencies_s)
    assert interactive.in_flight == pytest.approx(RATE * mean_s, rel=0.05)
    (bulk,) = world.metrics.arrivals(WINDOW, Filter(tiers=("bulk",)))
    assert bulk.in_flight == 0.0


def test_what_is_refused_unread_was_asked_for_too(tmp_path: Path) -> None:
    """An edge lets a flood through for a moment and refuses it for the next."""
    past, subject = Past(), predictor()
    for elapsed_s in range(121):
        if elapsed_s % 2 == 0:
            past.scraped(subject, START_S + elapsed_s, **SPOT)
        for number in range(50):
            if elapsed_s % 6 < 4 or number < 10:
                subject.observe(EdgeRefused(ODD, "http", Outcome.SHED))
                continue
            subject.observe(Offered(ODD, "interactive", 1, 60, 0.001))
            outcome = Outcome.OK if number % 2 else Outcome.SHED
            subject.observe(Settled(ODD, "interactive", outcome, 1, 0.05))
    prometheus = PrometheusProcess(tmp_path)
    past.write(prometheus.data)
    prometheus.start()
    try:
        metrics = PrometheusMetrics(prometheus.url, lambda: START_S + 119)
        window = Window(START_S, START_S + 119)
        tiers = {tier.tier: tier for tier in metrics.tiers(window)}
        assert tiers["interactive"].offered_per_s == pytest.approx(50.0, rel=0.02)
        assert tiers["interactive"].refused_per_s == pytest.approx(
            50.0 - tiers["interactive"].answered_per_s, rel=0.02
        )
        assert tiers["bulk"].offered_per_s == 0.0
        (bulk,) = metrics.tiers(window, Filter(tiers=("bulk",)))
        assert bulk.refused_per_s == 0.0
        line = named(metrics.traffic(window).offered, f"{ODD}/interactive")
        assert line.values[-1] == pytest.approx(50.0, rel=0.02)
        (arrivals,) = metrics.arrivals(window)
        assert arrivals.requests_per_s == pytest.approx(50.0, rel=0.02)
        assert arrivals.rows_per_request == pytest.approx(1.0)
        assert arrivals.burstiness == pytest.approx(0.0, abs=0.1)
    finally:
        prometheus.stop()


@pytest.mark.parametrize("range_s", [900, 3600, 7 * 86400])
def test_just_after_a_start_a_rate_is_that_since_there_is_data(world: World, range_s: int) -> None:
    end_s = WINDOW.end_s
    window = Window(end_s - range_s, end_s)
    (interactive, bulk) = world.metrics.tiers(window)
    lasted_s = end_s - START_S
    assert interactive.offered_per_s == pytest.approx(RATE, rel=0.02)
    # The second replica has the bulk tier alone, and is part of the whole for a part of it.
    assert bulk.offered_per_s == pytest.approx(10 * (560 - SECOND_JOINS_S) / lasted_s, rel=0.05)
    uses = {use.pool: use for use in world.metrics.pools(window)}
    assert uses[Pool.SPOT].present_s == pytest.approx(lasted_s, abs=SCRAPE_S)
    assert uses[Pool.SPOT].replicas == pytest.approx(1.0, rel=0.02)
    assert uses[Pool.ON_DEMAND].present_s == pytest.approx(560 - SECOND_JOINS_S, abs=SCRAPE_S)
    assert uses[Pool.SPOT].completed == pytest.approx((RATE - 1) * lasted_s, rel=0.02)
    line = named(world.metrics.traffic(window).offered, f"{ODD}/interactive")
    seen = [value for value in line.values if math.isfinite(value)]
    assert seen
    assert all(value == pytest.approx(RATE, rel=0.1) for value in seen)


def named(lines: Sequence[Series], name: str) -> Series:
    return next(line for line in lines if line.name == name)


def test_a_long_window_is_read_from_the_recording_rules(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(world, tmp_path / "rules.yml")
    monkeypatch.setattr(promql, "RECORDED_FROM_S", 300.0)  # there are ten minutes of them
    metrics = PrometheusMetrics(world.prometheus.url, lambda: NOW_S)
    assert Reading(metrics._connection, WINDOW, ALL).recorded
    day = Window(WINDOW.end_s - 86400, WINDOW.end_s)
    spot, other = sorted(metrics.pools(day), key=lambda use: use.tier_completed["bulk"])
    assert spot.completed == pytest.approx((RATE - 1) * 560, rel=0.15)  # but for a step at each end
    assert spot.present_s == pytest.approx(560, abs=120)
    assert other.present_s == pytest.approx(260, abs=120)
    assert spot.busy_s == pytest.approx(0.2 * 560, rel=0.15)
    tiers = metrics.tiers(day, Filter(tiers=("interactive",)))
    assert tiers[0].p99_s == pytest.approx(world.quantile_s(0.99), rel=0.10)
    assert tiers[0].offered_per_s == pytest.approx(RATE, rel=0.15)
    traffic = metrics.traffic(day)
    assert max(filter(math.isfinite, traffic.offered[1].values)) == pytest.approx(RATE, rel=0.15)
    assert 0.1 < metrics.utilisation(day).over_time[0].values[-1] <= 0.16  # the second joins
    assert [edit.generation for edit in metrics.edits(day)] == [8]
    assert {line.name for line in metrics.latency(day, 0.5, by=Split.POOL)} == {
        "spot",
        "on-demand",
    }


def record(world: World, rules: Path) -> None:
    """What the recording rules would have kept, had they been there."""
    rules.write_text(rule_file())
    command = [
        *("promtool", "tsdb", "create-blocks-from", "rules", f"--url={world.prometheus.url}"),
        *(f"--start={START_S:.0f}", f"--end={START_S + LASTS_S:.0f}", "--eval-interval=60s"),
        *(f"--output-dir={world.prometheus.data}", str(rules)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    world.prometheus.stop()
    world.prometheus.start()


def test_nothing_in_the_time_range_is_told(world: World) -> None:
    before = Window(START_S - 7200, START_S - 3600)
    for ask in (
        world.metrics.tiers,
        world.metrics.traffic,
        world.metrics.batches,
        world.metrics.utilisation,
        world.metrics.latency_heatmap,
        world.metrics.stages,
        world.metrics.arrivals,
    ):
        with pytest.raises(NoData):
            ask(before)


def test_a_prometheus_that_is_gone_is_told_in_a_sentence() -> None:
    metrics = PrometheusMetrics("http://127.0.0.1:9")
    with pytest.raises(SourceDown, match="does not answer; start it"):
        metrics.tiers(WINDOW)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (503, "starting or overloaded"),
        (403, "lets this dashboard not in"),
        (422, "refused a query"),
    ],
)
def test_a_prometheus_that_refuses_says_what_to_do(status: int, said: str) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(status)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        metrics = PrometheusMetrics(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SourceDown, match=said):
            metrics.models()


def test_a_replica_that_dies_is_seen_and_rules_are_kept(tmp_path: Path) -> None:
    subject = predictor()
    subject.observe(ParametersInForce(3))
    target = Target(subject)
    labels = {"address": target.address, "pool": "SPOT"}
    prometheus = PrometheusProcess(tmp_path, [labels], rule_file()).start()
    try:
        metrics = PrometheusMetrics(prometheus.url)
        target.wait_for_scrapes(3)
        until(lambda: replicas_up(metrics) == [True])
        (replica,) = metrics.replicas()
        assert (replica.pool, replica.generation) == (Pool.SPOT, 3)
        answered_at_s = metrics.scrapes().newest_s
        target.stop()
        until(lambda: replicas_up(metrics) == [False])
        (replica,) = metrics.replicas()
        assert (replica.generation, replica.silent) == (None, False)
        gone_s = replica.answered_at_s
        assert gone_s is not None
        assert gone_s >= answered_at_s
        until(lambda: metrics.scrapes().newest_s > gone_s)  # it is asked all the same
    finally:
        prometheus.stop()


def replicas_up(metrics: PrometheusMetrics) -> list[bool]:
    try:
        return [replica.up for replica in metrics.replicas()]
    except NoData:
        return []
