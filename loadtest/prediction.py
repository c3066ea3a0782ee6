"""What the simulator says a server sustains: the real policy on the device that it has learned of.

The simulator knows nothing of HTTP, of Python or of other users of the machine. Where the
measured capacity is well below the predicted one, those are what it is lost to.
"""

import math
import random
from collections.abc import Sequence
from itertools import repeat

import msgspec

from loadtest.bench.capacity import Capacity, CapacitySearch
from loadtest.learned import Learned
from predictor.core.parameters import Parameters
from predictor.core.rows import Batch
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import Work
from predictor.simulation.simulator import Arrival, Run, Simulator
from predictor.simulation.traffic import gamma_times, lognormal_lengths

RESOLUTION = 1.01
MOST_RUNS = 40
MOST_ROWS = 400_000  # of all runs together: about half a minute


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of what is sent. `burstiness` as in predictor.simulation.traffic."""

    mean_tokens: float
    sigma: float = 0.8  # of the logarithm of the length; 0: all alike
    shortest_tokens: int = 8
    longest_tokens: int = 512
    burstiness: float = 0.0  # k6's arrival-rate executors space iterations evenly

    def arrivals(
        self, rate_per_s: float, seconds: float, model: str, tier: str, seed: int
    ) -> Sequence[Arrival]:
        lengths = (
            lognormal_lengths(
                random.Random(seed + 1),
                self.mean_tokens / math.exp(self.sigma**2 / 2),
                self.sigma,
                self.shortest_tokens,
                self.longest_tokens,
            )
            if self.sigma
            else repeat(max(1, round(self.mean_tokens)))
        )
        times = gamma_times(rate_per_s, seconds, random.Random(seed), self.burstiness)
        return [Arrival(time_s, next(lengths), model, tier) for time_s in times]


def simulated(
    parameters: Parameters, model: str, learned: Learned, arrivals: Sequence[Arrival]
) -> Run:
    """The policy that these parameters ask for, on a device that does as was learned."""
    scheduler = Scheduler(parameters)
    scheduler.add_model(model, learned.services)
    services = {service.packing: service for service in learned.services}

    def takes_s(batch: Batch) -> float:
        return services[batch.packing].predict_s(Work.of(batch.rows))

    return Simulator(scheduler, takes_s, learn=False).simulate(arrivals)


def predicted_capacity(
    parameters: Parameters,
    model: str,
    learned: Learned,
    traffic: Traffic,
    *,
    tier: str,
    slo_ms: float,
    seconds: float,
) -> Capacity[Run]:
    """The highest rate that the simulator sustains, by the search that measures servers."""
    rows = 0

    def probe(rate_per_s: float, attempt: int) -> Run:
        nonlocal rows
        arrivals = traffic.arrivals(rate_per_s, seconds, model, tier, seed=1 + attempt)
        rows += len(arrivals)
        return simulated(parameters, model, learned, arrivals)

    def accept(run: Run) -> bool:
        answered = len(run.answered) == len(run.settlements)
        return answered and run.latency_quantile_s(0.99) * 1e3 <= slo_ms

    search = CapacitySearch(
        probe,
        resolution=RESOLUTION,
        max_probes=MOST_RUNS,
        out_of_time=lambda: rows > MOST_ROWS,
    )
    bound = learned.bound_per_s(parameters.for_model(model), traffic.mean_tokens)
    return search.highest(accept, 0.8 * bound)
