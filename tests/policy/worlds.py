"""Small worlds for the scheduler: parameters, a service-time truth, and a run in virtual time."""

from collections.abc import Mapping, Sequence
from typing import Any

from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Batch, Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.simulation.simulator import Arrival, Run, ServiceTruth, Simulator

MODEL = "model"
PACKINGS = (Packing.PACKED, Packing.PADDED)  # of rows that run whole
TIERS: Mapping[str, Any] = {
    "interactive": {"priority": 1, "slo_ms": 100, "max_queue_size": 100_000},
    "bulk": {"priority": 2, "slo_ms": None, "max_queue_size": 100_000},
}


def parameters(slo_ms: float | None = 100, **batching: Any) -> Parameters:
    """Two tiers; `batching` sets the model's knobs."""
    interactive = {**TIERS["interactive"], "slo_ms": slo_ms}
    return parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_tokens": 1 << 20, **batching}},
            "tiers": {**TIERS, "interactive": interactive},
        }
    )


def scheduler(
    given: Parameters, packing: Packing, fixed_s: float, token_s: float, lead_s: float = 0.0
) -> Scheduler:
    """A scheduler that already knows l = fixed + token * computed tokens."""
    made = Scheduler(given, lead_s)
    weights = (fixed_s, 0.0, token_s, 0.0) if packing is Packing.PACKED else (fixed_s, token_s, 0.0)
    made.add_model(MODEL, [ServiceTimeModel(packing, weights)])
    return made


def truth(fixed_s: float, token_s: float) -> ServiceTruth:
    def service_s(batch: Batch) -> float:
        return fixed_s + token_s * Work.of(batch.rows).computed(batch.packing)

    return service_s


def simulate(
    given: Parameters,
    arrivals: Sequence[Arrival],
    packing: Packing,
    fixed_s: float,
    token_s: float,
) -> Run:
    made = scheduler(given, packing, fixed_s, token_s)
    return Simulator(made, truth(fixed_s, token_s)).simulate(arrivals)
