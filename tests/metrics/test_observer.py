"""What is counted, and what a scraper reads."""

import math
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import parser as text_parser
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser

from predictor.core.facts import (
    Completed,
    Dispatched,
    EdgeRefused,
    EdgeTimed,
    Fact,
    FirstToken,
    GenerationSnapshot,
    JobsSeen,
    MemoryExhausted,
    Offered,
    ParametersInForce,
    ParametersRejected,
    QueueSnapshot,
    ServiceModelSnapshot,
    Settled,
    Snapshot,
    TokensCame,
)
from predictor.core.parameters import TierParameters
from predictor.core.rows import Batch, DispatchReason, Outcome, Packing, Row
from predictor.metrics import names
from predictor.metrics.devices import DeviceReading, nvml_reader
from predictor.metrics.observer import MAX_TIERS_COUNTED, PrometheusObserver
from predictor.policy.service_time import Work

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MODELS = ("topics", "embed")
TIERS = {
    "interactive": TierParameters(priority=1, slo_ms=200, itl_slo_ms=50),
    "bulk": TierParameters(priority=2),
}
IDLE = Snapshot(queues=(), service_models=(), overloaded=False)
NOW_S = 1_700_000_000.0

PARSERS: dict[str, Callable[[str], Iterable[Family]]] = {
    TEXT: text_parser.text_string_to_metric_families,
    OPENMETRICS: openmetrics_parser.text_string_to_metric_families,
}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def observer(
    snapshot: Snapshot = IDLE,
    models: Sequence[str] = MODELS,
    tiers: Callable[[], Mapping[str, TierParameters]] = lambda: TIERS,
    devices: Sequence[DeviceReading] = (),
) -> PrometheusObserver:
    return PrometheusObserver(
        lambda: snapshot, models, tiers, read_devices=lambda: devices, clock=lambda: NOW_S
    )


def scrape(observer: PrometheusObserver, accept: str = TEXT) -> Samples:
    """All samples, as the client library of Prometheus reads them."""
    body, content_type = observer.exposition(accept)
    assert content_type.startswith(accept.partition(";")[0])
    parse = PARSERS[accept]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def ours(samples: Samples) -> Samples:
    """Without those of the process, which move between two scrapes."""
    return {key: value for key, value in samples.items() if key[0].startswith("headway_")}


def value(samples: Samples, metric: names.Metric | str, **labels: str) -> float:
    name = metric if isinstance(metric, str) else metric.name
    return samples[name, frozenset(labels.items())]


def total(samples: Samples, metric: names.Metric) -> float:
    return sum(amount for (name, _), amount in samples.items() if name == metric.name)


def batch(
    *lengths: int, model: str = "topics", packing: Packing = Packing.PADDED, predicted_s: float = 0
) -> Batch:
    rows = [Row(model, "interactive", tokens, 0.0) for tokens in lengths]
    computed = Work.of(rows).computed(packing)
    return Batch(model, rows, packing, DispatchReason.FULL, predicted_s, computed)


def settled(outcome: Outcome, tier: str = "interactive", rows: int = 1) -> Settled:
    return Settled(
        model="topics",
        tier=tier,
        outcome=outcome,
        rows=rows,
        latency_s=0.020,
        queue_s=0.012,
        service_s=0.008,
        deadline_met=outcome is Outcome.OK,
    )


BUSY = Snapshot(
    queues=[
        QueueSnapshot("topics", "bulk", depth=12, tokens=900, backlog_s=0.5, offered_load=1.25)
    ],
    service_models=[
        ServiceModelSnapshot("topics", "padded", {"fixed": 0.005, "area": 1e-5}, 0.02, 31)
    ],
    overloaded=True,
)
ONE_OF_EACH: tuple[Fact, ...] = (
    Offered("topics", "bulk", rows=2, tokens=70, work_s=0.25),
    Dispatched(batch(10, 30), now_s=1.0),
    Completed(batch(10, 30), started_s=1.0, finished_s=1.5),
    settled(Outcome.OK),
    EdgeTimed("topics", "grpc", decode_s=0.001, tokenise_s=0.002, encode_s=0.003),
    ParametersInForce(generation=7),
    ParametersRejected("tiers: at least one tier is needed"),
    MemoryExhausted("topics", rows=64, tokens=4096),
)


def busy_observer() -> PrometheusObserver:
    subject = observer(snapshot=BUSY, devices=[DeviceReading("0", 0.5, 1 << 30, 1 << 37)])
    for fact in ONE_OF_EACH:
        subject.observe(fact)
    return subject


# what exists


def test_all_series_of_models_and_tiers_exist_at_zero() -> None:
    samples = scrape(observer())
    for metric in (
        names.GOOD_REQUESTS,
        names.OFFERED_REQUESTS,
        names.OFFERED_ROWS,
        names.OFFERED_TOKENS,
        names.OFFERED_WORK,
        names.QUEUE_DEPTH,
        names.QUEUE_TOKENS,
        names.BACKLOG,
        names.OFFERED_LOAD,
        names.TOKENS,
        names.TIER_DEVICE,
        f"{names.LATENCY.name}_count",
        f"{names.QUEUE_WAIT.name}_count",
        f"{names.SERVICE_TIME.name}_sum",
    ):
        for model in MODELS:
            for tier in TIERS:
                assert value(samples, metric, model=model, tier=tier) == 0
    for model in MODELS:
        for tier in TIERS:
            for outcome in Outcome:
                labels = {"model": model, "tier": tier, "outcome": outcome.value}
                assert value(samples, names.REQUESTS, **labels) == 0
                assert value(samples, names.ROWS, **labels) == 0
        for reason in DispatchReason:
            assert value(samples, names.BATCHES, model=model, reason=reason.value) == 0
        for metric in (
            names.PADDING_TOKENS,
            names.DEVICE_BUSY,
            names.MEMORY_EXHAUSTED,
            f"{names.BATCH_ROWS.name}_count",
            f"{names.BATCH_TOKENS.name}_count",
        ):
            assert value(samples, metric, model=model) == 0
    for metric in (
        names.OVERLOADED,
        names.PARAMETERS_ACCEPTED,
        names.PARAMETERS_REFUSED,
        names.PARAMETERS_GENERATION,
        names.PARAMETERS_LAST_REFUSAL,
        f"{names.IDLE_GAP.name}_count",
    ):
        assert value(samples, metric) == 0


def test_process_metrics_are_there() -> None:
    samples = scrape(observer())
    assert value(samples, "process_resident_memory_bytes") > 0
    assert "python_info" in {name for name, _ in samples}


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "application/openmetrics-text;q=x"])
def test_any_accept_header_is_answered(accept: str) -> None:
    body, content_type = observer().exposition(accept)
    assert body
    assert content_type


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not here"
)
def test_promtool_finds_no_fault() -> None:
    subject = busy_observer()
    checked = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607
        input=subject.exposition(TEXT)[0],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr.decode()


@pytest.mark.parametrize("subject", [observer, busy_observer], ids=["idle", "busy"])
def test_both_formats_say_the_same(subject: Callable[[], PrometheusObserver]) -> None:
    watched = subject()
    text = ours(scrape(watched, TEXT))
    assert text == ours(scrape(watched, OPENMETRICS))
    assert len(text) > 1000


# what is counted


def test_an_answered_request() -> None:
    subject = observer()
    subject.observe(settled(Outcome.OK, rows=3))
    samples = scrape(subject)
    labels = {"model": "topics", "tier": "interactive"}
    assert value(samples, names.REQUESTS, **labels, outcome="ok") == 1
    assert value(samples, names.ROWS, **labels, outcome="ok") == 3
    assert value(samples, names.GOOD_REQUESTS, **labels) == 1
    assert value(samples, f"{names.LATENCY.name}_count", **labels) == 1
    assert value(samples, f"{names.LATENCY.name}_sum", **labels) == 0.020
    assert value(samples, f"{names.QUEUE_WAIT.name}_sum", **labels) == 0.012
    assert value(samples, f"{names.SERVICE_TIME.name}_sum", **labels) == 0.008


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.builds(
            settled, st.sampled_from(Outcome), st.sampled_from(list(TIERS)), st.integers(1, 100)
        ),
        max_size=60,
    )
)
def test_requests_and_rows_add_up(facts: list[Settled]) -> None:
    subject = observer(models=["topics"])
    for fact in facts:
        subject.observe(fact)
    samples = scrape(subject)
    answered = sum(fact.outcome is Outcome.OK for fact in facts)
    assert total(samples, names.REQUESTS) == len(facts)
    assert total(samples, names.ROWS) == sum(fact.rows for fact in facts)
    assert total(samples, names.GOOD_REQUESTS) == answered
    for tier in TIERS:
        for outcome in Outcome:
            expected = sum(fact.tier == tier and fact.outcome is outcome for fact in facts)
            labels = {"model": "topics", "tier": tier, "outcome": outcome.value}
            assert value(samples, names.REQUESTS, **labels) == expected
    # Only answers have a latency: refusals in no time at all would flatter it.
    counted = sum(
        value(samples, f"{names.LATENCY.name}_count", model="topics", tier=tier) for tier in TIERS
    )
    assert counted == answered


def test_offered_work_counts_whether_admitted_or_not() -> None:
    subject = observer()
    for _ in range(2):
        subject.observe(Offered("topics", "bulk", rows=2, tokens=70, work_s=0.25))
    samples = scrape(subject)
    labels = {"model": "topics", "tier": "bulk"}
    assert value(samples, names.OFFERED_REQUESTS, **labels) == 2
    assert value(samples, names.OFFERED_ROWS, **labels) == 4
    assert value(samples, names.OFFERED_TOKENS, **labels) == 140
    assert value(samples, names.OFFERED_WORK, **labels) == 0.5
    lengths = names.ROW_TOKENS.name
    assert value(samples, f"{lengths}_count", **labels) == 4
    assert value(samples, f"{lengths}_sum", **labels) == 140


def test_batches_and_the_device() -> None:
    subject = observer()
    for started_s, packing in ((10.0, Packing.PADDED), (10.75, Packing.PACKED)):
        ran = batch(10, 30, packing=packing)
        subject.observe(Dispatched(ran, now_s=started_s))
        subject.observe(Completed(ran, started_s=started_s, finished_s=started_s + 0.5))
    samples = scrape(subject)
    assert value(samples, names.BATCHES, model="topics", reason="full") == 2
    tier = {"model": "topics", "tier": "interactive"}
    assert value(samples, names.TOKENS, **tier) == 80
    assert value(samples, names.TIER_DEVICE, **tier) == 1.0
    assert value(samples, names.PADDING_TOKENS, model="topics") == 20
    assert value(samples, names.DEVICE_BUSY, model="topics") == 1.0
    assert value(samples, f"{names.BATCH_ROWS.name}_sum", model="topics") == 4
    assert value(samples, f"{names.BATCH_ROWS.name}_bucket", model="topics", le="2.0") == 2
    assert value(samples, f"{names.BATCH_TOKENS.name}_sum", model="topics") == 80
    assert value(samples, f"{names.IDLE_GAP.name}_count") == 1
    assert value(samples, f"{names.IDLE_GAP.name}_sum") == 0.25


def test_edge_stages() -> None:
    subject = observer()
    subject.observe(EdgeTimed("topics", "http", decode_s=0.001, tokenise_s=0.002, encode_s=0.003))
    samples = scrape(subject)
    for stage, seconds in (("decode", 0.001), ("tokenise", 0.002), ("encode", 0.003)):
        labels = {"model": "topics", "protocol": "http", "stage": stage}
        assert value(samples, f"{names.EDGE_STAGE.name}_sum", **labels) == seconds


def test_tokens_are_there_from_the_start_where_a_model_generates() -> None:
    held = GenerationSnapshot("topics", 3, 1, 6, {"bulk": 2}, recomputed_tokens=5)
    subject = observer(snapshot=msgspec.structs.replace(IDLE, generation=[held]))
    subject.observe(Offered("topics", "bulk", 1, 7, 0.001))
    subject.observe(Offered("embed", "bulk", 1, 7, 0.001))
    both = (names.FIRST_TOKEN, names.INTER_TOKEN)
    before = scrape(subject)
    bulk = {"model": "topics", "tier": "bulk"}
    # A rate sees what is added to a series, not what it comes with.
    assert [value(before, f"{each.name}_count", **bulk) for each in both] == [0, 0]
    subject.observe(TokensCame("topics", [FirstToken("bulk", 0.25, 7, 4)], {}))
    subject.observe(TokensCame("topics", [], {("bulk", 0.5): 2}))
    samples = scrape(subject)
    assert [value(samples, f"{each.name}_sum", **bulk) for each in both] == [0.25, 1.0]
    assert [value(samples, f"{each.name}_count", **bulk) for each in both] == [1, 2]
    assert value(samples, names.PROMPT_TOKENS, **bulk) == 7
    assert value(samples, names.CACHED_TOKENS, **bulk) == 4
    assert value(samples, names.OUTPUT_TOKENS, **bulk) == 3
    assert value(samples, names.ROWS_RUNNING, **bulk) == 2
    assert value(samples, names.KV_PAGES, model="topics", state="free") == 6
    assert value(samples, names.RECOMPUTED_TOKENS, model="topics") == 5
    assert not [each for each in samples if "token_latency" in str(each) and "embed" in str(each)]


def test_models_that_do_not_generate_say_nothing_of_tokens() -> None:
    subject = observer()
    subject.observe(Offered("topics", "bulk", 1, 7, 0.001))
    body, _ = subject.exposition("")
    assert names.OFFERED_REQUESTS.name in body.decode()
    for metric in (names.FIRST_TOKEN, names.INTER_TOKEN, names.OUTPUT_TOKENS, names.KV_PAGES):
        assert metric.name not in body.decode()


def test_parameters_and_memory() -> None:
    subject = observer()
    subject.observe(ParametersInForce(generation=7))
    subject.observe(ParametersRejected("tiers: at least one tier is needed"))
    subject.observe(MemoryExhausted("topics", rows=64, tokens=4096))
    samples = scrape(subject)
    assert value(samples, names.PARAMETERS_ACCEPTED) == 1
    assert value(samples, names.PARAMETERS_GENERATION) == 7
    assert value(samples, names.PARAMETERS_REFUSED) == 1
    assert value(samples, names.PARAMETERS_LAST_REFUSAL) == NOW_S
    assert value(samples, names.MEMORY_EXHAUSTED, model="topics") == 1


# gauges


def test_jobs_are_what_was_told_last() -> None:
    subject = observer()
    for waiting in (900, 400):
        subject.observe(JobsSeen("topics", waiting, leased=64, parked=2, replicas=3))
    subject.observe(JobsSeen("nobody", 1, 1, 1, 1))
    samples = scrape(subject)
    states = {"waiting": 400, "leased": 64, "parked": 2}
    for state, lines in states.items():
        assert value(samples, names.JOB_LINES, model="topics", state=state) == lines
        assert value(samples, names.JOB_LINES, model="embed", state=state) == 0
    assert value(samples, names.REPLICAS, model="topics") == 3
    assert value(samples, names.REPLICAS, model="embed") == 1
    assert total(samples, names.JOB_LINES) == sum(states.values())


def test_gauges_tell_the_scheduler_at_the_scrape() -> None:
    samples = scrape(observer(snapshot=BUSY))
    labels = {"model": "topics", "tier": "bulk"}
    assert value(samples, names.QUEUE_DEPTH, **labels) == 12
    assert value(samples, names.QUEUE_TOKENS, **labels) == 900
    assert value(samples, names.BACKLOG, **labels) == 0.5
    assert value(samples, names.QUEUE_DEPTH, model="topics", tier="interactive") == 0
    assert value(samples, names.OFFERED_LOAD, **labels) == 1.25
    assert value(samples, names.OFFERED_LOAD, model="embed", tier="bulk") == 0
    assert value(samples, names.OVERLOADED) == 1
    learned = {"model": "topics", "packing": "padded"}
    assert value(samples, names.SERVICE_MODEL_COEFFICIENT, **learned, feature="area") == 1e-5
    assert value(samples, names.SERVICE_MODEL_ERROR, **learned) == 0.02
    assert value(samples, names.SERVICE_MODEL_BATCHES, **learned) == 31


def test_slos_are_those_in_force_at_the_scrape() -> None:
    in_force = dict(TIERS)
    subject = observer(tiers=lambda: in_force)
    samples = scrape(subject)
    assert value(samples, names.TIER_SLO, tier="interactive") == 0.2
    assert value(samples, names.TIER_ITL_SLO, tier="interactive") == 0.05
    assert value(samples, names.TIER_SLO, tier="bulk") == math.inf
    assert value(samples, names.TIER_ITL_SLO, tier="bulk") == math.inf
    del in_force["bulk"]
    in_force["interactive"] = TierParameters(priority=1, slo_ms=150)
    samples = scrape(subject)
    assert value(samples, names.TIER_SLO, tier="interactive") == 0.15
    assert (names.TIER_SLO.name, frozenset({("tier", "bulk")})) not in samples


def test_devices_tell_what_they_can() -> None:
    readings = [DeviceReading("0", 0.75, 10, 100, 310.5), DeviceReading("1", None, 20, 100)]
    samples = scrape(observer(devices=readings))
    assert value(samples, names.DEVICE_UTILISATION, device="0") == 0.75
    assert value(samples, names.DEVICE_MEMORY_USED, device="1") == 20
    assert value(samples, names.DEVICE_MEMORY_TOTAL, device="1") == 100
    assert value(samples, names.DEVICE_POWER, device="0") == 310.5
    assert (names.DEVICE_UTILISATION.name, frozenset({("device", "1")})) not in samples


def test_nvml_is_asked_without_an_error_where_there_is_none() -> None:
    subject = PrometheusObserver(lambda: IDLE, MODELS, lambda: TIERS)
    readings = list(nvml_reader()())
    exported = {name for name, _ in scrape(subject)}
    assert (names.DEVICE_MEMORY_TOTAL.name in exported) == bool(readings)


# labels


def test_unknown_names_share_one_label() -> None:
    subject = observer()
    for i in range(100):
        subject.observe(Settled(f"model{i}", "interactive", Outcome.INVALID, 1, 0.0))
        subject.observe(Settled("topics", f"tier{i}", Outcome.INVALID, 1, 0.0))
        subject.observe(MemoryExhausted(f"model{i}", 1, 1))
        subject.observe(EdgeTimed(f"model{i}", f"protocol{i}", 0.0, 0.0, 0.0))
    samples = scrape(subject)
    labels = [dict(pairs) for _, pairs in samples]
    assert {own["model"] for own in labels if "model" in own} == {*MODELS, "unknown"}
    assert {own["tier"] for own in labels if "tier" in own} == {*TIERS, "unknown"}
    assert {own["protocol"] for own in labels if "protocol" in own} == {"unknown"}
    assert total(samples, names.REQUESTS) == 200


def test_what_an_edge_refuses_is_a_request_of_no_tier() -> None:
    subject = observer()
    for model in ("topics", "model1", "model2"):
        subject.observe(EdgeRefused(model, "http", Outcome.INVALID))
    samples = scrape(subject)
    for model in ("topics", "unknown"):
        labels = {"model": model, "tier": "unknown"}
        expected = 1 if model == "topics" else 2
        assert value(samples, names.REQUESTS, outcome="invalid", **labels) == expected
        assert value(samples, names.OFFERED_REQUESTS, **labels) == 0


def test_a_new_tier_is_counted_under_its_name_and_an_old_one_stays() -> None:
    in_force = {"interactive": TIERS["interactive"]}
    subject = observer(tiers=lambda: in_force)
    subject.observe(settled(Outcome.OK))
    in_force["batch"] = in_force.pop("interactive")
    subject.observe(settled(Outcome.OK, tier="batch"))
    samples = scrape(subject)
    for tier in ("interactive", "batch"):
        assert value(samples, names.REQUESTS, model="topics", tier=tier, outcome="ok") == 1


def test_a_tier_is_known_to_scrapes_before_its_first_request() -> None:
    in_force = {"interactive": TIERS["interactive"]}
    subject = observer(tiers=lambda: in_force)
    in_force["batch"] = TIERS["bulk"]
    assert value(scrape(subject), names.QUEUE_DEPTH, model="topics", tier="batch") == 0


def test_tiers_have_a_limit() -> None:
    subject = observer(
        models=["topics"],
        tiers=lambda: {f"tier{i}": TIERS["bulk"] for i in range(10 * MAX_TIERS_COUNTED)},
    )
    subject.observe(settled(Outcome.OK, tier=f"tier{5 * MAX_TIERS_COUNTED}"))
    samples = scrape(subject)
    tiers = {dict(labels)["tier"] for name, labels in samples if name == names.REQUESTS.name}
    assert len(tiers) == MAX_TIERS_COUNTED + 1
    assert value(samples, names.REQUESTS, model="topics", tier="unknown", outcome="ok") == 1


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_any_name_can_be_a_label(model: str, tier: str) -> None:
    subject = observer(models=[model], tiers=lambda: {tier: TIERS["bulk"]})
    text, _ = subject.exposition(TEXT)
    families = text_parser.text_string_to_metric_families(text.decode())
    found = {
        (sample.labels["model"], sample.labels["tier"])
        for family in families
        if family.name == names.LATENCY.name
        for sample in family.samples
    }
    assert found == {(model, tier)}


# bad luck


def test_the_observer_never_raises() -> None:
    def broken() -> Snapshot:
        raise RuntimeError("no scheduler")

    subject = PrometheusObserver(broken, MODELS, lambda: TIERS, read_devices=list)
    for fact in ONE_OF_EACH:
        subject.observe(fact)
    subject.observe(Settled("topics", "bulk", "no outcome", 1, 0.0))  # type: ignore[arg-type]
    subject.observe(Settled("topics", "bulk", Outcome.OK, 1, math.nan, -1.0, math.inf))
    samples = scrape(subject)
    assert value(samples, names.OBSERVER_ERRORS) == 2
    assert value(samples, names.QUEUE_DEPTH, model="topics", tier="bulk") == 0
    assert total(samples, names.REQUESTS) == 2
