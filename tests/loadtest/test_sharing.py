"""What urgent and bulk requests on one device were promised, from reports of their runs."""

import msgspec
import pytest

from loadtest.bench.plan import Spread
from loadtest.bench.sharing import Sharing
from tests.loadtest.reports import CALM, LATE, NOTHING_ANSWERED

SLO_MS = 200.0
BEST_TOKENS_PER_S = 4 * 8_800.0  # CALM is a quarter of it


def spread(p99_ms: float) -> Spread:
    return Spread(1000, 10.0, 10.0, 20.0, p99_ms, p99_ms + 5.0)


ALONE = msgspec.structs.replace(CALM, latency=spread(20.0), service=spread(10.0))
SHARED = Sharing(
    alone=ALONE,
    interactive=msgspec.structs.replace(CALM, latency=spread(90.0), service=spread(30.0)),
    bulk=msgspec.structs.replace(CALM, finished_tokens=230_000, service=spread(45.0)),
    best_tokens_per_s=BEST_TOKENS_PER_S,
    slo_ms=SLO_MS,
)


def test_p99_may_grow_by_a_slice_and_top_up() -> None:
    assert SHARED.load == pytest.approx(0.25)
    assert SHARED.slice_ms == 50.0
    assert SHARED.growth_ms == 20.0
    assert SHARED.allowed_ms == 20.0 + 50.0 + 20.0
    assert SHARED.is_prompt
    assert SHARED.held
    later = msgspec.structs.replace(CALM, latency=spread(90.1), service=spread(30.0))
    assert not msgspec.structs.replace(SHARED, interactive=later).is_prompt


def test_p99_may_never_be_over_the_slo() -> None:
    assert msgspec.structs.replace(SHARED, slo_ms=89.0).allowed_ms == 89.0
    assert not msgspec.structs.replace(SHARED, slo_ms=89.0).is_prompt


def test_bulk_is_due_what_is_left() -> None:
    assert SHARED.bulk_ratio == pytest.approx(23_000 / (0.75 * BEST_TOKENS_PER_S))
    assert SHARED.is_efficient
    less = msgspec.structs.replace(SHARED.bulk, finished_tokens=220_000)
    assert not msgspec.structs.replace(SHARED, bulk=less).is_efficient


def test_no_answers_hold_nothing() -> None:
    nothing = msgspec.structs.replace(SHARED, interactive=NOTHING_ANSWERED)
    assert not nothing.is_prompt
    assert msgspec.structs.replace(SHARED, interactive=LATE).in_time == 0.5
