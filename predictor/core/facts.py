"""Facts: what happened, told once, to whoever observes. Metrics are one observer."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from predictor.core.rows import Batch, Outcome


class Offered(msgspec.Struct, frozen=True, gc=False):
    """A request arrived with valid rows, whether it is admitted or refused."""

    model: str
    tier: str
    rows: int
    tokens: int
    work_s: float  # predicted device seconds at full batches


class Dispatched(msgspec.Struct, frozen=True):
    """A batch was handed to the device, which may still be busy with the one before."""

    batch: Batch
    now_s: float


class Completed(msgspec.Struct, frozen=True):
    """A batch left the device. `started_s` is when the device began it."""

    batch: Batch
    started_s: float
    finished_s: float
    failed_rows: int = 0

    @property
    def service_s(self) -> float:
        return self.finished_s - self.started_s


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A request ended. Times are 0 where it never got that far."""

    model: str
    tier: str
    outcome: Outcome
    rows: int
    latency_s: float  # arrival at the edge to the end
    queue_s: float = 0.0  # arrival to the start of the batch of its last row
    service_s: float = 0.0  # service time of that batch
    deadline_met: bool = False


class FirstToken(msgspec.Struct, frozen=True, gc=False):
    """A row's first token, so long after it arrived; `cached_tokens` of its prompt were not
    computed."""

    tier: str
    seconds: float
    prompt_tokens: int
    cached_tokens: int = 0


class TokensCame(msgspec.Struct, frozen=True, gc=False):
    """What a step of a generating model gave: rows' first tokens, and how many later ones came by
    tier and the seconds since the one before."""

    model: str
    firsts: Sequence[FirstToken]
    gaps: Mapping[tuple[str, float], int]


class EdgeTimed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Time that an edge spent on one request, by stage, in seconds."""

    model: str
    protocol: str  # "http" | "grpc" | "v1"
    decode_s: float
    tokenise_s: float
    encode_s: float


class EdgeRefused(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """An edge ended a request that the engine never saw: bad input, unknown model, loading."""

    model: str
    protocol: str
    outcome: Outcome


class JobsSeen(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What the job store told an edge of one model's jobs, and of the replicas that serve it."""

    model: str
    waiting: int  # lines
    leased: int
    parked: int
    replicas: int  # by their heartbeats, this one included
    stalled: bool = False  # lines wait, and the store lets none begin


EdgeFact = EdgeTimed | EdgeRefused | JobsSeen


class ParametersInForce(msgspec.Struct, frozen=True):
    generation: int


class ParametersRejected(msgspec.Struct, frozen=True):
    reason: str


class MemoryExhausted(msgspec.Struct, frozen=True):
    """The device ran out of memory at this batch; it is split, and the size remembered."""

    model: str
    rows: int
    tokens: int


class EdgesConnected(msgspec.Struct, frozen=True):
    """How many edges the engine serves now."""

    edges: int


class ProcessRestarted(msgspec.Struct, frozen=True):
    """A process died and was started again, `times` times since this was last told."""

    process: str  # "edge" | "engine"
    times: int = 1


Fact = (
    Offered
    | Dispatched
    | Completed
    | Settled
    | TokensCame
    | EdgeTimed
    | EdgeRefused
    | JobsSeen
    | ParametersInForce
    | ParametersRejected
    | MemoryExhausted
    | EdgesConnected
    | ProcessRestarted
)


class Observer(Protocol):
    """Is told every fact, on the engine's event loop. Must return fast and never raise."""

    def observe(self, fact: Fact, /) -> None: ...


class QueueSnapshot(msgspec.Struct, frozen=True):
    model: str
    tier: str
    depth: int
    tokens: int
    backlog_s: float  # predicted device seconds to serve it
    offered_load: float  # arriving work per second / capacity, refused work included


class ServiceModelSnapshot(msgspec.Struct, frozen=True):
    model: str
    packing: str
    coefficients: Mapping[str, float]
    error_ratio: float  # median |predicted - measured| / measured over recent batches
    batches: int


class GenerationSnapshot(msgspec.Struct, frozen=True):
    """What the device holds of a generating model."""

    model: str
    pages_used: int
    pages_cached: int  # held by no row, but a prompt may find them
    pages_free: int
    running: Mapping[str, int]  # rows that have begun and not ended, by tier
    recomputed_tokens: int  # ever


class Snapshot(msgspec.Struct, frozen=True):
    """The scheduler at one instant, for gauges."""

    queues: Sequence[QueueSnapshot]
    service_models: Sequence[ServiceModelSnapshot]
    overloaded: bool  # more urgent work arrives than the device can do
    generation: Sequence[GenerationSnapshot] = ()
