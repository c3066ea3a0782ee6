"""Exactly the rows at fault fail, in a bounded number of runs."""

import math
from array import array

from hypothesis import given
from hypothesis import strategies as st

from predictor.core.rows import Packing, Row
from predictor.engine.isolation import run_isolated
from tests.engine.fakes import Sums


def rows_of(values: list[int]) -> list[Row]:
    return [Row("sums", "tier", 1, 0.0, payload=array("q", [each]).tobytes()) for each in values]


@given(st.lists(st.integers(-2, 9), min_size=1, max_size=64))
def test_exactly_the_bad_rows_fail(values: list[int]) -> None:
    runner = Sums()
    ran = run_isolated(runner, rows_of(values), Packing.PADDED)
    for value, result in zip(values, ran.results, strict=True):
        assert isinstance(result, Exception) == (value < 0)
        assert value < 0 or result == array("q", [value]).tobytes()
    bad = sum(value < 0 for value in values)
    assert len(runner.ran) <= 1 + 2 * bad * math.ceil(
        math.log2(len(values)) if len(values) > 1 else 0
    )
    assert ran.at_once == (bad == 0)
    assert not ran.exhausted


@given(st.integers(1, 64), st.integers(1, 64))
def test_memory_is_found_by_halving(count: int, room: int) -> None:
    ran = run_isolated(Sums(room=room), rows_of([1] * count), Packing.PADDED)
    assert all(result == array("q", [1]).tobytes() for result in ran.results)
    assert all(work.rows > room for work in ran.exhausted)
    assert bool(ran.exhausted) == (count > room)
