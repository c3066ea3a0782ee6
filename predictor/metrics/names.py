"""Every metric that Headway exports: its name, help text, labels and buckets.

No other module of the predictor knows a metric name. Base units: seconds, bytes, ratios.
"""

import math
from dataclasses import dataclass

PROTOCOLS = ("http", "grpc", "v1", "jobs", "openai")
PROCESSES = ("edge", "engine")
ENGINE = "engine"  # the label that several engines' series carry
UNKNOWN = "unknown"  # label of whatever names no served model, tier or protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `buckets` are upper bounds, +Inf left out; empty where it is no histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def log_spaced(low: float, high: float, max_ratio: float) -> tuple[float, ...]:
    """Bounds from low to high, each at most about `max_ratio` times the one before."""
    steps = math.ceil(math.log(high / low) / math.log(max_ratio))
    return tuple(float(f"{low * (high / low) ** (i / steps):.6g}") for i in range(steps + 1))


# histogram_quantile answers somewhere inside the bucket that holds the true quantile, so at
# worst it is off by the ratio of the bucket's ends. Lengths and service times cluster (one
# length, one batch size), which puts all of a tier into one bucket: only a ratio of 1.1 or
# less keeps an error of 10% whatever the shape. That is 139 bounds from 0.25 ms to 120 s.
_WITHIN_TENTH = 1.1
_LATENCY_BUCKETS = log_spaced(0.25e-3, 120.0, _WITHIN_TENTH)
_EDGE_BUCKETS = log_spaced(10e-6, 1.0, _WITHIN_TENTH)
_GAP_BUCKETS = log_spaced(10e-6, 100.0, 2.0)
_SIZES = (1.0, *(float(size << k) for k in range(23) for size in (2, 3)), float(1 << 24))
_ROW_BUCKETS = tuple(size for size in _SIZES if size <= 4096)
_TOKEN_BUCKETS = _SIZES
# A preview replays the mix of lengths, and padding follows the longest row.
_LENGTH_BUCKETS = log_spaced(1.0, float(1 << 16), 1.25)

_MODEL = ("model",)
_TIER = ("model", "tier")
_OUTCOME = ("model", "tier", "outcome")

# Requests and rows
OFFERED_REQUESTS = Metric(
    "headway_offered_requests_total", "Valid requests that arrived, refused ones included.", _TIER
)
OFFERED_ROWS = Metric("headway_offered_rows_total", "Rows of the requests that arrived.", _TIER)
OFFERED_TOKENS = Metric(
    "headway_offered_tokens_total", "Tokens of the requests that arrived.", _TIER
)
ROW_TOKENS = Metric(
    "headway_row_tokens",
    "Tokens of the rows that arrived; rows of one request count with their mean.",
    _TIER,
    _LENGTH_BUCKETS,
)
OFFERED_WORK = Metric(
    "headway_offered_work_seconds_total",
    "Predicted device seconds, at full batches, of the requests that arrived.",
    _TIER,
)
REQUESTS = Metric("headway_requests_total", "Requests that ended, by outcome.", _OUTCOME)
ROWS = Metric("headway_rows_total", "Rows of the requests that ended, by outcome.", _OUTCOME)
GOOD_REQUESTS = Metric(
    "headway_good_requests_total", "Requests answered within their deadline.", _TIER
)
LATENCY = Metric(
    "headway_request_latency_seconds",
    "Answered requests: arrival at the edge to the answer.",
    _TIER,
    _LATENCY_BUCKETS,
)
QUEUE_WAIT = Metric(
    "headway_queue_wait_seconds",
    "Answered requests: arrival to the start of the batch of the last row.",
    _TIER,
    _LATENCY_BUCKETS,
)
SERVICE_TIME = Metric(
    "headway_service_time_seconds",
    "Answered requests: time on the device of the batch of the last row.",
    _TIER,
    _LATENCY_BUCKETS,
)
EDGE_STAGE = Metric(
    "headway_edge_stage_seconds",
    "Time of an edge on one request, by stage.",
    ("model", "protocol", "stage"),
    _EDGE_BUCKETS,
)

# Generation
FIRST_TOKEN = Metric(
    "headway_time_to_first_token_seconds",
    "Rows that generate: arrival at the edge to the first token.",
    _TIER,
    _LATENCY_BUCKETS,
)
INTER_TOKEN = Metric(
    "headway_inter_token_latency_seconds",
    "Rows that generate: time from one token to the next.",
    _TIER,
    _LATENCY_BUCKETS,
)
PROMPT_TOKENS = Metric(
    "headway_prompt_tokens_total", "Tokens of the prompts of rows that began to answer.", _TIER
)
CACHED_TOKENS = Metric(
    "headway_cached_prompt_tokens_total",
    "Of these, tokens that the prefix cache held, which were not computed.",
    _TIER,
)
OUTPUT_TOKENS = Metric("headway_output_tokens_total", "Tokens that were generated.", _TIER)
STEP_TOKENS = Metric(
    "headway_step_tokens_total",
    "Tokens of steps that ran, by kind: decode, one a row, or prefill, of prompts.",
    ("model", "kind"),
)
RECOMPUTED_TOKENS = Metric(
    "headway_recomputed_tokens_total",
    "Tokens computed again for rows that had lost their pages.",
    _MODEL,
)
KV_PAGES = Metric(
    "headway_kv_pages",
    "Pages of keys and values, by state: used by rows, cached for prompts alike, or free.",
    ("model", "state"),
)
ROWS_RUNNING = Metric("headway_rows_running", "Rows that generate and have begun, by tier.", _TIER)

# Batches and the device
BATCHES = Metric(
    "headway_batches_total", "Batches handed to the device, by reason.", ("model", "reason")
)
BATCH_ROWS = Metric("headway_batch_rows", "Rows in a batch that ran.", _MODEL, _ROW_BUCKETS)
BATCH_TOKENS = Metric(
    "headway_batch_tokens", "Real tokens in a batch that ran.", _MODEL, _TOKEN_BUCKETS
)
TOKENS = Metric("headway_tokens_total", "Real tokens that the device computed.", _TIER)
PADDING_TOKENS = Metric(
    "headway_padding_tokens_total", "Tokens that the device computed as padding.", _MODEL
)
DEVICE_BUSY = Metric("headway_device_busy_seconds_total", "Time the device ran batches.", _MODEL)
TIER_DEVICE = Metric(
    "headway_tier_device_seconds_total",
    "Device time of a tier's rows: of each batch, the part that they had of its tokens.",
    _TIER,
)
IDLE_GAP = Metric(
    "headway_device_idle_gap_seconds",
    "Time the device stood idle before a batch although one of its rows was waiting.",
    (),
    _GAP_BUCKETS,
)
MEMORY_EXHAUSTED = Metric(
    "headway_memory_exhausted_total", "Batches that did not fit into device memory.", _MODEL
)
DEVICE_UTILISATION = Metric(
    "headway_device_utilisation_ratio",
    "Share of the last sampling period in which the device ran anything, by NVML.",
    ("device",),
)
DEVICE_MEMORY_USED = Metric(
    "headway_device_memory_used_bytes", "Device memory in use, by NVML.", ("device",)
)
DEVICE_MEMORY_TOTAL = Metric(
    "headway_device_memory_total_bytes", "Device memory there is, by NVML.", ("device",)
)
DEVICE_POWER = Metric("headway_device_power_watts", "Power the device draws, by NVML.", ("device",))

# The scheduler at this instant
QUEUE_DEPTH = Metric("headway_queue_depth", "Rows that wait.", _TIER)
QUEUE_TOKENS = Metric("headway_queue_tokens", "Tokens that wait.", _TIER)
BACKLOG = Metric(
    "headway_backlog_seconds", "Predicted device seconds of the rows that wait.", _TIER
)
OFFERED_LOAD = Metric(
    "headway_offered_load_ratio", "Arriving work per second over capacity, shed included.", _TIER
)
OVERLOADED = Metric(
    "headway_overloaded", "1 while more urgent work arrives than the device can do, else 0.", ()
)
SERVICE_MODEL_COEFFICIENT = Metric(
    "headway_service_model_coefficient",
    "Seconds per unit of a feature in the service-time model.",
    ("model", "packing", "feature"),
)
SERVICE_MODEL_ERROR = Metric(
    "headway_service_model_error_ratio",
    "Median error of predicted service times over recent batches.",
    ("model", "packing"),
)
SERVICE_MODEL_BATCHES = Metric(
    "headway_service_model_batches",
    "Batches that the service-time model learned from.",
    ("model", "packing"),
)

# Jobs, as Redis told it last: each replica and engine tells the same, so take the maximum
JOBS_STALLED = Metric(
    "headway_jobs_stalled",
    "1 where lines of jobs wait and the store lets none begin: it is full, or only reads.",
    ("model",),
)
JOB_LINES = Metric("headway_job_lines", "Lines of jobs, by state.", ("model", "state"))
REPLICAS = Metric(
    "headway_replicas", "Replicas that serve the model; 1 where no Redis tells.", _MODEL
)

# Parameters
PARAMETERS_ACCEPTED = Metric(
    "headway_parameters_accepted_total", "Parameter documents that came into force."
)
PARAMETERS_REFUSED = Metric(
    "headway_parameters_refused_total", "Parameter documents that were refused."
)
PARAMETERS_GENERATION = Metric(
    "headway_parameters_generation", "Generation of the parameters in force."
)
PARAMETERS_LAST_REFUSAL = Metric(
    "headway_parameters_last_refusal_timestamp_seconds",
    "Unix time of the last refusal; 0 if there was none.",
)
TIER_SLO = Metric(
    "headway_tier_slo_seconds",
    "SLO in force of a tier, slo_ms; +Inf where it has none.",
    ("tier",),
)
TIER_ITL_SLO = Metric(
    "headway_tier_inter_token_slo_seconds",
    "SLO in force of the time between tokens, itl_slo_ms; +Inf where a tier has none.",
    ("tier",),
)

# Processes
EDGES = Metric("headway_edges", "Edges that are connected.")
PROCESS_RESTARTS = Metric(
    "headway_process_restarts_total",
    "Processes that died and were started again, edges and this engine.",
    ("process",),
)
OBSERVER_ERRORS = Metric(
    "headway_observer_errors_total", "Facts and snapshots that could not be counted."
)
