"""Running counts, kept as plain numbers.

`observe` runs on the event loop for every request. A histogram of prometheus_client walks
its buckets under a lock (2 to 10 µs here); finding the bucket by bisection takes a quarter
of a microsecond, and everything is written and read on one thread, so no lock is needed.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from predictor.core.facts import JobsSeen
from predictor.core.rows import DispatchReason, Outcome
from predictor.metrics import names


class Histogram:
    """Counts of values by bucket. `counts` has one more entry than there are bounds: +Inf."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count one value. What is not above 0 (NaN too) counts as 0."""
        if value > 0.0:
            self.sum += value * times
        else:
            value = 0.0
        self.counts[bisect_left(self._bounds, value)] += times


def _of(metric: names.Metric) -> Callable[[], Histogram]:
    return partial(Histogram, metric.buckets)


@dataclass(slots=True)
class OutcomeTally:
    """Of one outcome in a tier."""

    requests: int = 0
    rows: int = 0


@dataclass(slots=True)
class TierTally:
    """Of one tier of one model."""

    outcomes: dict[Outcome, OutcomeTally] = field(
        default_factory=lambda: {outcome: OutcomeTally() for outcome in Outcome}
    )
    good_requests: int = 0
    offered_requests: int = 0
    offered_rows: int = 0
    offered_tokens: int = 0
    offered_work_s: float = 0.0
    row_tokens: Histogram = field(default_factory=_of(names.ROW_TOKENS))
    tokens: int = 0
    device_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    first_token: Histogram = field(default_factory=_of(names.FIRST_TOKEN))
    inter_token: Histogram = field(default_factory=_of(names.INTER_TOKEN))
    latency: Histogram = field(default_factory=_of(names.LATENCY))
    queue_wait: Histogram = field(default_factory=_of(names.QUEUE_WAIT))
    service_time: Histogram = field(default_factory=_of(names.SERVICE_TIME))


@dataclass(slots=True)
class ModelTally:
    """Of one model's batches."""

    batches: dict[DispatchReason, int] = field(
        default_factory=lambda: dict.fromkeys(DispatchReason, 0)
    )
    padding_tokens: int = 0
    busy_s: float = 0.0
    memory_exhausted: int = 0
    decode_tokens: int = 0
    prefill_tokens: int = 0
    batch_rows: Histogram = field(default_factory=_of(names.BATCH_ROWS))
    batch_tokens: Histogram = field(default_factory=_of(names.BATCH_TOKENS))


@dataclass(slots=True)
class EdgeTally:
    """Of one model's requests over one protocol."""

    decode: Histogram = field(default_factory=_of(names.EDGE_STAGE))
    tokenise: Histogram = field(default_factory=_of(names.EDGE_STAGE))
    encode: Histogram = field(default_factory=_of(names.EDGE_STAGE))

    def stages(self) -> Iterator[tuple[str, Histogram]]:
        """Each stage's name and histogram."""
        yield "decode", self.decode
        yield "tokenise", self.tokenise
        yield "encode", self.encode


@dataclass(frozen=True, slots=True)
class Slo:
    """What is in force for a tier, in seconds; infinite where there is none."""

    slo_s: float
    itl_slo_s: float


@dataclass(slots=True)
class ProcessTally:
    """Of the whole process. Times are Unix times."""

    parameters_accepted: int = 0
    parameters_refused: int = 0
    generation: int = 0
    slos: dict[str, Slo] = field(default_factory=dict)  # by tier, as in force
    last_refusal_s: float = 0.0
    observer_errors: int = 0
    edges: int = 0
    restarts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(names.PROCESSES, 0))
    idle_gap: Histogram = field(default_factory=_of(names.IDLE_GAP))


@dataclass(slots=True)
class Tallies:
    """Everything counted since the start, by label values."""

    tiers: dict[tuple[str, str], TierTally] = field(default_factory=dict)
    models: dict[str, ModelTally] = field(default_factory=dict)
    edges: dict[tuple[str, str], EdgeTally] = field(default_factory=dict)
    jobs: dict[str, JobsSeen] = field(default_factory=dict)  # by model, what was told last
    process: ProcessTally = field(default_factory=ProcessTally)
