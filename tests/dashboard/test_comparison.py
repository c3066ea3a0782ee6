"""What Preview says of an edit: simulated beside simulated, and measured beside both."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dashboard.ports import ArrivalStats, Forecast, Pool, TierForecast, TierNow
from dashboard.preview import preview
from dashboard.views.preview import (
    Comparison,
    Measured,
    Whole,
    blended_price,
    compare,
    doubts,
    forecast_table,
    tiles,
    whole_of,
)
from tests.dashboard.fakes import FakeMetrics
from tests.dashboard.test_preview import MIX, MODEL, parameters, question
from tests.dashboard.test_views import PRICES, SPOT, WINDOW

NOTHING = Measured((), Whole(None, None, None, None))
TIER = TierForecast("m", "interactive", 0.018, 0.05, 0.06, 50.0, 50.0, 49.0, 1.0, 0.001)
FORECAST = Forecast((TIER,), 0.21, 0.18, 2.5, 0.001, 60.0, 3000, "")


def measured(p99_s: float = 0.06, **changed: Any) -> Measured:
    tier = TierNow("m", "interactive", 0.018, 0.05, p99_s, 50, 50, 49, 1, 0, 0, 0, 0.2)
    return Measured((tier,), Whole(0.24, 0.2, 0.0011, 2.7), **changed)


def lines(found: Comparison) -> Mapping[str, Mapping[str, str | float | None]]:
    return {str(line["figure"]): line for line in forecast_table(found)}


@pytest.mark.parametrize("burstiness", [0.0, 1.0, 16.0, 50.0])
@pytest.mark.parametrize("price", [None, 2.0])
def test_nothing_edited_changes_nothing(burstiness: float, price: float | None) -> None:
    arrivals = (
        ArrivalStats(MODEL, "interactive", 75.0, 1.0, burstiness, MIX),
        ArrivalStats(MODEL, "bulk", 20.0, 2.5, burstiness, MIX),
    )
    asked = question(arrivals=arrivals, usd_per_replica_hour=price)
    found = compare(preview, asked, parameters(), NOTHING)
    assert {line["change by the edit"] for line in forecast_table(found)} <= {"none", "-"}
    # An edit that is made and taken back simulates again, and sees the same.
    assert preview(replace(asked, parameters=parameters())) == found.in_force


@pytest.mark.parametrize("burstiness", [0.0, 1.0, 16.0, 50.0])
@pytest.mark.parametrize("rows", [1.0, 3.0])
def test_requests_of_a_burst_stay_requests(burstiness: float, rows: float) -> None:
    """Many of them come at the same instant, as far as a float can tell."""
    arrivals = (ArrivalStats(MODEL, "interactive", 40.0, rows, burstiness, MIX),)
    seen = preview(question(arrivals=arrivals, duration_s=100.0))
    settled_per_s = seen.tiers[0].answered_per_s + seen.tiers[0].refused_per_s
    # What came in the first seconds is not counted, and of bursts there may be more or less.
    assert settled_per_s == pytest.approx(40.0, rel=0.03 + 0.01 * burstiness**0.5)
    assert seen.requests == pytest.approx(settled_per_s * seen.simulated_s)


def test_an_edit_is_held_against_the_same_traffic() -> None:
    found = compare(preview, question(300.0), parameters(max_batch_size=2), NOTHING)
    goodput = lines(found)["goodput"]
    assert found.edited.mean_batch_rows <= 2.0 < found.in_force.mean_batch_rows
    assert [tier.offered_per_s for tier in found.edited.tiers] == [300.0]
    assert str(goodput["change by the edit"]).startswith("-")


def test_all_three_sides_stand_side_by_side() -> None:
    slower = replace(FORECAST, tiers=(replace(TIER, p99_s=0.09, refused_per_s=0.0),), busy=0.33)
    found = Comparison(FORECAST, slower, measured())
    assert lines(found)["p99"] == {
        "tier": "m/interactive",
        "figure": "p99",
        "edited, simulated": "90 ms",
        "in force, simulated": "60 ms",
        "change by the edit": "+50.0%",
        "measured": "60 ms",
        "simulator's error": "+0%",
    }
    assert lines(found)["refused"]["change by the edit"] == "-100.0%"
    assert tiles(found)["Device busy"] == ("33%", "in force 21%, measured 24%")
    back = lines(Comparison(slower, FORECAST, measured()))
    assert back["refused"]["change by the edit"] == "from 0.0/s"
    assert doubts(found) == []


@pytest.mark.parametrize("p99_s", [0.03, 0.16])
def test_a_simulator_that_is_far_off_is_said(p99_s: float) -> None:
    found = Comparison(FORECAST, FORECAST, measured(p99_s))
    (said,) = doubts(found)
    error = {0.03: ("+100%", "100%"), 0.16: ("-62%", "62%")}[p99_s]
    assert lines(found)["p99"]["simulator's error"] == error[0]
    assert said.startswith(f"The simulator is {error[1]} off in p99 of m/interactive: 60 ms sim")


def test_an_edit_within_the_measured_time_is_said() -> None:
    (said,) = doubts(Comparison(FORECAST, FORECAST, measured(generations=(4, 5))))
    assert said.startswith("Generation 5 came into force within this time range")


def test_what_was_not_measured_is_missing_and_no_error() -> None:
    found = Comparison(FORECAST, FORECAST, NOTHING)
    assert {line["measured"] for line in forecast_table(found)} == {"-"}
    assert {line["simulator's error"] for line in forecast_table(found)} == {"-"}
    assert tiles(found)["1,000 requests"] == ("$0.00100", "in force $0.00100, measured -")
    assert doubts(found) == []


def test_a_mean_price_needs_every_pool() -> None:
    fleet = FakeMetrics().fleet
    assert blended_price(PRICES, fleet) == 1.5
    assert blended_price({Pool.SPOT: SPOT}, fleet) is None


def test_the_whole_is_what_the_window_says() -> None:
    metrics = FakeMetrics()
    whole = whole_of(metrics.utilisation(WINDOW), metrics.batches(WINDOW), 0.001)
    assert (whole.busy, whole.usd_per_1000) == (0.71, 0.001)
    assert whole_of(None, None, None) == Whole(None, None, None, None)
