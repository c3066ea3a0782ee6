"""The port to the results of load tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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
