"""The adaptive policy against exact optima, in virtual time.

All rows are alike: alpha = 5 ms a batch, beta = 1 ms a row, so rho = rate * beta.
"""

import random
from collections.abc import Sequence
from functools import cache

import pytest

from predictor.core.rows import Outcome, Packing
from predictor.policy import adaptive
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.optimum import clairvoyant_goodput, optimal_batching
from predictor.simulation.simulator import Arrival, Run, Simulator
from predictor.simulation.traffic import poisson_traffic
from tests.policy.worlds import MODEL, parameters, simulate, truth

ALPHA_S = 5e-3
BETA_S = 1e-3
MAX_ROWS = 64


def line_s(rows: int) -> float:
    return ALPHA_S + BETA_S * rows


def ours(arrivals: Sequence[Arrival], slo_s: float | None) -> Run:
    slo_ms = None if slo_s is None else slo_s * 1e3
    given = parameters(slo_ms=slo_ms, max_batch_size=MAX_ROWS)
    return simulate(given, arrivals, Packing.PACKED, ALPHA_S, BETA_S)


def mean_latency_of_table_s(starts: Sequence[int], arrivals: Sequence[Arrival]) -> float:
    """Mean latency if the device starts `starts[n]` rows whenever it is free and n wait."""
    times = [arrival.time_s for arrival in arrivals]
    now_s = total_s = 0.0
    served = 0
    while served < len(times):
        arrived = served
        while arrived < len(times) and times[arrived] <= now_s:
            arrived += 1
        size = starts[min(arrived - served, len(starts) - 1)]
        if size == 0:
            if arrived == len(times):
                size = arrived - served  # nobody comes any more
            else:
                now_s = times[arrived]
                continue
        now_s += line_s(size)
        total_s += sum(now_s - times[row] for row in range(served, served + size))
        served += size
    return total_s / len(times)


@pytest.mark.parametrize(
    ("rho", "max_queue"), [(0.1, 100), (0.3, 120), (0.5, 160), (0.7, 200), (0.9, 250)]
)
def test_mean_latency_is_within_1_percent_of_the_optimum(rho: float, max_queue: int) -> None:
    rate = rho / BETA_S
    best = optimal_batching(rate, line_s, MAX_ROWS, max_queue)
    arrivals = poisson_traffic(rate, 30, seed=5, tokens=1)
    mean_s = ours(arrivals, slo_s=None).mean_latency_s()
    assert mean_s <= 1.01 * mean_latency_of_table_s(best.starts, arrivals)


def capacity_per_s(slo_s: float) -> float:
    """At the target batch: the largest b with 2 l(b) <= SLO."""
    target = max(b for b in range(1, MAX_ROWS + 1) if 2 * line_s(b) <= slo_s)
    return target / line_s(target)


def clairvoyant(arrivals: Sequence[Arrival], slo_s: float) -> int:
    return clairvoyant_goodput([each.time_s for each in arrivals], slo_s, line_s, MAX_ROWS)


@pytest.mark.parametrize("overload", [1.0, 1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("slo_in_l8", [4, 8])
def test_goodput_under_overload(slo_in_l8: int, overload: float) -> None:
    slo_s = slo_in_l8 * line_s(8)
    good = possible = 0
    for seed in (3, 4):
        arrivals = poisson_traffic(overload * capacity_per_s(slo_s), 2.0, seed, tokens=1)
        good += sum(each.in_time for each in ours(arrivals, slo_s).settlements)
        possible += clairvoyant(arrivals, slo_s)
    assert good >= 0.96 * possible


@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("slo_in_l8", [4, 8])
def test_highest_rate_within_the_slo(slo_in_l8: int, seed: int) -> None:
    """R*, the highest rate at which 99% are in time: nobody's is over ours / 0.95."""
    slo_s = slo_in_l8 * line_s(8)
    duration_s = 3.0  # long against the SLO: the first rows find an empty queue

    def traffic(load: float) -> list[Arrival]:
        return poisson_traffic(load * capacity_per_s(slo_s), duration_s, seed, tokens=1)

    low, high = 0.7, 1.1
    while high - low > 0.01:
        load = 0.5 * (low + high)
        settlements = ours(traffic(load), slo_s).settlements
        holds = sum(each.in_time for each in settlements) >= 0.99 * len(settlements)
        low, high = (load, high) if holds else (low, load)
    beyond = traffic(low / 0.95)
    assert clairvoyant(beyond, slo_s) < 0.99 * len(beyond)


TOKEN_S = 1e-5
SLO_S = 0.1


def mixed(ratio: float, packing: Packing, duration_s: float = 8.0, order: str = "deadline") -> Run:
    """The benchmark's mix of lengths at `ratio` of the padding-free bound."""
    arrivals = poisson_traffic(ratio * bound_per_s(), duration_s, seed=1)
    given = parameters(slo_ms=SLO_S * 1e3, max_batch_size=MAX_ROWS, order=order)
    return simulate(given, arrivals, packing, ALPHA_S, TOKEN_S)


def bound_per_s() -> float:
    return 1 / (ALPHA_S / MAX_ROWS + TOKEN_S * 88.9)


@pytest.mark.parametrize(("packing", "ratio"), [(Packing.PADDED, 0.48), (Packing.PACKED, 0.9)])
def test_mixed_lengths_within_the_slo(packing: Packing, ratio: float) -> None:
    ran = mixed(ratio, packing)
    assert sum(each.in_time for each in ran.settlements) >= 0.99 * len(ran.settlements)


@pytest.mark.parametrize(("packing", "ratio"), [(Packing.PADDED, 0.5), (Packing.PACKED, 0.92)])
@pytest.mark.parametrize("overload", [1.5, 2.0])
def test_overload_keeps_goodput_and_refuses_at_the_door(
    packing: Packing, ratio: float, overload: float
) -> None:
    ran = mixed(overload * ratio, packing)
    assert ran.goodput(8.0) >= 0.95 * ratio * bound_per_s()
    refused = [each for each in ran.settlements if each.outcome is not Outcome.OK]
    assert all(each.outcome is Outcome.SHED for each in refused)
    assert sum(each.latency_s == 0 for each in refused) >= 0.5 * len(refused)


def test_the_split_beats_taking_padded_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.4 of the bound, where rows in order of deadline have long fallen behind."""

    def share_in_time() -> float:
        ran = mixed(0.4, Packing.PADDED, duration_s=6.0)
        return sum(each.in_time for each in ran.settlements) / len(ran.settlements)

    assert share_in_time() >= 0.999
    monkeypatch.setattr(adaptive, "PADDING_WORTH_SPLITTING", 1.0)
    assert share_in_time() < 0.95


def test_short_rows_first_lowers_the_mean() -> None:
    fair, short = (mixed(0.85, Packing.PACKED, order=order) for order in ("arrival", "shortest"))
    assert short.mean_latency_s() < fair.mean_latency_s()


@cache
def goodput_with(model_factor: float, noise: float, *, learn: bool) -> float:
    """At 1.3x overload, of a scheduler that thinks that batches take `model_factor` times as
    long as they do, on a device whose times vary by +-`noise`."""
    made = Scheduler(parameters(slo_ms=SLO_S * 1e3, max_batch_size=MAX_ROWS))
    weights = (model_factor * ALPHA_S, 0.0, model_factor * TOKEN_S, 0.0)
    made.add_model(MODEL, [ServiceTimeModel(Packing.PACKED, weights)])
    exact = truth(ALPHA_S, TOKEN_S)
    rng = random.Random(4)
    simulator = Simulator(
        made, lambda batch: exact(batch) * rng.uniform(1 - noise, 1 + noise), learn=learn
    )
    return simulator.simulate(poisson_traffic(1.3 * bound_per_s(), 6.0, seed=1)).goodput(6.0)


@pytest.mark.parametrize(("noise", "keeps"), [(0.1, 0.97), (0.2, 0.9)])
def test_noisy_service_times_cost_little_goodput(noise: float, keeps: float) -> None:
    assert goodput_with(1.0, noise, learn=True) >= keeps * goodput_with(1.0, 0.0, learn=True)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.2])
def test_a_wrong_first_guess_is_learned(factor: float) -> None:
    assert goodput_with(factor, 0.0, learn=True) >= 0.95 * goodput_with(1.0, 0.0, learn=True)


@pytest.mark.parametrize(("factor", "keeps"), [(1.2, 0.95), (0.9, 0.75), (0.8, 0.6)])
def test_a_model_that_never_learns_does_not_collapse(factor: float, keeps: float) -> None:
    """Too short a prediction costs more than too long a one: whole batches end just late."""
    assert goodput_with(factor, 0.0, learn=False) >= keeps * goodput_with(1.0, 0.0, learn=False)


def test_a_slowing_device_is_learned() -> None:
    """Half way the device takes twice as long; goodput settles at what that can do."""
    arrivals = poisson_traffic(0.9 * bound_per_s(), 20.0, seed=1)
    given = parameters(slo_ms=SLO_S * 1e3, max_batch_size=MAX_ROWS)
    made = Scheduler(given)
    made.add_model(MODEL, [ServiceTimeModel(Packing.PACKED, (ALPHA_S, 0.0, TOKEN_S, 0.0))])
    exact = truth(ALPHA_S, TOKEN_S)
    simulator = Simulator(made, lambda batch: exact(batch) * (1 if simulator.now_s < 10 else 2))
    ran = simulator.simulate(arrivals)
    late = [each for each in ran.settlements if each.row.arrival_s > 11.0]
    assert sum(each.in_time for each in late) / 9.0 >= 0.85 * bound_per_s() / 2
