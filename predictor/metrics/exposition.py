"""From tallies and a snapshot to what a scraper reads.

Counters and gauges go through prometheus_client as a collector. Histograms are written out
here: a model has about a thousand bucket lines, which cost the library 10 ms of the event
loop and this a tenth of that. The lines are the same in both formats.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from predictor.core.facts import Snapshot
from predictor.metrics import names
from predictor.metrics.devices import DeviceReader, DeviceReading
from predictor.metrics.names import Metric
from predictor.metrics.tallies import Histogram, Tallies

EMPTY_SNAPSHOT = Snapshot(queues=(), service_models=(), overloaded=False)

_Labels = tuple[str, ...]
_END = b"# EOF\n"  # the last line of the OpenMetrics format; text has none


class Exposition:
    """Renders one process: its tallies, and what the callables say at the scrape."""

    def __init__(
        self,
        tallies: Tallies,
        snapshot: Callable[[], Snapshot],
        devices: DeviceReader,
    ) -> None:
        self._tallies = tallies
        self._snapshot = snapshot
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Families(tallies, snapshot, devices))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type: OpenMetrics where `accept` asks for it, else text."""
        encode, content_type = choose_encoder(accept)
        body = encode(self._registry)
        generating = {each.model for each in self._snapshot().generation}
        histograms = "".join(_histogram_texts(self._tallies, generating)).encode()
        if body.endswith(_END):
            return body.removesuffix(_END) + histograms + _END, content_type
        return body + histograms, content_type


class _Families(Collector):
    def __init__(
        self,
        tallies: Tallies,
        snapshot: Callable[[], Snapshot],
        devices: DeviceReader,
    ) -> None:
        self._tallies = tallies
        self._snapshot = snapshot
        self._devices = devices

    def collect(self) -> Iterable[Family]:
        snapshot = self._snapshot()
        yield from _requests(self._tallies)
        yield from _batches(self._tallies)
        yield from _jobs(self._tallies)
        yield from _process(self._tallies)
        yield from _scheduler(self._tallies, snapshot)
        if snapshot.generation:
            yield from _generation(self._tallies, snapshot)
        yield from _device_families(self._devices())


def _requests(tallies: Tallies) -> Iterator[Family]:
    tiers = tallies.tiers
    outcomes = {
        (*labels, outcome.value): counts
        for labels, tally in tiers.items()
        for outcome, counts in tally.outcomes.items()
    }
    yield _counter(names.REQUESTS, {key: counts.requests for key, counts in outcomes.items()})
    yield _counter(names.ROWS, {key: counts.rows for key, counts in outcomes.items()})
    yield _counter(names.GOOD_REQUESTS, {key: t.good_requests for key, t in tiers.items()})
    yield _counter(names.OFFERED_REQUESTS, {key: t.offered_requests for key, t in tiers.items()})
    yield _counter(names.OFFERED_ROWS, {key: t.offered_rows for key, t in tiers.items()})
    yield _counter(names.OFFERED_TOKENS, {key: t.offered_tokens for key, t in tiers.items()})
    yield _counter(names.OFFERED_WORK, {key: t.offered_work_s for key, t in tiers.items()})


def _batches(tallies: Tallies) -> Iterator[Family]:
    models = {(model,): tally for model, tally in tallies.models.items()}
    yield _counter(
        names.BATCHES,
        {
            (*key, reason.value): count
            for key, tally in models.items()
            for reason, count in tally.batches.items()
        },
    )
    tiers = tallies.tiers
    yield _counter(names.TOKENS, {key: t.tokens for key, t in tiers.items()})
    yield _counter(names.TIER_DEVICE, {key: t.device_s for key, t in tiers.items()})
    yield _counter(names.PADDING_TOKENS, {key: t.padding_tokens for key, t in models.items()})
    yield _counter(names.DEVICE_BUSY, {key: t.busy_s for key, t in models.items()})
    yield _counter(names.MEMORY_EXHAUSTED, {key: t.memory_exhausted for key, t in models.items()})


def _jobs(tallies: Tallies) -> Iterator[Family]:
    seen = tallies.jobs
    lines: dict[_Labels, float] = {
        (model, state): count
        for model, jobs in seen.items()
        for state, count in (
            ("waiting", jobs.waiting),
            ("leased", jobs.leased),
            ("parked", jobs.parked),
        )
    }
    yield _gauge(names.JOB_LINES, lines)
    yield _gauge(names.JOBS_STALLED, {(model,): jobs.stalled for model, jobs in seen.items()})
    yield _gauge(names.REPLICAS, {(model,): jobs.replicas for model, jobs in seen.items()})


def _process(tallies: Tallies) -> Iterator[Family]:
    process = tallies.process
    yield _counter(names.PARAMETERS_ACCEPTED, {(): process.parameters_accepted})
    yield _counter(names.PARAMETERS_REFUSED, {(): process.parameters_refused})
    yield _gauge(names.PARAMETERS_GENERATION, {(): process.generation})
    yield _gauge(names.PARAMETERS_LAST_REFUSAL, {(): process.last_refusal_s})
    slos = process.slos.items()
    yield _gauge(names.TIER_SLO, {(tier,): slo.slo_s for tier, slo in slos})
    yield _gauge(names.TIER_ITL_SLO, {(tier,): slo.itl_slo_s for tier, slo in slos})
    yield _counter(names.OBSERVER_ERRORS, {(): process.observer_errors})
    yield _gauge(names.EDGES, {(): process.edges})
    restarts = process.restarts.items()
    yield _counter(names.PROCESS_RESTARTS, {(which,): times for which, times in restarts})


def _scheduler(tallies: Tallies, snapshot: Snapshot) -> Iterator[Family]:
    queues = {(queue.model, queue.tier): queue for queue in snapshot.queues}
    # An autoscaler cannot tell a missing series from a dead replica: idle queues are 0.
    idle: dict[_Labels, float] = dict.fromkeys(tallies.tiers, 0.0)
    yield _gauge(names.QUEUE_DEPTH, idle | {key: q.depth for key, q in queues.items()})
    yield _gauge(names.QUEUE_TOKENS, idle | {key: q.tokens for key, q in queues.items()})
    yield _gauge(names.BACKLOG, idle | {key: q.backlog_s for key, q in queues.items()})
    loads = idle | {key: queue.offered_load for key, queue in queues.items()}
    yield _gauge(names.OFFERED_LOAD, loads)
    yield _gauge(names.OVERLOADED, {(): float(snapshot.overloaded)})
    learned = {(model.model, model.packing): model for model in snapshot.service_models}
    yield _gauge(
        names.SERVICE_MODEL_COEFFICIENT,
        {
            (*key, feature): coefficient
            for key, model in learned.items()
            for feature, coefficient in model.coefficients.items()
        },
    )
    yield _gauge(names.SERVICE_MODEL_ERROR, {key: m.error_ratio for key, m in learned.items()})
    yield _gauge(names.SERVICE_MODEL_BATCHES, {key: m.batches for key, m in learned.items()})


def _generation(tallies: Tallies, snapshot: Snapshot) -> Iterator[Family]:
    """Of models that generate; others have none of it."""
    held = snapshot.generation
    models = {each.model for each in held}
    tiers = {key: tally for key, tally in tallies.tiers.items() if key[0] in models}
    yield _counter(names.PROMPT_TOKENS, {key: t.prompt_tokens for key, t in tiers.items()})
    yield _counter(names.CACHED_TOKENS, {key: t.cached_tokens for key, t in tiers.items()})
    yield _counter(names.OUTPUT_TOKENS, {key: t.output_tokens for key, t in tiers.items()})
    steps: dict[_Labels, float] = {}
    for model in models & tallies.models.keys():
        steps[model, "decode"] = tallies.models[model].decode_tokens
        steps[model, "prefill"] = tallies.models[model].prefill_tokens
    yield _counter(names.STEP_TOKENS, steps)
    yield _counter(names.RECOMPUTED_TOKENS, {(e.model,): e.recomputed_tokens for e in held})
    pages: dict[_Labels, float] = {}
    for each in held:
        pages[each.model, "used"] = each.pages_used
        pages[each.model, "cached"] = each.pages_cached
        pages[each.model, "free"] = each.pages_free
    yield _gauge(names.KV_PAGES, pages)
    running: dict[_Labels, float] = dict.fromkeys(tiers, 0.0)
    running |= {(e.model, tier): rows for e in held for tier, rows in e.running.items()}
    yield _gauge(names.ROWS_RUNNING, running)


def _device_families(readings: Sequence[DeviceReading]) -> Iterator[Family]:
    for metric, values in (
        (names.DEVICE_UTILISATION, {(r.device,): r.utilisation for r in readings}),
        (names.DEVICE_MEMORY_USED, {(r.device,): r.memory_used_bytes for r in readings}),
        (names.DEVICE_MEMORY_TOTAL, {(r.device,): r.memory_total_bytes for r in readings}),
        (names.DEVICE_POWER, {(r.device,): r.power_watts for r in readings}),
    ):
        known: dict[_Labels, float] = {k: v for k, v in values.items() if v is not None}
        if known:
            yield _gauge(metric, known)


def _counter(metric: Metric, values: Mapping[_Labels, float]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _gauge(metric: Metric, values: Mapping[_Labels, float]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram_texts(tallies: Tallies, generating: set[str]) -> Iterator[str]:
    """`generating`: models; others have nothing of tokens."""
    tiers = tallies.tiers
    models = {(model,): tally for model, tally in tallies.models.items()}
    stages: dict[_Labels, Histogram] = {
        (*key, stage): histogram
        for key, tally in tallies.edges.items()
        for stage, histogram in tally.stages()
    }
    yield _histogram_text(names.ROW_TOKENS, {key: t.row_tokens for key, t in tiers.items()})
    yield _histogram_text(names.LATENCY, {key: t.latency for key, t in tiers.items()})
    yield _histogram_text(names.QUEUE_WAIT, {key: t.queue_wait for key, t in tiers.items()})
    yield _histogram_text(names.SERVICE_TIME, {key: t.service_time for key, t in tiers.items()})
    if generating:
        # From the start: a rate does not see what a series has when it first comes.
        spoken = {key: tally for key, tally in tiers.items() if key[0] in generating}
        yield _histogram_text(names.FIRST_TOKEN, {key: t.first_token for key, t in spoken.items()})
        yield _histogram_text(names.INTER_TOKEN, {key: t.inter_token for key, t in spoken.items()})
    yield _histogram_text(names.EDGE_STAGE, stages)
    yield _histogram_text(names.BATCH_ROWS, {key: t.batch_rows for key, t in models.items()})
    yield _histogram_text(names.BATCH_TOKENS, {key: t.batch_tokens for key, t in models.items()})
    yield _histogram_text(names.IDLE_GAP, {(): tallies.process.idle_gap})


def _histogram_text(metric: Metric, histograms: Mapping[_Labels, Histogram]) -> str:
    name = metric.name
    lines = [f"# HELP {name} {metric.help}\n# TYPE {name} histogram\n"]
    bounds = _bound_texts(metric.buckets)
    for values, histogram in histograms.items():
        labelled = zip(metric.labels, values, strict=True)
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in labelled)
        start = f"{name}_bucket{{{labels}{',' if labels else ''}le="
        totals = list(accumulate(histogram.counts))
        lines += [
            f"{start}{bound}}} {total}\n" for bound, total in zip(bounds, totals, strict=True)
        ]
        lines.append(f"{name}_count{{{labels}}} {totals[-1]}\n")
        lines.append(f"{name}_sum{{{labels}}} {histogram.sum!r}\n")
    return "".join(lines)


@cache
def _bound_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(f'"{bound!r}"' for bound in bounds), '"+Inf"')


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
