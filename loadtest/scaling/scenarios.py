"""What the simulated fleet goes through: a day, and a cloud that takes half of spot back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

from loadtest.scaling.monitoring import MODEL
from loadtest.scaling.world import POOLS, World, applied
from predictor.simulation.day import Rhythm, Verdict, verdict
from predictor.simulation.fleet import MINUTE_S, Change, Demand, Fleet, Minute, Pool, Timing, lines
from predictor.simulation.keda import ScaledObject
from predictor.simulation.replica import Jobs, Leaving
from predictor.simulation.simulator import Arrival
from predictor.simulation.traffic import lognormal_lengths

AS_APPLIED, QUEUE_TRIGGER = "as applied", "queue-depth"
TROUGH, PEAK = 0.45, 4.4  # of a day, in replicas that would be just busy


@dataclass(frozen=True, slots=True)
class Lived:
    """How a fleet got through it."""

    begins_s: float  # in the day
    minutes: Sequence[Minute]
    changes: Sequence[Change]
    verdict: Verdict
    slo_s: float


def only(scaling: ScaledObject, *triggers: str, threshold: float | None = None) -> ScaledObject:
    """With these triggers alone."""
    kept = [each for each in scaling.triggers if each.name in triggers]
    if threshold is not None:
        kept = [replace(each, threshold=threshold) for each in kept]
    return replace(scaling, triggers=kept)


def one_pool(scaling: ScaledObject, begins_with: int = 1) -> Sequence[Pool]:
    return [Pool("topics", scaling, begins_with)]


def two_pools(on_demand: int = 1, spot: int = 0, least_held: int = 0) -> Sequence[Pool]:
    """Those of the overlay: on demand as the floor, spot for what is beyond it."""
    return [
        Pool(f"topics-{name}", applied(POOLS / name / "scaledobject.yaml"), count, least_held)
        for name, count in (("on-demand", on_demand), ("spot", spot))
    ]


def day(
    there: World,
    pools: Sequence[Pool],
    rhythm: Rhythm,
    *,
    begins_s: float = 0.0,
    lasts_s: float,
    seed: int = 1,
    lived: Callable[[Minute], None] = lambda _: None,
) -> Lived:
    """From a time of the day on. `lived` is told every minute when it is over."""
    fleet = Fleet(pools, there.device, there.monitoring(), seed=seed)
    minutes = []
    for minute in fleet.run(there.arrivals(rhythm, seed, begins_s), lasts_s):
        minutes.append(minute)
        lived(minute)
    seen = verdict(minutes, fleet.changes, there.slo_s)
    return Lived(begins_s, minutes, fleet.changes, seen, there.slo_s)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a reclaim did, from the notice on."""

    taken: int
    stayed: int
    before: Sequence[Minute]
    after: Sequence[Minute]
    lost: int  # requests that had been let in and were never answered
    returned: int  # lines of jobs that went back
    lines: int
    done: int
    done_twice: int
    arrived: int  # requests, in all
    slo_s: float

    @property
    def settled(self) -> int:
        """Requests that were answered or refused."""
        return sum(each.offered for each in (*self.before, *self.after))


def reclaim(
    there: World,
    leaving: Leaving,
    *,
    load: float = PEAK,
    on_demand: int = 1,
    spot: int = 6,
    line_count: int = 20_000,
    steady_s: float = 2 * MINUTE_S,
    after_s: float = 5 * MINUTE_S,
    seed: int = 1,
) -> Reclaimed:
    """At the peak, with a backlog of jobs, half of the spot replicas get their notice at once."""
    lengths = lognormal_lengths(Random(seed + 2))
    jobs = Jobs(waiting=lines(islice(lengths, line_count), MODEL, "bulk"))
    least_held = 2 * there.parameters.for_model(MODEL).max_batch_size
    timing = Timing(step_s=1.0, leaving=leaving)
    pools = two_pools(on_demand, spot, least_held)
    fleet = Fleet(pools, there.device, there.monitoring(), timing, jobs, seed)
    demand = _Counted(there.arrivals(there.steady(load), seed))
    before = list(fleet.run(demand, steady_s))
    taken = -(-spot // 2)
    fleet.reclaim("topics-spot", taken, leaving)
    after = list(fleet.run(demand, steady_s + after_s))
    demand.is_over = True
    after += fleet.run(demand, steady_s + after_s + MINUTE_S)
    return Reclaimed(
        taken=taken,
        stayed=on_demand + spot - taken,
        before=before,
        after=after,
        lost=fleet.lost,
        returned=jobs.returned,
        lines=line_count,
        done=len(jobs.done),
        done_twice=len(jobs.done) - len({id(row) for row in jobs.done}),
        arrived=demand.count,
        slo_s=there.slo_s,
    )


class _Counted:
    """Arrivals, until they are over."""

    def __init__(self, arrivals: Demand) -> None:
        self.count = 0
        self.is_over = False
        self._arrivals = arrivals

    def __call__(self, from_s: float, to_s: float) -> Sequence[Arrival]:
        arrivals = [] if self.is_over else self._arrivals(from_s, to_s)
        self.count += len(arrivals)
        return arrivals
