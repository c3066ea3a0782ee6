"""What the generator is told to do, and what it reports. Both cross its pipes as JSON."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

HTTP_OK = 200
HTTP_TOO_MANY_REQUESTS = 429
MAX_PROCESSES = 64
MAX_PLANS = 8  # that run side by side

Seconds = Annotated[float, Meta(ge=0, le=3600)]


class Protocol(StrEnum):
    HTTP = "http"
    GRPC = "grpc"


class Dialect(StrEnum):
    """How a server wants its HTTP requests. Only v2 takes ids; the others are for rivals."""

    V2 = "v2"
    PLAIN = "plain"  # POST /predict {"text": [...]}, answered by the bare numbers
    INFINITY = "infinity"  # POST /classify {"model": ..., "input": [...]}


class SimulatedWork(msgspec.Struct, frozen=True, tag="simulated", kw_only=True):
    """`input_ids` of lognormal length; every answer's checksums are verified.

    All rows of a request have one length: this task takes no mask.
    """

    rows: Annotated[int, Meta(ge=1, le=1024)] = 1
    median_tokens: Annotated[int, Meta(ge=1, le=65536)] = 64
    sigma: Annotated[float, Meta(ge=0, le=4)] = 0.8
    shortest_tokens: Annotated[int, Meta(ge=1, le=65536)] = 8
    longest_tokens: Annotated[int, Meta(ge=1, le=65536)] = 512


class TextWork(msgspec.Struct, frozen=True, tag="text", kw_only=True):
    """One BYTES `text` a request, of lognormal length in words."""

    median_words: Annotated[int, Meta(ge=1, le=4096)] = 20
    sigma: Annotated[float, Meta(ge=0, le=4)] = 0.8
    shortest_words: Annotated[int, Meta(ge=1, le=4096)] = 5
    longest_words: Annotated[int, Meta(ge=1, le=4096)] = 150


class EncoderWork(msgspec.Struct, frozen=True, tag="encoder", kw_only=True):
    """Rows for a text classifier; the shape and the number of values are verified.

    Lengths count all tokens of a row. `as_text` sends words that are one token each, two
    fewer than the length, because the tokenizer adds two; else `input_ids` are sent, as the
    v2 binary extension where `binary`. More rows than one need a mask where they are ids.
    """

    rows: Annotated[int, Meta(ge=1, le=1024)] = 1
    as_text: bool = False
    binary: bool = False
    labels: Annotated[int, Meta(ge=1, le=65536)] = 8
    vocabulary_size: Annotated[int, Meta(ge=1, le=1 << 24)] = 30_522
    median_tokens: Annotated[int, Meta(ge=1, le=65536)] = 64
    sigma: Annotated[float, Meta(ge=0, le=4)] = 0.8
    shortest_tokens: Annotated[int, Meta(ge=3, le=65536)] = 8
    longest_tokens: Annotated[int, Meta(ge=3, le=65536)] = 512


class OpenLoop(msgspec.Struct, frozen=True, tag="open", kw_only=True):
    """Poisson arrivals that do not wait for answers; latency counts from the intended time.

    `max_connections` is what all processes of the generator may open together.
    """

    rate_per_s: Annotated[float, Meta(gt=0, le=50_000)]
    max_connections: Annotated[int, Meta(ge=1, le=4096)] = 512


class ClosedLoop(msgspec.Struct, frozen=True, tag="closed", kw_only=True):
    """Each of `in_flight` clients sends its next request when the last one is answered."""

    in_flight: Annotated[int, Meta(ge=1, le=4096)] = 16


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run against one server.

    Requests sent in the first `warmup_s` are answered but not counted. After the last one
    was sent the generator waits `drain_s` at most; what is not answered then never is.
    `service_fixed_ms` and `service_token_us` are what a request costs the server alone; they
    are taken off each latency to give `overhead`. `processes` share the rate, or the
    requests in flight, evenly, each with a seed of its own; they start at one instant.
    `tier` is the one that the requests ask for; empty: they name none.
    """

    port: Annotated[int, Meta(ge=1, le=65535)]
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    load: OpenLoop | ClosedLoop
    host: str = "127.0.0.1"
    protocol: Protocol = Protocol.HTTP
    dialect: Dialect = Dialect.V2
    tier: Annotated[str, Meta(max_length=128, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    work: SimulatedWork | TextWork | EncoderWork = SimulatedWork()
    seconds: Annotated[float, Meta(gt=0, le=3600)] = 8.0
    warmup_s: Seconds = 0.5
    drain_s: Seconds = 10.0
    slo_ms: Annotated[float, Meta(gt=0)] = 100.0
    service_fixed_ms: float = 0.0
    service_token_us: float = 0.0
    seed: int = 1
    processes: Annotated[int, Meta(ge=1, le=MAX_PROCESSES)] = 1


class Spread(msgspec.Struct, frozen=True):
    """A distribution in ms. All values are NaN-free; a run without samples has no Spread."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the counted requests of a run.

    Each is exactly one of: answered, mismatched (answered with the wrong result), rejected
    (by status), failed (connection lost or nonsense received) or unanswered.
    """

    seconds: float
    scheduled: int
    answered: int
    mismatched: int
    rejected: Mapping[int, int]  # HTTP status (or gRPC code) -> requests
    failed: int
    unanswered: int
    within_slo: int
    latency: Spread | None  # of the answered
    overhead: Spread | None  # of the answered: latency minus the plan's service time
    refusal: Spread | None  # latency of status 429
    service: Spread | None  # of the answered: their batch on the device, where the answer says so
    lag: Spread | None  # intended to actual send; not taken off any latency
    waited_for_connection: int
    connections: int
    mean_tokens: float  # of the counted requests
    answered_rows: int
    answered_tokens: int
    finished_tokens: int  # of right answers that came while requests were counted
    generator_cpu_s: float  # of the process that used most
    generator_wall_s: float

    @property
    def answered_per_s(self) -> float:
        return self.answered / self.seconds

    @property
    def tokens_per_s(self) -> float:
        """Tokens of right answers, per second."""
        return self.answered_tokens / self.seconds

    @property
    def finished_tokens_per_s(self) -> float:
        """As `tokens_per_s`, but by when the answer came. Where a request waits for long, those
        asked for in a run are not those that the server was at meanwhile."""
        return self.finished_tokens / self.seconds

    @property
    def rows_per_s(self) -> float:
        return self.answered_rows / self.seconds

    @property
    def goodput_per_s(self) -> float:
        """Right answers within the SLO, per second."""
        return self.within_slo / self.seconds

    @property
    def generator_cpu_share(self) -> float:
        """Share of one core that the generator used; near 1, it is what was measured."""
        return self.generator_cpu_s / self.generator_wall_s if self.generator_wall_s else 0.0
