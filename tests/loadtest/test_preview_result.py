"""What a foretold figure may be off by, and how far chance alone takes a p99."""

import msgspec
import pytest

from dashboard.ports import ArrivalStats, PreviewQuestion, ServiceModelFit
from loadtest.bench.chance import p99_spreads
from loadtest.bench.scenarios.preview_result import Asked, PreviewResult, PreviewRow
from predictor.core.parameters import DEFAULT_PARAMETERS

ROW = PreviewRow(
    setting="adaptive",
    load="0.5",
    tier="interactive",
    asked=Asked.LATENCY,
    rate_per_s=100.0,
    predicted_p50_ms=10.0,
    predicted_p99_ms=22.9,
    p50_ms=10.0,
    p99_ms=20.0,
    seen_p99_ms=19.0,
    predicted_busy=0.50,
    busy=0.54,
    predicted_goodput_per_s=90.0,
    goodput_per_s=100.0,
)


def test_p99_and_busy_are_judged_below_capacity() -> None:
    assert ROW.held
    assert not msgspec.structs.replace(ROW, predicted_p99_ms=23.1).held
    assert not msgspec.structs.replace(ROW, busy=0.56).held


def test_goodput_is_judged_above_it() -> None:
    row = msgspec.structs.replace(ROW, asked=Asked.GOODPUT, predicted_p99_ms=90.0)
    assert not row.held
    assert msgspec.structs.replace(row, predicted_goodput_per_s=104.0).held


def test_the_table_says_by_how_much() -> None:
    table = PreviewResult([msgspec.structs.replace(ROW, predicted_p99_ms=22.0)]).table()
    (cells,) = table.rows
    assert len(cells) == len(table.columns)
    assert "+10%" in cells
    assert cells[-1] == "yes"


def test_chance_takes_a_short_run_further() -> None:
    stats = ArrivalStats("m", "interactive", 200.0, 1.0, 1.0, ((20, 0.5), (200, 0.5)))
    fit = ServiceModelFit("m", "packed", {"fixed": 5e-3, "tokens": 1e-5}, 0.0, 500)
    short = PreviewQuestion(DEFAULT_PARAMETERS, (stats,), (fit,), duration_s=1.0)
    long = PreviewQuestion(DEFAULT_PARAMETERS, (stats,), (fit,), duration_s=10.0)
    of_short, of_long = p99_spreads([short, long])
    assert of_short.keys() == of_long.keys() == {"interactive"}
    assert 0.0 < of_long["interactive"] < of_short["interactive"]
    assert of_short["interactive"] == pytest.approx(0.1, abs=0.1)
