"""Virtual time obeys the laws of queues, and the same seed is the same run."""

import math
from itertools import islice, pairwise
from random import Random
from statistics import mean, median, pvariance

import pytest

from predictor.core.parameters import parse_plain
from predictor.core.rows import Outcome, Packing
from predictor.simulation.simulator import Arrival, Run, Simulator, merged
from predictor.simulation.traffic import gamma_times, lognormal_lengths, poisson_traffic
from tests.policy.worlds import MODEL, parameters, scheduler, simulate, truth

ALPHA_S = 5e-3
BETA_S = 1e-3


def run_of(arrivals: list[Arrival], slo_ms: float | None = None, **knobs: int) -> Run:
    return simulate(parameters(slo_ms, **knobs), arrivals, Packing.PACKED, ALPHA_S, BETA_S)


def test_littles_law() -> None:
    """Rows that wait or run, over time = rate * mean latency."""
    duration_s = 20.0
    ran = run_of(poisson_traffic(500, duration_s, seed=2, tokens=1))
    events = sorted(
        [(each.row.arrival_s, 1) for each in ran.settlements]
        + [(each.settled_s, -1) for each in ran.settlements]
    )
    area = present = before_s = 0.0
    for time_s, change in events:
        area += present * (time_s - before_s)
        present += change
        before_s = time_s
    assert present == 0
    rate = len(ran.settlements) / ran.ended_s
    assert area / ran.ended_s == pytest.approx(rate * ran.mean_latency_s(), rel=1e-9)
    assert ran.ended_s == pytest.approx(duration_s, rel=0.01)


def test_utilisation_is_the_work_that_arrived() -> None:
    """With batches of one, rho = rate * l(1)."""
    ran = run_of(poisson_traffic(100, 60, seed=2, tokens=1), max_batch_size=1)
    assert ran.busy_s == pytest.approx(len(ran.settlements) * 6e-3)
    assert ran.busy_s / ran.ended_s == pytest.approx(0.6, rel=0.05)
    waits = mean(each.started_s - each.row.arrival_s for each in ran.answered)
    assert waits == pytest.approx(100 * 6e-3**2 / (2 * (1 - 0.6)), rel=0.1)  # M/D/1


def test_a_row_that_finds_the_device_idle_starts_at_once() -> None:
    ran = run_of(poisson_traffic(5, 60, seed=3, tokens=1))
    alone = [each for each in ran.settlements if each.latency_s == pytest.approx(6e-3)]
    assert len(alone) > 0.9 * len(ran.settlements)
    busy = [(each.started_s, each.finished_s) for each in ran.executions]
    for each in ran.settlements:
        arrived_s = each.row.arrival_s
        if not any(start_s < arrived_s < end_s for start_s, end_s in busy):
            assert each.started_s == arrived_s


def test_the_same_seed_is_the_same_run() -> None:
    def told(seed: int) -> list[tuple[Outcome, float]]:
        ran = run_of(poisson_traffic(1500, 3, seed=seed), slo_ms=50)
        return [(each.outcome, each.settled_s) for each in ran.settlements]

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_rows_of_a_request_are_there_together() -> None:
    made = scheduler(parameters(), Packing.PACKED, ALPHA_S, BETA_S)
    rows = [Arrival(1.0, 10), Arrival(1.0, 10, alongside=True), Arrival(1.0, 10)]
    ran = Simulator(made, truth(ALPHA_S, BETA_S)).simulate(rows)
    assert [run.batch.size for run in ran.executions] == [2, 1]


def test_what_is_unsettled_at_the_end_stays_so() -> None:
    made = scheduler(parameters(), Packing.PACKED, ALPHA_S, BETA_S)
    arrivals = [Arrival(0.0, 10), Arrival(1.0, 10), Arrival(2.0, 10)]
    ran = Simulator(made, truth(ALPHA_S, BETA_S)).simulate(arrivals, until_s=1.0)
    assert len(ran.settlements) == 1


def test_refusals_say_why() -> None:
    document = parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 1, "max_batch_tokens": 100}},
            "tiers": {
                "interactive": {"priority": 1, "slo_ms": 150},
                "bulk": {"priority": 2, "max_queue_size": 2},
            },
        }
    )
    bulk = [Arrival(0.0, 100, tier="bulk")] * 4  # one runs, two wait
    arrivals = [*bulk, Arrival(0.001, 101), Arrival(0.002, 100), Arrival(0.003, 60)]
    made = scheduler(document, Packing.PACKED, ALPHA_S, BETA_S)
    ran = Simulator(made, truth(ALPHA_S, BETA_S)).simulate(arrivals)
    refused = [each for each in ran.settlements if each.outcome is not Outcome.OK]
    assert [(each.outcome, each.settled_s) for each in refused] == [
        (Outcome.QUEUE_FULL, 0.0),
        (Outcome.INVALID, 0.001),
        (Outcome.SHED, 0.002),  # would end at 105 + 105 ms
        (Outcome.SHED, 0.003),
    ]
    assert all(math.isnan(each.started_s) for each in refused)
    assert len(ran.answered) == 3


def test_streams_merge_in_time_order() -> None:
    ours = poisson_traffic(100, 1, seed=1, tokens=1)
    theirs = poisson_traffic(300, 1, seed=2, tokens=1, tier="bulk")
    both = merged(ours, theirs)
    assert len(both) == len(ours) + len(theirs)
    assert all(a.time_s <= b.time_s for a, b in pairwise(both))
    assert {each.model for each in both} == {MODEL}


@pytest.mark.parametrize("burstiness", [0.0, 1.0, 4.0])
def test_gaps_have_the_burstiness_asked_for(burstiness: float) -> None:
    times_s = list(gamma_times(1000, 30, Random(1), burstiness))
    gaps_s = [b - a for a, b in pairwise(times_s)]
    assert mean(gaps_s) == pytest.approx(1e-3, rel=0.05)
    assert pvariance(gaps_s) / mean(gaps_s) ** 2 == pytest.approx(burstiness, abs=1e-6, rel=0.1)


def test_lengths_are_those_of_the_benchmark() -> None:
    lengths = list(islice(lognormal_lengths(Random(1)), 20_000))
    assert (min(lengths), max(lengths)) == (8, 512)
    assert median(lengths) == pytest.approx(64, rel=0.03)
    assert mean(lengths) == pytest.approx(88, rel=0.03)


def test_nothing_to_say_about_nothing() -> None:
    ran = run_of([])
    assert ran.settlements == []
    assert math.isnan(ran.mean_latency_s())
    assert math.isnan(ran.latency_quantile_s(0.99))
    assert ran.goodput(1.0) == 0
