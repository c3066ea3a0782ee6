"""The preview beside a simulation made by hand, and what it does with odd questions."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from dashboard.ports import ArrivalStats, NoData, PreviewQuestion, ServiceModelFit
from dashboard.preview import MOST_ROWS, preview
from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.simulation.simulator import Arrival, Simulator
from predictor.simulation.traffic import gamma_times, poisson_traffic

MODEL = "model"
SERVICE = ServiceModelFit(MODEL, "padded", {"fixed": 5e-3, "area": 1e-5}, 0.0, 500)
MIX = tuple((tokens, 0.25) for tokens in (20, 50, 90, 160))


def parameters(**batching: Any) -> Parameters:
    return parse_plain(
        {
            "generation": 1,
            "models": {MODEL: batching},
            "tiers": {
                "interactive": {"priority": 1, "slo_ms": 100, "weight": 10},
                "bulk": {"priority": 2, "max_queue_size": 100_000, "min_share": 0.05},
            },
        }
    )


def question(rate: float = 200.0, *, tier: str = "interactive", **changed: Any) -> PreviewQuestion:
    known: dict[str, Any] = {
        "parameters": parameters(),
        "arrivals": (ArrivalStats(MODEL, tier, rate, 1.0, 1.0, MIX),),
        "service_models": (SERVICE,),
        "duration_s": 30.0,
    }
    return PreviewQuestion(**{**known, **changed})


def test_it_says_what_a_simulation_by_hand_says() -> None:
    service = ServiceTimeModel(Packing.PADDED, (5e-3, 1e-5, 0.0))
    scheduler = Scheduler(parameters(), 1e-3)
    scheduler.add_model(MODEL, [service])
    simulator = Simulator(scheduler, lambda batch: service.predict_s(Work.of(batch.rows)))
    run = simulator.simulate(poisson_traffic(200.0, 60.0, seed=5, tokens=64))
    lengths = ((64, 1.0),)
    arrivals = (ArrivalStats(MODEL, "interactive", 200.0, 1.0, 1.0, lengths),)
    seen = preview(question(arrivals=arrivals, duration_s=60.0))
    (tier,) = seen.tiers
    assert tier.p50_s == pytest.approx(run.latency_quantile_s(0.50), rel=0.1)
    assert tier.p99_s == pytest.approx(run.latency_quantile_s(0.99), rel=0.1)
    assert tier.good_per_s == pytest.approx(run.goodput(60.0), rel=0.05)
    assert seen.busy == pytest.approx(run.busy_s / 60.0, rel=0.05)
    assert (seen.simulated_s, seen.note) == (60.0, "")


@pytest.mark.parametrize("burstiness", [1.0, 4.0, 16.0])
def test_bursts_are_as_by_hand(burstiness: float) -> None:
    service = ServiceTimeModel(Packing.PADDED, (5e-3, 1e-5, 0.0))
    scheduler = Scheduler(parameters(), 1e-3)
    scheduler.add_model(MODEL, [service])
    simulator = Simulator(scheduler, lambda batch: service.predict_s(Work.of(batch.rows)))
    times_s = gamma_times(75.0, 120.0, random.Random(3), burstiness)
    run = simulator.simulate([Arrival(time_s, 64, MODEL, "interactive") for time_s in times_s])
    arrivals = (ArrivalStats(MODEL, "interactive", 75.0, 1.0, burstiness, ((64, 1.0),)),)
    (tier,) = preview(question(arrivals=arrivals, duration_s=120.0)).tiers
    assert tier.p50_s == pytest.approx(run.latency_quantile_s(0.50), rel=0.1)
    in_time = sum(each.in_time for each in run.settlements) / len(run.settlements)
    assert tier.good_per_s / tier.offered_per_s == pytest.approx(in_time, abs=0.04)


def test_the_same_question_has_the_same_answer() -> None:
    assert preview(question()) == preview(question())


def test_overload_is_refused_and_goodput_stays() -> None:
    calm, flooded = preview(question(300.0)), preview(question(1500.0))
    assert calm.tiers[0].refused_per_s < 3.0
    assert flooded.tiers[0].refused_per_s > 200.0
    assert flooded.tiers[0].good_per_s > calm.tiers[0].good_per_s
    assert flooded.busy == pytest.approx(1.0, abs=0.01)


def test_parameters_make_the_difference() -> None:
    small = preview(question(300.0, parameters=parameters(max_batch_size=2)))
    assert small.mean_batch_rows <= 2.0
    window = preview(question(20.0, parameters=parameters(policy="constant", max_wait_ms=50)))
    adaptive = preview(question(20.0))
    assert window.tiers[0].p50_s is not None
    assert adaptive.tiers[0].p50_s is not None
    assert window.tiers[0].p50_s > adaptive.tiers[0].p50_s + 0.02


def test_replicas_part_the_traffic_and_add_up() -> None:
    one, four = preview(question(100.0)), preview(question(400.0, replicas=4))
    assert four.tiers[0].answered_per_s == pytest.approx(400.0, rel=0.05)
    assert four.busy == pytest.approx(one.busy, rel=0.05)


def test_cost_is_the_price_over_what_was_answered() -> None:
    seen = preview(question(100.0, usd_per_replica_hour=3.6, replicas=2))
    answered = seen.tiers[0].answered_per_s
    assert seen.usd_per_1000 == pytest.approx(1000 * 2 * 0.001 / answered)
    assert seen.tiers[0].usd_per_1000 == pytest.approx(seen.usd_per_1000)


def test_useful_leaves_padding_out() -> None:
    seen = preview(question(300.0))
    assert 0.0 < seen.useful < seen.busy
    fit = ServiceModelFit(MODEL, "packed", {"fixed": 5e-3, "tokens": 1e-5}, 0.0, 500)
    unpadded = preview(question(300.0, service_models=(fit,)))
    assert unpadded.useful == pytest.approx(unpadded.busy)


def test_rows_of_a_request_arrive_together_and_count_as_one() -> None:
    arrivals = (ArrivalStats(MODEL, "interactive", 50.0, 3.0, 1.0, MIX),)
    seen = preview(question(arrivals=arrivals))
    assert seen.tiers[0].answered_per_s == pytest.approx(50.0, rel=0.1)
    assert seen.mean_batch_rows >= 2.5


def test_bulk_that_never_ends_is_cut_off_at_the_end_of_the_time() -> None:
    arrivals = (
        ArrivalStats(MODEL, "interactive", 100.0, 1.0, 1.0, MIX),
        ArrivalStats(MODEL, "bulk", 900.0, 1.0, 1.0, MIX),
    )
    seen = preview(question(arrivals=arrivals))
    interactive, bulk = seen.tiers
    assert interactive.good_per_s == pytest.approx(100.0, rel=0.05)
    assert bulk.answered_per_s < 900.0
    assert seen.busy <= 1.0 + 1e-9


def test_more_traffic_than_fits_is_cut_short_and_said() -> None:
    seen = preview(question(4000.0, duration_s=60.0))
    assert seen.simulated_s < 10.0
    assert seen.requests <= MOST_ROWS * 1.05
    assert "instead of 60" in seen.note


def test_a_minute_of_500_requests_a_second_is_simulated_whole(
    record_property: Callable[[str, object], None],
) -> None:
    """How long it takes is told in the report and not judged: that is the machine's affair."""
    arrivals = (
        ArrivalStats(MODEL, "interactive", 300.0, 1.0, 1.0, MIX),
        ArrivalStats(MODEL, "bulk", 200.0, 1.0, 1.0, MIX),
    )
    began_s = time.process_time()
    seen = preview(question(arrivals=arrivals, duration_s=60.0))
    record_property("preview CPU seconds", time.process_time() - began_s)
    assert (seen.simulated_s, seen.note) == (60.0, "")
    assert seen.requests == pytest.approx(30_000, rel=0.05)


def test_the_edges_time_is_added() -> None:
    arrivals = (ArrivalStats(MODEL, "interactive", 50.0, 1.0, 1.0, MIX, overhead_s=0.25),)
    seen = preview(question(arrivals=arrivals))
    assert seen.tiers[0].p50_s is not None
    assert seen.tiers[0].p50_s > 0.25


def test_a_step_table_is_followed() -> None:
    steps = {"fixed": 1e-3, "tokens": 1e-6, "step_256_8": 0.002, "step_4096_64": 0.010}
    fit = ServiceModelFit(MODEL, "packed", steps, 0.0, 500)
    seen = preview(question(20.0, service_models=(fit,)))
    assert seen.tiers[0].p50_s == pytest.approx(0.002, rel=0.05)


def test_what_is_missing_is_told() -> None:
    with pytest.raises(NoData, match="No traffic"):
        preview(question(0.0))
    with pytest.raises(NoData, match="No service-time model of model"):
        preview(question(service_models=()))
    with pytest.raises(NoData, match="Tier gone has traffic"):
        preview(question(tier="gone"))
    steps = ServiceModelFit(MODEL, "paged", {"fixed": 5e-3, "tokens": 1e-5}, 0.0, 500)
    with pytest.raises(NoData, match="model generates text"):
        preview(question(service_models=(steps,)))
    odd = ServiceModelFit(MODEL, "folded", {}, 0.0, 1)
    with pytest.raises(NoData, match="another version"):
        preview(question(service_models=(odd,)))


def test_a_model_that_errs_makes_latency_spread() -> None:
    noisy = ServiceModelFit(MODEL, "padded", SERVICE.coefficients, 0.2, 500)
    sure, unsure = preview(question()), preview(question(service_models=(noisy,)))
    assert sure.tiers[0].p99_s is not None
    assert unsure.tiers[0].p99_s is not None
    assert unsure.tiers[0].p99_s > sure.tiers[0].p99_s
