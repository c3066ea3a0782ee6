"""What would these parameters do? The real policy, in virtual time, on the traffic measured.

One replica is simulated, with an even part of the traffic (`replay.py`), and what it does is
multiplied. A batch takes what the service-time model says, give or take the model's own error;
the policy goes on learning, as it does when serving. The first seconds, in which queues fill, are
simulated and not counted.

More traffic than `MOST_ROWS` is cut short in time, never thinned: batches form by what
arrives together, so a slower stream would be another question. What remains is at least a
few thousand requests, enough for a p99.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dashboard.ports import (
    ArrivalStats,
    Forecast,
    NoData,
    PreviewQuestion,
    ServiceModelFit,
    TierForecast,
)
from dashboard.replay import Clients
from dashboard.replay import arrivals as arrivals_of
from predictor.core.parameters import Parameters
from predictor.core.rows import Batch, Outcome, Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import restored
from predictor.simulation.simulator import Arrival, Run, Settlement, Simulator, merged

MOST_ROWS = 32_000
WARM_UP_SHARE = 0.05
PREPARE_LEAD_S = 1.5e-3  # an engine forms a batch 1 ms before it is due, and takes about half a one
SIGMAS_OF_MEDIAN_ERROR = 0.6745  # the median of |x| of a normal distribution
LEAST_FACTOR = 0.5  # of a batch's predicted time, however large the model's error

_Tier = tuple[str, str]  # model, tier


def preview(question: PreviewQuestion) -> Forecast:
    """See `ports.Preview`. Takes some 40 µs a row; pure, and the same for the same question."""
    arrivals = _served(question.arrivals, question.parameters)
    services = _services(question.service_models, {stats.model for stats in arrivals})
    replicas = max(1, question.replicas)
    counted_s, whole_s = _times_s(arrivals, replicas, question.duration_s)
    run = _simulate(question, arrivals, services, replicas, whole_s)
    seen = _Seen(run, whole_s - counted_s, whole_s)
    note = ""
    if counted_s < question.duration_s:
        note = (
            f"{counted_s:.1f} s were simulated instead of {question.duration_s:g}: at this rate"
            f" they hold {MOST_ROWS:,} rows."
        )
    usd_per_s = None
    if question.usd_per_replica_hour is not None:
        usd_per_s = question.usd_per_replica_hour / 3600.0
    return Forecast(
        tiers=tuple(_tier_forecast(stats, seen, replicas, usd_per_s) for stats in arrivals),
        busy=seen.busy_s / counted_s,
        useful=seen.busy_s / counted_s * seen.real_share,
        mean_batch_rows=seen.rows / max(seen.batches, 1),
        usd_per_1000=_per_1000(usd_per_s, seen.answered / counted_s),
        simulated_s=counted_s,
        requests=len(seen.requests),
        note=note,
    )


def _served(arrivals: Sequence[ArrivalStats], parameters: Parameters) -> list[ArrivalStats]:
    """The tiers that have traffic. Raises NoData where none has, or where one is to vanish."""
    served = [stats for stats in arrivals if stats.requests_per_s > 0.0 and stats.lengths]
    if not served:
        raise NoData("No traffic in this time range; send some, or choose a range that has any.")
    for stats in served:
        if stats.tier not in parameters.tiers:
            raise NoData(
                f"Tier {stats.tier} has traffic and is not among the tiers; keep it, or choose a"
                " time range without its traffic."
            )
    return served


def _services(
    fits: Sequence[ServiceModelFit], models: set[str]
) -> Mapping[str, Sequence[ServiceModelFit]]:
    """By model, the packing most in use first.

    Raises NoData where a model has none, or generates: its rows run more than once.
    """
    by_use = sorted(fits, key=lambda fit: -fit.batches)
    services = {model: [fit for fit in by_use if fit.model == model] for model in models}
    for model, known in services.items():
        if not known:
            raise NoData(
                f"No service-time model of {model} in Prometheus; is a replica of it scraped?"
            )
        if any(fit.packing == Packing.PAGED for fit in known):
            raise NoData(
                f"{model} generates text, and what it would do cannot be previewed; choose another"
                " model above, or apply the edit and watch Overview and Latency."
            )
    return services


def _times_s(
    arrivals: Sequence[ArrivalStats], replicas: int, asked_s: float
) -> tuple[float, float]:
    """How many seconds count, and how many are simulated."""
    rows_per_s = sum(s.requests_per_s * max(s.rows_per_request, 1.0) for s in arrivals) / replicas
    counted_s = min(asked_s, MOST_ROWS / rows_per_s / (1.0 + WARM_UP_SHARE))
    return counted_s, counted_s * (1.0 + WARM_UP_SHARE)


def _simulate(
    question: PreviewQuestion,
    arrivals: Sequence[ArrivalStats],
    services: Mapping[str, Sequence[ServiceModelFit]],
    replicas: int,
    whole_s: float,
) -> Run:
    scheduler = Scheduler(question.parameters, PREPARE_LEAD_S)
    for model, fits in services.items():
        scheduler.add_model(model, [_restored(fit) for fit in fits])
        scheduler.set_replicas(model, replicas)
    streams: list[list[Arrival]] = []
    clients: dict[_Tier, Clients] = {}
    for place, stats in enumerate(arrivals):
        rng = random.Random(question.seed + 1 + place)
        if stats.in_flight and question.parameters.tiers[stats.tier].slo_ms is None:
            waiting = clients[stats.model, stats.tier] = Clients(stats, replicas, rng)
            streams.append(waiting.first())
        else:
            streams.append(list(arrivals_of(stats, replicas, whole_s, rng)))

    def follow(settled: Settlement) -> Iterable[Arrival]:
        asking = clients.get((settled.row.model, settled.row.tier))
        return () if asking is None else asking.follow(settled)

    truth = _truth(services, random.Random(question.seed))
    simulator = Simulator(scheduler, truth, follow=follow)
    return simulator.simulate(merged(*streams), until_s=whole_s)


def _restored(fit: ServiceModelFit) -> ServiceTimeModel:
    try:
        return restored(Packing(fit.packing), fit.coefficients)
    except ValueError:
        raise NoData(
            f"The service-time model of {fit.model} in Prometheus is of another version; upgrade"
            " the dashboard and the predictor together."
        ) from None


def _truth(
    services: Mapping[str, Sequence[ServiceModelFit]], rng: random.Random
) -> Callable[[Batch], float]:
    known = {
        (model, Packing(fit.packing)): (_restored(fit), fit.error_ratio / SIGMAS_OF_MEDIAN_ERROR)
        for model, fits in services.items()
        for fit in fits
    }

    def takes_s(batch: Batch) -> float:
        service, sigma = known[batch.model, batch.packing]
        return service.predict_s(Work.of(batch.rows)) * max(LEAST_FACTOR, rng.gauss(1.0, sigma))

    return takes_s


@dataclass(slots=True)
class _Request:
    """Rows that arrived together: as late as the last of them, and in time if all are."""

    latency_s: float = 0.0
    answered: bool = True
    in_time: bool = True

    def add(self, row: Settlement) -> None:
        self.latency_s = max(self.latency_s, row.latency_s)
        self.answered &= row.outcome is Outcome.OK
        self.in_time &= row.in_time


@dataclass(slots=True)
class _Seen:
    """Sums over what was settled from `start_s` to `end_s` of the simulation."""

    run: Run
    start_s: float
    end_s: float
    tiers: dict[_Tier, dict[object, _Request]] = field(default_factory=lambda: defaultdict(dict))
    device_s: dict[_Tier, float] = field(default_factory=lambda: defaultdict(float))
    busy_s: float = 0.0
    batches: int = 0
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0

    def __post_init__(self) -> None:
        for settled in self.run.settlements:
            if settled.settled_s >= self.start_s:
                row = settled.row
                requests = self.tiers[row.model, row.tier]
                requests.setdefault(settled.request, _Request()).add(settled)
        for executed in self.run.executions:
            took_s = min(executed.finished_s, self.end_s) - max(executed.started_s, self.start_s)
            if took_s > 0.0:
                self._add_batch(executed.batch, took_s)

    def _add_batch(self, batch: Batch, took_s: float) -> None:
        tokens = max(batch.tokens, 1)
        for row in batch.rows:
            self.device_s[row.model, row.tier] += took_s * row.tokens / tokens
        self.busy_s += took_s
        self.batches += 1
        self.rows += batch.size
        self.tokens += tokens
        self.computed_tokens += batch.computed_tokens

    @property
    def counted_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def real_share(self) -> float:
        return self.tokens / max(self.computed_tokens, 1)

    @property
    def requests(self) -> list[_Request]:
        return [request for tier in self.tiers for request in self.of(tier)]

    @property
    def answered(self) -> int:
        return sum(request.answered for request in self.requests)

    def of(self, tier: _Tier) -> list[_Request]:
        return list(self.tiers.get(tier, {}).values())


def _tier_forecast(
    stats: ArrivalStats, seen: _Seen, replicas: int, usd_per_s: float | None
) -> TierForecast:
    requests = seen.of((stats.model, stats.tier))
    latencies_s = sorted(r.latency_s + stats.overhead_s for r in requests if r.answered)
    per_s = replicas / seen.counted_s
    answered_per_s = len(latencies_s) * per_s
    part = seen.device_s[stats.model, stats.tier] / seen.busy_s if seen.busy_s else 0.0
    of_all_usd = None if usd_per_s is None else usd_per_s * replicas * part
    return TierForecast(
        model=stats.model,
        tier=stats.tier,
        p50_s=_quantile(latencies_s, 0.50),
        p95_s=_quantile(latencies_s, 0.95),
        p99_s=_quantile(latencies_s, 0.99),
        offered_per_s=stats.requests_per_s,
        answered_per_s=answered_per_s,
        good_per_s=sum(r.in_time for r in requests) * per_s,
        refused_per_s=sum(not r.answered for r in requests) * per_s,
        usd_per_1000=_per_1000(of_all_usd, answered_per_s),
    )


def _quantile(ascending: Sequence[float], quantile: float) -> float | None:
    if not ascending:
        return None
    return ascending[min(math.ceil(quantile * len(ascending)), len(ascending)) - 1]


def _per_1000(usd_per_s: float | None, answered_per_s: float) -> float | None:
    if usd_per_s is None or not answered_per_s:
        return None
    return 1000.0 * usd_per_s / answered_per_s
