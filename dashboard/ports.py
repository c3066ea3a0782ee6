"""What pages and sources know of each other: frozen facts, and the protocols that give them.

Times are Unix times in seconds, durations seconds, shares ratios from 0 to 1, money USD. A
value that nobody measured is NaN in a series and None where it stands alone: a page shows it
as missing, never as 0. Everything here pickles and compares, so answers can be cached.

Whatever fails raises a `DashboardError`, whose message is one sentence that a page shows as it
is: what is wrong and what to do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from predictor.core.parameters import Parameters

# ---------------------------------------------------------------------------- errors


class DashboardError(Exception):
    """Base of all that a source or a store may raise; `str()` of it is for the reader."""


class SourceDown(DashboardError):
    """Prometheus, the store or the results folder does not answer."""


class Missing(SourceDown):
    """Nothing lies where the parameters should."""


class NoData(DashboardError):
    """It answers, and has nothing for what was asked: no traffic yet, or a missing metric."""


class Conflict(DashboardError):
    """Someone else changed the parameters since they were read; nothing was written."""


class Refused(DashboardError):
    """The parameters are wrong; `field` is the path of what is wrong, empty for the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotAllowed(DashboardError):
    """Editing is off here, or not for this person."""


# ---------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, in Unix seconds."""

    start_s: float
    end_s: float
    moves: bool = False  # its end is now

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @staticmethod
    def last(duration_s: float, now_s: float) -> "Window":
        return Window(now_s - duration_s, now_s, moves=True)


class Pool(StrEnum):
    """Which kind of nodes a replica runs on."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    UNKNOWN = "unknown"  # the scrape does not say


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look at; an empty tuple means all."""

    models: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()


ALL = Filter()


# ---------------------------------------------------------------------------- what is measured


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


class Metrics(Protocol):
    """Reads of Prometheus. All may raise SourceDown; NoData where nothing was measured."""

    def models(self) -> Sequence[str]: ...

    def tier_names(self, where: Filter = ALL) -> Sequence[str]: ...

    def tiers(self, window: Window, where: Filter = ALL) -> Sequence[TierNow]:
        """Each tier of each model, most offered first."""
        ...

    def traffic(self, window: Window, where: Filter = ALL) -> Traffic: ...

    def latency(
        self, window: Window, quantile: float, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[Series]:
        """Seconds at `quantile` (0 to 1) over time; a series for each tier or pool."""
        ...

    def token_times(
        self,
        window: Window,
        quantile: float,
        token: Token,
        where: Filter = ALL,
        by: Split = Split.TIER,
    ) -> Sequence[Series]:
        """The same of tokens; empty, not NoData, where nothing was generated."""
        ...

    def latency_heatmap(self, window: Window, where: Filter = ALL) -> Heatmap: ...

    def stages(
        self, window: Window, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[StageBreakdown]: ...

    def batches(self, window: Window, where: Filter = ALL) -> BatchShape: ...

    def utilisation(self, window: Window, where: Filter = ALL) -> Utilisation: ...

    def replicas(self) -> Sequence[Replica]:
        """By instance. Those that went away in the last five minutes are there as not up."""
        ...

    def scrapes(self) -> Scrapes: ...

    def pools(self, window: Window, where: Filter = ALL) -> Sequence[PoolUse]: ...

    def prices(self) -> Sequence[Price]:
        """What Prometheus knows of prices, by OpenCost or Karpenter; empty where nothing."""
        ...

    def arrivals(self, window: Window, where: Filter = ALL) -> Sequence[ArrivalStats]: ...

    def service_models(self, where: Filter = ALL) -> Sequence[ServiceModelFit]: ...

    def edits(self, window: Window) -> Sequence[Edit]: ...


# ---------------------------------------------------------------------------- parameters


@dataclass(frozen=True, slots=True)
class Stored:
    """The parameters as they lie in the store. `version` changes with every byte of it."""

    parameters: Parameters
    document: str
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One field that an edit changed; None: it was not there."""

    field: str  # "models.topics.max_batch_size"
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One edit that was applied."""

    generation: int  # that it made
    time_s: float
    who: str
    reason: str
    changes: tuple[Change, ...]
    before: str  # the documents, whole
    after: str


class ParameterStore(Protocol):
    """Where the parameters lie: a file, or a ConfigMap."""

    @property
    def place(self) -> str:
        """For the reader: the file's path, the ConfigMap's name."""
        ...

    @property
    def editable(self) -> bool:
        """Whether the configuration allows edits. A write may be refused all the same."""
        ...

    def read(self) -> Stored:
        """Raises Missing, SourceDown (unreadable) or Refused (what lies there is wrong)."""
        ...

    def check(self, proposal: Mapping[str, Any]) -> Parameters:
        """The proposal as parameters, by the predictor's own rules; writes nothing.

        A proposal is a document as plain dicts, with models and tiers; its generation is left
        out or ignored. Raises Refused, with the field.
        """
        ...

    def apply(
        self, proposal: Mapping[str, Any], *, expected: Stored, who: str, reason: str
    ) -> Stored:
        """Put the proposal in the place of `expected`, under the next generation.

        Raises NotAllowed, Refused (wrong, nothing changed, no reason given), Conflict
        (something else than `expected` lies there by now), SourceDown (cannot be written).
        """
        ...

    def roll_back(
        self, generation: int, *, expected: Stored | None, who: str, reason: str
    ) -> Stored:
        """Apply what was in force as `generation` once more, as a new edit.

        `expected` None: nothing lies there, or what `read` refuses, and is to be replaced. Raises
        like apply, and NoData where the history does not have the generation.
        """
        ...

    def history(self, limit: int = 50) -> Sequence[HistoryEntry]:
        """Newest first. Empty where there is none."""
        ...


# ---------------------------------------------------------------------------- preview


@dataclass(frozen=True, slots=True)
class PreviewQuestion:
    """What would happen to this traffic under these parameters?

    `arrivals` are those of all replicas together; each gets an even part.
    """

    parameters: Parameters
    arrivals: tuple[ArrivalStats, ...]
    service_models: tuple[ServiceModelFit, ...]
    replicas: int = 1
    usd_per_replica_hour: float | None = None
    duration_s: float = 60.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class TierForecast:
    """Over the simulated time, all replicas together; latencies of answered requests."""

    model: str
    tier: str
    p50_s: float | None  # queue, service, and the edge's usual time
    p95_s: float | None
    p99_s: float | None
    offered_per_s: float
    answered_per_s: float
    good_per_s: float
    refused_per_s: float
    usd_per_1000: float | None  # by its part of the device time, idle and padding included


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the simulator says."""

    tiers: tuple[TierForecast, ...]
    busy: float  # share of the device's time
    useful: float  # busy * real tokens ÷ all tokens
    mean_batch_rows: float
    usd_per_1000: float | None  # answered requests
    simulated_s: float  # less than asked where the traffic was cut short
    requests: int  # simulated
    note: str  # what the reader must know of how it was done; empty where nothing


class Preview(Protocol):
    """Raises NoData where the question lacks traffic or a service-time model."""

    def __call__(self, question: PreviewQuestion, /) -> Forecast: ...


# ---------------------------------------------------------------------------- load tests


@dataclass(frozen=True, slots=True)
class LoadTier:
    """A tier of a run, or all tiers of a phase, as the client saw it; times in milliseconds."""

    requests: int
    ok: int
    within_slo: int
    refused: int
    failed: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    queue_mean_ms: float
    service_mean_ms: float
    batch_size_mean: float
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LoadPhase:
    """A part of a run: a step of a ramp, calm or spike."""

    name: str
    seconds: float
    rate: float  # requests a second, as sent
    measured: LoadTier


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One run of a load test, from its folder."""

    name: str  # the folder's
    script: str
    started_s: float
    seconds: float  # of load, as planned
    settings: Mapping[str, str]
    generation: int | None
    revision: str | None
    machine: str
    dropped: int  # iterations that were not sent; a run that has any is not valid
    valid: bool
    missed: tuple[str, ...]  # thresholds that were not met, each a sentence
    tiers: Mapping[str, LoadTier]
    phases: tuple[LoadPhase, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A comparison of runs: rows of plain values under their columns."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class ResultsFound:
    """`unreadable`: a sentence for each folder that could not be read."""

    runs: tuple[LoadRun, ...]  # newest first
    sweeps: tuple[Sweep, ...]
    unreadable: tuple[str, ...]


class RunResults(Protocol):
    """The results folder of load tests. Raises SourceDown (not readable), NoData (no runs)."""

    def find(self, limit: int = 100) -> ResultsFound: ...
