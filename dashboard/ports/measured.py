"""What is measured. What nobody measured is NaN in a series, and None where it stands alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dashboard.ports.asked import Pool


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot. `times_s` ascend; `values` has one for each, NaN where unknown."""

    name: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]


UNREAD_TIER = "unknown"


@dataclass(frozen=True, slots=True)
class Slo:
    """What replicas say is in force for a tier; infinite where it has none."""

    slo_s: float  # of whole answers, or of the first token
    itl_slo_s: float = math.inf  # from one token to the next


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Of rows that generate, over the window: seconds to the first token, and between tokens."""

    first_p50_s: float | None
    first_p99_s: float | None
    next_p50_s: float | None  # since the token before
    next_p99_s: float | None


@dataclass(frozen=True, slots=True)
class TierNow:
    """A tier of a model over the window, all replicas together. Everything is a mean over it.

    What edges ended before they knew its tier is a tier of its own, `UNREAD_TIER`.
    """

    model: str
    tier: str
    p50_s: float | None  # latency of answered requests
    p95_s: float | None
    p99_s: float | None
    offered_per_s: float  # valid requests that arrived
    answered_per_s: float
    good_per_s: float  # goodput: answered within the deadline
    refused_per_s: float  # queue full or shed
    failed_per_s: float  # expired, failed, unavailable
    queue_depth: float  # rows that wait
    backlog_s: float  # predicted device seconds that wait
    offered_load: float  # arriving work ÷ capacity, of the busiest replica
    tokens: TokenTimes | None = None  # None where nothing was generated
    slo: Slo | None = None  # None where no replica says it
    failures: Mapping[str, float] = field(default_factory=dict)  # a second, by outcome
    unread_per_s: float = 0.0  # of those refused, by edges that looked at none of them
    given_up_per_s: float = 0.0  # the client went away before its answer

    @property
    def late_per_s(self) -> float:
        """Answered, and not within the deadline."""
        return max(0.0, self.answered_per_s - self.good_per_s)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Over time, one series for each `model/tier`. Requests a second; rows for the queue."""

    offered: tuple[Series, ...]
    good: tuple[Series, ...]
    late: tuple[Series, ...]
    refused: tuple[Series, ...]
    failed: tuple[Series, ...]
    given_up: tuple[Series, ...]
    queue_depth: tuple[Series, ...]


class Split(StrEnum):
    """What a latency is told apart by."""

    TIER = "tier"
    POOL = "pool"


class Token(StrEnum):
    """Which tokens of an answer: each kind has a deadline of its own."""

    FIRST = "first token"  # since the request arrived
    NEXT = "next tokens"  # since the token before


class Stage(StrEnum):
    """Where the time of an answered request goes, in order."""

    DECODE = "decode"
    TOKENISE = "tokenise"
    QUEUE = "queue"
    SERVICE = "service"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds a request; None where no request passed."""

    stage: Stage
    mean_s: float | None
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class StageBreakdown:
    """The stages of one group: a tier or a pool.

    An edge does not know tiers, so decode, tokenise and encode are those of all tiers of
    the filter's models.
    """

    group: str
    stages: tuple[StageTime, ...]


@dataclass(frozen=True, slots=True)
class Heatmap:
    """How values spread over time, from histogram buckets, thinned where there are many.

    `counts[j][i]` is how many values a second fell into bin j (from `edges[j]` to
    `edges[j + 1]`) around `times_s[i]`.
    """

    unit: str  # "s", "rows", "tokens"
    times_s: tuple[float, ...]
    edges: tuple[float, ...]
    counts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ServiceModelFit:
    """The service-time model of a model, as the replica learned it that saw most batches."""

    model: str
    packing: str  # "packed" | "padded"
    coefficients: Mapping[str, float]  # seconds per unit of the feature; steps included
    error_ratio: float  # median |predicted - measured| / measured
    batches: float  # that it learned from


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Batches over time."""

    rows: Heatmap
    tokens: Heatmap
    mean_rows: tuple[Series, ...]  # a series for each model
    mean_tokens: tuple[Series, ...]  # real tokens
    reasons: tuple[Series, ...]  # batches a second by dispatch reason
    padding_share: tuple[Series, ...]  # padding ÷ all tokens computed, for each model
    mean_service_s: tuple[Series, ...]  # measured seconds a batch, for each model
    model_error: tuple[Series, ...]  # error ratio of the service-time model
    fits: tuple[ServiceModelFit, ...]


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Share of the devices' time: now (the whole window) and over time; means of replicas."""

    busy: float | None  # a batch ran
    useful: float | None  # busy * real tokens ÷ all tokens
    measured: float | None  # by NVML or DCGM
    measured_by: str  # "NVML", "DCGM"; empty where there is neither
    over_time: tuple[Series, ...]  # named busy, useful, and what measured it


@dataclass(frozen=True, slots=True)
class Replica:
    """One predictor that Prometheus knows, as it is now."""

    instance: str  # host:port as scraped
    pool: Pool
    node: str  # empty where the scrape does not say
    instance_type: str  # of its node; empty where the scrape does not say
    up: bool  # its last scrape worked
    generation: int | None  # of the parameters in force; None while unknown
    refused_at_s: float | None  # when it refused a parameter document last
    silent: bool = False  # scrapes of it run out of time: it hangs, or cannot be reached
    answered_at_s: float | None = None  # where it is not up: its last answer in an hour


@dataclass(frozen=True, slots=True)
class Scrapes:
    """How fresh the measurements are."""

    newest_s: float  # Unix time of the last scrape of any replica, answered or not
    every_s: float


@dataclass(frozen=True, slots=True)
class PoolUse:
    """What a pool did in a window, and how long it was there to be paid for."""

    pool: Pool
    replicas: float  # on average over the window
    present_s: float  # replica seconds, from the moment that they are scrape targets
    devices: float  # of one replica, on average
    completed: float  # answered requests
    busy_s: float  # device seconds
    padding_share: float  # of all tokens computed
    tier_completed: Mapping[str, float]
    tier_device_s: Mapping[str, float]  # padding included: batches' time by real tokens
    instance_types: tuple[str, ...] = ()
    model_completed: Mapping[str, float] = field(default_factory=dict)
    model_device_s: Mapping[str, float] = field(default_factory=dict)
    over_time: Series | None = None  # replicas; None where only the mean is known


@dataclass(frozen=True, slots=True)
class Price:
    """USD an hour for the node share of one replica, and who says so."""

    pool: Pool
    usd_per_hour: float
    source: str  # for the reader: "OpenCost", "Karpenter", "price table of 2026-10-01"


@dataclass(frozen=True, slots=True)
class ArrivalStats:
    """How a tier's requests came, all replicas together: what a preview replays.

    `lengths` are pairs of (tokens of a row, share of rows). Rows of one request count with their
    mean, so that what a request asks of the device is right.
    """

    model: str
    tier: str
    requests_per_s: float
    rows_per_request: float
    burstiness: float  # squared coefficient of variation of gaps at one replica; 1: Poisson
    lengths: tuple[tuple[int, float], ...]
    overhead_s: float = 0.0  # of a request, neither in the queue nor on the device: the edge's
    in_flight: float = 0.0  # requests, on average, where the queue is never empty; 0 elsewhere

    @property
    def mean_tokens(self) -> float:
        return sum(tokens * share for tokens, share in self.lengths)


@dataclass(frozen=True, slots=True)
class Edit:
    """New parameters came into force: the time the first replica had them."""

    time_s: float
    generation: int
    note: str = ""  # who and why, where the history has it
