"""What every benchmark shares: how long to measure, and capacities measured once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from loadtest.bench.capacity import Capacity, CapacitySearch, nearly_all_within, strictly_within
from loadtest.bench.generator import generate_load
from loadtest.bench.plan import OpenLoop, Plan, RunReport
from loadtest.bench.report import Table
from loadtest.bench.scenarios.simulated import PATIENT_SLO_MS, SLO_MS, Setup
from loadtest.bench.servers import RunningServer, running_server


class Result(Protocol):
    """What a benchmark found."""

    def table(self) -> Table: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how finely to measure."""

    run_s: float  # one measured run
    rounds: int  # how often rivals take turns
    probe_s: float  # one run of a capacity search
    resolution: float  # a capacity is known within this ratio
    max_probes: int  # of one server
    search_limit_s: float  # of one server


FULL = Pace(run_s=10, rounds=3, probe_s=7.5, resolution=1.03, max_probes=16, search_limit_s=100)
QUICK = Pace(run_s=3, rounds=1, probe_s=3, resolution=1.1, max_probes=8, search_limit_s=30)


@dataclass(frozen=True, slots=True)
class MeasuredCapacity:
    """`strict`: no error and p99 within the SLO. `tolerant`: 99% answered within it."""

    setup: Setup
    strict: Capacity[RunReport]
    tolerant: Capacity[RunReport]


@dataclass(slots=True)
class Context:
    """`say` tells the person who waits what is being measured."""

    pace: Pace
    say: Callable[[str], None]
    _capacities: dict[Setup, MeasuredCapacity] = field(default_factory=dict)

    def capacity_of(self, setup: Setup) -> MeasuredCapacity:
        """Measured by the first benchmark that asks. Raises BenchError as servers do."""
        if setup not in self._capacities:
            self.say(f"{setup.label}: starting")
            with running_server(setup.command(PATIENT_SLO_MS)) as server:
                self._capacities[setup] = self._search(setup, server)
        return self._capacities[setup]

    def open_loop(
        self,
        server: RunningServer,
        rate_per_s: float,
        *,
        seconds: float,
        seed: int = 1,
        service_fixed_ms: float = 0.0,
        service_token_us: float = 0.0,
    ) -> RunReport:
        """One run of the simulated work, Poisson arrivals over HTTP."""
        return generate_load(
            Plan(
                port=server.http_port,
                model=server.model,
                load=OpenLoop(rate_per_s=rate_per_s),
                seconds=seconds,
                slo_ms=SLO_MS,
                service_fixed_ms=service_fixed_ms,
                service_token_us=service_token_us,
                seed=seed,
            )
        )

    def _search(self, setup: Setup, server: RunningServer) -> MeasuredCapacity:
        ends_at = time.monotonic() + self.pace.search_limit_s

        def probe(rate_per_s: float, attempt: int) -> RunReport:
            again = " again" if attempt else ""
            self.say(f"{setup.label}: {rate_per_s:.0f}/s{again}")
            return self.open_loop(server, rate_per_s, seconds=self.pace.probe_s, seed=1 + attempt)

        search = CapacitySearch(
            probe,
            resolution=self.pace.resolution,
            max_probes=self.pace.max_probes,
            out_of_time=lambda: time.monotonic() > ends_at,
        )
        strict = search.highest(strictly_within(SLO_MS), setup.expected_rate_per_s)
        tolerant = search.highest(nearly_all_within, strict.rate_per_s or 1.0)
        return MeasuredCapacity(setup, strict, tolerant)
