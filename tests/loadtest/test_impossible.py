"""Figures that cannot be say so: above the bound, above the simulator, or k6's own limit."""

import math
from pathlib import Path

import pytest

from loadtest.bench.capacity import Capacity
from loadtest.capacity import MEASURED, Found, shortfall, table_of
from loadtest.k6.result import K6Result, Threshold
from predictor.core.parameters import Policy
from tests.loadtest.fake_k6 import tier_result

LATE_K6 = Threshold(text="k6 itself sends late", seen="90 ms", ok=False, validity=True)


def run(*thresholds: Threshold, dropped: int = 0, lag_ms: float = 0.0) -> K6Result:
    return K6Result(
        script="steady",
        settings={},
        seconds=2.0,
        dropped=dropped,
        tiers={"interactive": tier_result(100, latency_ms=300.0)},
        thresholds_ok=all(each.ok for each in thresholds),
        thresholds=thresholds,
        lag_p99_ms=lag_ms,
        folder=Path(),
    )


def found(
    measured: float,
    bound: float = 120.0,
    predicted: float = 100.0,
    *,
    stopped_by: str = "p99 250 ms",
    error: float | None = 0.4,
) -> Found:
    report = run() if measured else None
    return Found(
        policy=Policy.ADAPTIVE,
        measured=Capacity(
            rate_per_s=measured, report=report, failing_rate_per_s=measured * 1.03, settled=True
        ),
        bound_per_s=bound,
        predicted_per_s=predicted,
        mean_tokens=50.0,
        stopped_by=stopped_by,
        model_error=error,
    )


def column(of: Found) -> dict[str, str]:
    return dict(zip(MEASURED, (row[1] for row in table_of([of], 200.0).rows), strict=True))


def notes(of: Found) -> str:
    return "\n".join(table_of([of], 200.0).notes)


def test_what_can_be_is_left_as_it_is() -> None:
    told = column(found(95.0))
    assert told["capacity ÷ bound"] == "0.79"
    assert told["capacity ÷ simulator's"] == "0.95"
    assert notes(found(95.0)) == ""


@pytest.mark.parametrize(("bound", "predicted"), [(50.8, 48.0), (50.8, 1.0)])
def test_more_than_the_bound_is_invalid(bound: float, predicted: float) -> None:
    told = column(found(100.0, bound, predicted))
    assert told["bound, requests/s"] == "INVALID (50.8)"
    assert told["capacity ÷ bound"] == "INVALID (1.97)"
    said = notes(found(100.0, bound, predicted))
    assert "adaptive: the bound is INVALID: 1.97 times as much was measured" in said
    assert "the learned service-time model (median error 40%) does not fit" in said
    assert "search again when nothing else uses the machine" in said


@pytest.mark.parametrize(("predicted", "ratio"), [(1.0, "100.00"), (0.0, "inf"), (50.0, "2.00")])
def test_more_than_the_simulator_is_invalid(predicted: float, ratio: str) -> None:
    told = column(found(100.0, 120.0, predicted))
    assert told["capacity ÷ bound"] == "0.83"
    assert told["simulator's capacity, requests/s"] == f"INVALID ({predicted:.1f})"
    assert told["capacity ÷ simulator's"] == f"INVALID ({ratio})"
    said = notes(found(100.0, 120.0, predicted, error=None))
    assert f"the simulator's capacity is INVALID: the server held {ratio} times" in said


def test_nothing_measured_is_no_contradiction() -> None:
    told = column(found(0.0, predicted=0.0))
    assert told["capacity ÷ simulator's"] == "0.00"
    assert not math.isnan(found(0.0, predicted=0.0).ratio_to_prediction)


def test_a_generator_that_gave_up_bounds_nothing() -> None:
    busy = shortfall(run(dropped=3, lag_ms=80.0), 200.0)
    assert busy.startswith("INVALID: the generator could not keep up: k6 dropped 3 iterations")
    assert notes(found(95.0, stopped_by=busy)) == (
        "adaptive: what gave up was k6, not the server; a lower bound"
    )
    assert column(found(0.0, stopped_by=busy))["capacity, requests/s"] == "INVALID"


def test_a_run_whose_k6_was_late_is_invalid_and_no_failure() -> None:
    slow = Threshold(text="p99 at most 200 ms", seen="300 ms", ok=False, validity=False)
    assert run(slow).verdict == "FAILED: p99 at most 200 ms; seen 300 ms"
    late = run(slow, LATE_K6, lag_ms=90.0)
    assert late.verdict.startswith("INVALID: p99 at most 200 ms; seen 300 ms. k6 itself")
    assert shortfall(late, 200.0).startswith("INVALID: ")
    assert run().verdict == "passed"
