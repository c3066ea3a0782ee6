"""What the running server has learned of its device: the service-time model, and its bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import Scrape
from predictor.core.parameters import ModelParameters, PackingChoice
from predictor.core.rows import Packing
from predictor.metrics import names
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import restored


@dataclass(frozen=True, slots=True)
class Learned:
    """One model for each packing that the runner can do, most useful first."""

    services: Sequence[ServiceTimeModel]

    def for_batching(self, batching: ModelParameters) -> ServiceTimeModel:
        """The one that the scheduler goes by with these parameters."""
        padded = batching.packing is PackingChoice.PADDED
        wanted = Packing.PADDED if padded else Packing.PACKED
        return next((each for each in self.services if each.packing is wanted), self.services[0])

    def bound_per_s(self, batching: ModelParameters, mean_tokens: float) -> float:
        """Rows per second of a device that always runs its best full batch, of rows of this length.

        No arrivals and no lengths can do better, whatever the SLO.
        """
        service = self.for_batching(batching)
        by_tokens = int(batching.max_batch_tokens // max(mean_tokens, 1.0))
        largest = max(1, min(batching.max_batch_size, by_tokens))
        return max(
            rows / service.predict_s(_alike(rows, mean_tokens)) for rows in range(1, largest + 1)
        )


def _alike(rows: int, tokens: float) -> Work:
    """As Work.alike, but a mean length is not rounded before it is multiplied."""
    return Work(rows, round(rows * tokens), round(rows * tokens * tokens), round(tokens))


def learned_from(seen: Scrape, model: str) -> Learned:
    """The service-time model in /metrics. Raises BenchError where there is none."""
    by_packing: dict[Packing, dict[str, float]] = {}
    batches: dict[Packing, float] = {}
    for labels, value in seen.values(names.SERVICE_MODEL_COEFFICIENT.name, model=model).items():
        named = dict(labels)
        by_packing.setdefault(Packing(named["packing"]), {})[named["feature"]] = value
    for labels, value in seen.values(names.SERVICE_MODEL_BATCHES.name, model=model).items():
        packing = Packing(dict(labels)["packing"])
        batches[packing] = batches.get(packing, 0.0) + value
    if not by_packing:
        raise BenchError(f"the server has no service-time model of {model!r} in its metrics")
    # A packing that was never run has coefficients too, which are only a first guess.
    by_use = sorted(by_packing, key=lambda packing: -batches.get(packing, 0.0))
    return Learned([restored(packing, by_packing[packing]) for packing in by_use])
