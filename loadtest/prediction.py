"""What the simulator says a server sustains: the real policy on the device that it has learned of.

The simulator knows nothing of HTTP, of Python or of other users of the machine. Where the
measured capacity is well below the predicted one, those are what it is lost to.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from loadtest.bench.capacity import Capacity, CapacitySearch
from loadtest.learned import Learned
from predictor.core.parameters import Parameters
from predictor.core.rows import Batch
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import Work
from predictor.simulation.simulator import Arrival, Run, Simulator
from predictor.simulation.traffic import gamma_times, lognormal_lengths

RESOLUTION = 1.02
MOST_RUNS = 30
ROWS_AT_BOUND = 5000  # at most, in one run: enough for a p99, and a fraction of a second
MEAN_OF = 20_000
LOGNORMAL = (64.0, 0.8)  # median and sigma
WORDS = {"short": (4, 16), "medium": (17, 80), "long": (80, 300)}


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of what is sent; `lengths` as LENGTHS of the k6 scripts."""

    mean_tokens: float
    lengths: str = "lognormal"
    even: bool = False  # else Poisson arrivals

    def arrivals(
        self, rate_per_s: float, seconds: float, model: str, tier: str, seed: int
    ) -> Sequence[Arrival]:
        times = gamma_times(rate_per_s, seconds, random.Random(seed), 0.0 if self.even else 1.0)
        lengths = self._tokens(random.Random(seed + 1))
        return [Arrival(time_s, next(lengths), model, tier) for time_s in times]

    def _tokens(self, source: random.Random) -> Iterator[int]:
        """Lengths as they are sent, in proportion such that their mean is the measured one."""
        sample = list(islice(_lengths(self.lengths, random.Random(0)), MEAN_OF))
        scale = self.mean_tokens * len(sample) / sum(sample)
        return (max(1, round(length * scale)) for length in _lengths(self.lengths, source))


def _lengths(mix: str, source: random.Random) -> Iterator[int]:
    """As lib/payloads.js draws them."""
    kind, *more = mix.split(":")
    if kind == "lognormal":
        median, sigma = (*map(float, more), *LOGNORMAL[len(more) :])
        yield from lognormal_lengths(source, median, sigma)
    while True:
        each = kind
        if each == "mixed":
            each = source.choices(("short", "medium", "long"), (0.70, 0.25, 0.05))[0]
        yield source.randint(*WORDS[each])


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
    bound_per_s = learned.bound_per_s(parameters.for_model(model), traffic.mean_tokens)
    seconds = min(seconds, ROWS_AT_BOUND / bound_per_s)

    def probe(rate_per_s: float, attempt: int) -> Run:
        arrivals = traffic.arrivals(rate_per_s, seconds, model, tier, seed=1 + attempt)
        return simulated(parameters, model, learned, arrivals)

    def accept(run: Run) -> bool:
        answered = len(run.answered) == len(run.settlements)
        return answered and run.latency_quantile_s(0.99) * 1e3 <= slo_ms

    search = CapacitySearch(
        probe, resolution=RESOLUTION, max_probes=MOST_RUNS, out_of_time=lambda: False
    )
    return search.highest(accept, 0.8 * bound_per_s)
