"""PromQL, and the only place of the dashboard that knows metric names.

A counter is read as a rate summed over replicas, by what is asked. Where Prometheus keeps the
recording rules of `rules.py`, the same rate can be read from them: the sum over replicas is
then taken already, which is what makes a week of a hundred replicas readable.

The pool of a replica comes from the target's label `pool` or `capacity_type`, in whatever
spelling the platform has; `POOL` is that label in one spelling.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboard.ports import Filter, Pool, Window

POOL = "headway_pool"
UNKNOWN = "unknown"  # the label of requests that name no served model or tier
MAX_POINTS = 1500  # of any range query
PLOT_POINTS = 300
HEATMAP_POINTS = 120
STEPS_APART = 30  # a plot ends at most this part of a step, or a scrape, before the window does
SCRAPES_PER_RATE = 4  # a rate over fewer loses points when a scrape is late
RECORDED_EVERY_S = 60
RECORDED_FROM_S = 3600.0  # shorter windows are read as scraped, finer

_SPOT, _ON_DEMAND = "(?i).*spot.*", "(?i).*(demand|reserved).*"
_POOLS = {Pool.SPOT: _SPOT, Pool.ON_DEMAND: _ON_DEMAND}


@dataclass(frozen=True, slots=True)
class Counter:
    """Which labels of it mean something beside those that say whose it is.

    `matchers` take a part of it, which the recording rules keep as `part`. `any_model`: where all
    models are asked for, those that no replica serves are among them.
    """

    name: str
    labels: tuple[str, ...]
    matchers: tuple[str, ...] = ()
    part: str = ""
    any_model: bool = False

    @property
    def recorded_as(self) -> str:
        return f"headway:{self.part or self.name.removeprefix('headway_')}:rate1m"


_TIER = ("model", "tier")
OFFERED = Counter("headway_offered_requests_total", _TIER)
OFFERED_ROWS = Counter("headway_offered_rows_total", _TIER)
OFFERED_TOKENS = Counter("headway_offered_tokens_total", _TIER)
REQUESTS = Counter("headway_requests_total", (*_TIER, "outcome"))
# What edges refused unread, of whatever tier: the engine had just shed its like.
UNREAD = Counter(
    REQUESTS.name, ("model",), (f'tier="{UNKNOWN}"', 'outcome="shed"'), "unread_requests_total"
)
# What they failed before its tier was known, of whatever model was asked for.
LOST = Counter(
    REQUESTS.name,
    ("model", "outcome"),
    (f'tier="{UNKNOWN}"', 'outcome=~"expired|failed|unavailable"'),
    "lost_requests_total",
    any_model=True,
)
GOOD = Counter("headway_good_requests_total", _TIER)
TOKENS = Counter("headway_tokens_total", _TIER)
TIER_DEVICE = Counter("headway_tier_device_seconds_total", _TIER)
PADDING = Counter("headway_padding_tokens_total", ("model",))
BUSY = Counter("headway_device_busy_seconds_total", ("model",))
BATCHES = Counter("headway_batches_total", ("model", "reason"))
LATENCY = "headway_request_latency_seconds"
TO_FIRST = "headway_time_to_first_token_seconds"
BETWEEN = "headway_inter_token_latency_seconds"
QUEUE_WAIT = "headway_queue_wait_seconds"
SERVICE_TIME = "headway_service_time_seconds"
EDGE_STAGE = "headway_edge_stage_seconds"
ROW_TOKENS = "headway_row_tokens"
BATCH_ROWS = "headway_batch_rows"
BATCH_TOKENS = "headway_batch_tokens"
_HISTOGRAMS = {
    **dict.fromkeys((LATENCY, QUEUE_WAIT, SERVICE_TIME, ROW_TOKENS), _TIER),
    **dict.fromkeys((TO_FIRST, BETWEEN), _TIER),
    EDGE_STAGE: ("model", "stage"),
    **dict.fromkeys((BATCH_ROWS, BATCH_TOKENS), ("model",)),
}
QUEUE_DEPTH = "headway_queue_depth"
BACKLOG = "headway_backlog_seconds"
OFFERED_LOAD = "headway_offered_load_ratio"
COEFFICIENT = "headway_service_model_coefficient"
MODEL_ERROR = "headway_service_model_error_ratio"
MODEL_BATCHES = "headway_service_model_batches"
NVML_UTILISATION = "headway_device_utilisation_ratio"
DCGM_UTILISATION = "DCGM_FI_DEV_GPU_UTIL"
GENERATION = "headway_parameters_generation"
TIER_SLO = "headway_tier_slo_seconds"
TIER_ITL_SLO = "headway_tier_inter_token_slo_seconds"
LAST_REFUSAL = "headway_parameters_last_refusal_timestamp_seconds"
ENGINES = "headway_overloaded"  # a gauge that each engine has once
ENGINE = ("job", "instance", "engine")  # the labels that tell one from the next
DEVICES_RECORDED = "headway:devices:count"
TARGETS_RECORDED = "headway:targets:count"
DEPTH_RECORDED = "headway:queue_depth:sum"
GENERATION_RECORDED = "headway:parameters_generation:max"
NODE_COST = "node_total_hourly_cost"
NODE_GPUS = "node_gpu_count"
OFFERING_PRICE = "karpenter_cloudprovider_instance_type_offering_price_estimate"


def bucket(histogram: str) -> Counter:
    return Counter(f"{histogram}_bucket", (*_HISTOGRAMS[histogram], "le"))


def total(histogram: str) -> Counter:
    return Counter(f"{histogram}_sum", _HISTOGRAMS[histogram])


def count(histogram: str) -> Counter:
    return Counter(f"{histogram}_count", _HISTOGRAMS[histogram])


def recorded_counters() -> Iterator[Counter]:
    """All that pages read over a long time."""
    yield from (OFFERED, OFFERED_ROWS, OFFERED_TOKENS, REQUESTS, UNREAD, LOST, GOOD, TOKENS)
    yield from (TIER_DEVICE, PADDING, BUSY, BATCHES)
    for histogram in _HISTOGRAMS:
        yield from (bucket(histogram), total(histogram), count(histogram))


def quoted(value: str) -> str:
    """A string literal of PromQL."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def one_of(label: str, values: Sequence[str]) -> str:
    """A matcher that takes exactly these values, whatever characters they have."""
    if len(values) == 1:
        return f"{label}={quoted(values[0])}"
    return f"{label}=~{quoted('|'.join(_literal(value) for value in values))}"


def _literal(value: str) -> str:
    """RE2 takes a backslash before any punctuation; re.escape would put one before spaces."""
    return "".join(f"\\{char}" if char in r"\.+*?()|[]{}^$" else char for char in value)


def selectors(
    name: str,
    where: Filter,
    labels: Sequence[str] = (),
    *more: str,
    any_model: bool = False,
) -> list[str]:
    """One selector for each pool label that may say what is asked: their union is meant.

    `labels` are those that the metric has; parts of the filter that it cannot follow are left
    out. `more` are further matchers.
    """
    matchers = list(more)
    if "model" in labels and (where.models or not any_model):
        matchers.append(one_of("model", where.models) if where.models else 'model!="unknown"')
    if "tier" in labels:
        matchers.append(one_of("tier", where.tiers) if where.tiers else 'tier!="unknown"')
    if not where.pools or set(where.pools) == set(Pool):
        return [_selector(name, matchers)]
    return [_selector(name, matchers + own) for pool in where.pools for own in _of_pool(pool)]


def _of_pool(pool: Pool) -> list[list[str]]:
    """Matchers, each list a way to belong to the pool."""
    if pool is Pool.UNKNOWN:
        known = quoted(f"{_SPOT}|{_ON_DEMAND}")
        return [[f"pool!~{known}", f"capacity_type!~{known}"]]
    pattern = quoted(_POOLS[pool])
    return [[f"pool=~{pattern}"], [f"capacity_type=~{pattern}"]]


def _selector(name: str, matchers: Sequence[str]) -> str:
    return f"{name}{{{','.join(matchers)}}}"


def pooled(vector: str) -> str:
    """The vector with the pool of each series in the label `POOL`, in one spelling."""
    joined = f'label_join({vector}, "{POOL}", "", "pool", "capacity_type")'
    for pool, pattern in _POOLS.items():
        joined = f'label_replace({joined}, "{POOL}", "{pool}", "{POOL}", {quoted(pattern)})'
    return joined


def rate(
    counter: Counter,
    by: Sequence[str],
    where: Filter,
    range_s: float,
    *more: str,
    recorded: bool = False,
) -> str:
    """Per second, summed over everything but `by`, which may have `POOL`.

    `recorded`: from the recording rules, over whole steps of them. Their sum is taken, not
    their mean, because a pool that was there for a part of the time did nothing in the rest.
    """
    if recorded:
        steps = max(1, math.ceil(range_s / RECORDED_EVERY_S))
        # A second less, or a sample at either end would make one too many.
        over = f"[{duration(steps * RECORDED_EVERY_S - 1)}]"
        found = selectors(
            counter.recorded_as, where, counter.labels, *more, any_model=counter.any_model
        )
        each = [f"sum_over_time({selector}{over}) / {steps}" for selector in found]
    else:
        over = f"[{duration(range_s)}]"
        found = selectors(
            counter.name,
            where,
            counter.labels,
            *(*counter.matchers, *more),
            any_model=counter.any_model,
        )
        each = [f"rate({selector}{over})" for selector in found]
    return f"sum by ({', '.join(by)}) ({pooled_if(POOL in by, ' or '.join(each))})"


def gauge(
    name: str,
    aggregate: str,
    by: Sequence[str],
    where: Filter,
    labels: Sequence[str] = (),
    *more: str,
) -> str:
    """As it was scraped last, over all replicas."""
    each = " or ".join(selectors(name, where, labels, *more))
    return f"{aggregate} by ({', '.join(by)}) ({pooled_if(POOL in by, each)})"


def mean_over(vector: str, range_s: float) -> str:
    """Of what is summed over replicas: at each instant, over those there were."""
    return f"avg_over_time({_instants(vector, range_s)})"


def mean_count_over(vector: str, range_s: float) -> str:
    """The same where nothing to count counts as 0."""
    instants = max(1, math.floor(math.ceil(range_s) / _apart_s(range_s)))
    return f"sum_over_time({_instants(vector, range_s)}) / {instants}"


def _instants(vector: str, range_s: float) -> str:
    # A second less, or an instant at either end would make one too many.
    step_s = _apart_s(range_s)
    whole_s = max(1, math.floor(math.ceil(range_s) / step_s)) * step_s
    return f"({vector})[{duration(whole_s - 1)}:{step_s}s]"


def _apart_s(range_s: float) -> int:
    return max(1, math.ceil(range_s / PLOT_POINTS))


def pooled_if(wanted: bool, vector: str) -> str:
    return pooled(vector) if wanted else vector


def quantile(q: float, buckets: str) -> str:
    """`buckets` is a rate of buckets by `le` and whatever else is told apart."""
    return f"histogram_quantile({q:g}, {buckets})"


def duration(seconds: float) -> str:
    """At least a second: Prometheus takes no other fraction than milliseconds."""
    return f"{max(1, math.ceil(seconds))}s"


@dataclass(frozen=True, slots=True)
class Grid:
    """The instants of a range query."""

    start_s: int
    end_s: int
    step_s: int

    @property
    def times_s(self) -> tuple[float, ...]:
        return tuple(map(float, range(self.start_s, self.end_s + 1, self.step_s)))


def grid(window: Window, scrape_s: float, points: int = PLOT_POINTS) -> Grid:
    """At most `points` instants within the window, no finer than the scrapes are.

    They begin at round times, so that a page that reloads asks for the same ones for a while.
    """
    points = min(points, MAX_POINTS)
    step_s = max(1, math.ceil(scrape_s), math.ceil(window.duration_s / max(points - 1, 1)))
    round_s = max(1, math.ceil(scrape_s), step_s // STEPS_APART)
    end_s = math.floor(window.end_s / round_s) * round_s
    steps = max(0, math.floor((end_s - window.start_s) / step_s))
    return Grid(end_s - steps * step_s, end_s, step_s)
