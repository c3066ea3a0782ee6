"""The port to the simulator."""

from dataclasses import dataclass
from typing import Protocol

from dashboard.ports.measured import ArrivalStats, ServiceModelFit
from predictor.core.parameters import Parameters


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
