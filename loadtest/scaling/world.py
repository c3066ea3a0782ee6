"""The world of a simulated fleet: replicas slower than real ones, scaled as the manifests say.

A day of a GPU is too many requests to simulate each of them. So everything about a request takes
`slower` times as long, its SLO too, and one row stands for several: a replica does less, as full,
for as long. What scaling goes by stays as it is: load, and queues counted in batches. Fewer rows
wander more about their mean, which makes it harder, not easier.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.scaling.monitoring import MODEL, SimulatedMonitoring
from manifests.check.build import MANIFESTS, build
from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Batch, Packing
from predictor.core.yaml_documents import YamlRefusedError, load_yaml
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.day import Arrivals, Rhythm, bursts
from predictor.simulation.keda import ScaledObject, scaled_object
from predictor.simulation.replica import Leaving
from predictor.simulation.simulator import Simulator
from predictor.simulation.traffic import lognormal_lengths

BASE = MANIFESTS / "base" / "scaledobject.yaml"
POOLS = MANIFESTS / "overlays" / "spot-and-on-demand"
PARAMETERS = MANIFESTS / "base" / "parameters" / "parameters.yaml"

FIXED_S, TOKEN_S = 2.5e-3, 40e-6  # of a batch, where nothing is slower
MEAN_TOKENS = 87.4
ROWS_IN_ONE = 4.0
UNROUTED_S = 2.0  # until every proxy knows that a replica goes
GRACE_S, JOBS_SHARE_OF_GRACE = 30.0, 0.8  # --grace_s of the predictor, and what jobs have of it


@dataclass(frozen=True, slots=True)
class World:
    """Replicas `slower` times as slow as with the SLO of the manifests' parameters."""

    slower: float
    parameters: Parameters

    @property
    def slo_s(self) -> float:
        return self.parameters.tightest_slo_s

    @property
    def capacity(self) -> float:
        """Rows a second of one replica, in full batches."""
        size = self.parameters.for_model(MODEL).max_batch_size
        return size / self.slower / (FIXED_S + TOKEN_S * MEAN_TOKENS * size)

    def device(self) -> Simulator:
        fixed_s, token_s = self.slower * FIXED_S, self.slower * TOKEN_S
        scheduler = Scheduler(self.parameters)
        service = ServiceTimeModel(Packing.PACKED, (fixed_s, 0.0, token_s, 0.0))
        scheduler.add_model(MODEL, [service])

        def truth(batch: Batch) -> float:
            return fixed_s + token_s * batch.tokens

        return Simulator(scheduler, truth, learn=False)

    def monitoring(self) -> SimulatedMonitoring:
        return SimulatedMonitoring(ROWS_IN_ONE)

    def arrivals(self, rhythm: Rhythm, seed: int, begins_s: float = 0.0) -> Arrivals:
        lengths = lognormal_lengths(random.Random(seed + 1))
        return Arrivals(rhythm, lengths, seed, begins_s, model=MODEL)

    def steady(self, load: float) -> Rhythm:
        """In replicas that would be just busy."""
        return Rhythm(load * self.capacity, load * self.capacity)

    def rhythm(self, trough: float, peak: float, seed: int) -> Rhythm:
        """In replicas that would be just busy."""
        return Rhythm(trough * self.capacity, peak * self.capacity, bursts(seed))


def world(slower: float, bulk: bool = False, file: Path = PARAMETERS) -> World:
    """With the manifests' parameters; without `bulk` their urgent tiers alone, which is faster."""
    given = load_yaml(file.read_text())
    batching = given["models"][MODEL]
    batching["max_batch_size"] = round(batching["max_batch_size"] / ROWS_IN_ONE)
    tiers = {
        name: tier | {"slo_ms": tier["slo_ms"] and tier["slo_ms"] * slower}
        for name, tier in given["tiers"].items()
        if bulk or tier["slo_ms"]
    }
    return World(slower, parse_plain({**given, "tiers": tiers}))


def applied(file: Path = BASE) -> ScaledObject:
    """What a manifest says. Raises OSError, and ValueError for what is no ScaledObject."""
    try:
        document: Mapping[str, Any] = load_yaml(file.read_text())
        return scaled_object(document)
    except (YamlRefusedError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no ScaledObject: {error!r}") from None


def leaving(notice_s: float, pool: str = "topics-spot") -> Leaving:
    """How a replica of a pool goes, as its manifest has it, when the cloud gives this notice.

    Raises BuildError.
    """
    (found,) = [
        each for each in build(POOLS) if (each.kind, each.name) == ("InferenceService", pool)
    ]
    spec = found.get("spec", "predictor")
    container = spec["containers"][0]
    grace_s = next(
        (float(each.partition("=")[2]) for each in container["args"] if "--grace_s=" in each),
        GRACE_S,
    )
    return Leaving(
        unrouted_s=min(UNROUTED_S, notice_s),
        drains_s=float(container["lifecycle"]["preStop"]["sleep"]["seconds"]),
        finishes_s=JOBS_SHARE_OF_GRACE * grace_s,
        killed_s=min(notice_s, float(spec["terminationGracePeriodSeconds"])),
    )
