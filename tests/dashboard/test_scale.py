"""Long windows from a real Prometheus: what is asked stays bounded, and is asked once."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import wiring
from dashboard.ports import ALL, NoData, Split, Window
from dashboard.sources import promql
from dashboard.sources.connection import Connection
from dashboard.sources.prometheus import PrometheusMetrics
from dashboard.sources.promql import Grid
from dashboard.sources.reading import Reading
from dashboard.views.times import RANGES_S, window_of
from loadtest.bench.past import PER_S
from loadtest.bench.prometheus import running_prometheus
from loadtest.bench.scenarios.dashboard_scale import write_past
from tests.dashboard.conftest import APP, RUN_LIMIT_S
from tests.dashboard.fakes import FakeParts
from tests.dashboard.prometheus_process import WHY, missing
from tests.dashboard.test_pages import assert_sound

pytestmark = pytest.mark.skipif(missing, reason=WHY)

REPLICAS = 3
HOURS = 3


@dataclass(frozen=True)
class Past:
    url: str
    now_s: float

    @property
    def metrics(self) -> PrometheusMetrics:
        return PrometheusMetrics(self.url, lambda: self.now_s)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    data = tmp_path_factory.mktemp("past")
    now_s = time.time()
    assert write_past(data, HOURS * 3600, REPLICAS, now_s) > 100_000
    with running_prometheus(data=data) as url:
        yield Past(url, now_s)


def test_the_past_is_read_as_it_was_written(past: Past) -> None:
    metrics, week = past.metrics, window_of("7 d", past.now_s)
    assert Reading(metrics._connection, week, ALL).recorded
    for window in (week, window_of("5 min", past.now_s)):
        found = {tier.tier: tier for tier in metrics.tiers(window)}
        assert found.keys() == PER_S.keys()
        for tier, per_s in PER_S.items():
            # The recorded curve is between 0.4 and 1 of the level.
            assert 0.4 <= found[tier].offered_per_s / per_s / REPLICAS <= 1.02
            assert found[tier].p50_s == pytest.approx(0.045, rel=0.05)
    uses = metrics.pools(week)
    assert sum(use.replicas for use in uses) == pytest.approx(REPLICAS, rel=0.02)
    assert len(metrics.replicas()) == REPLICAS


def test_no_range_query_has_more_points_than_allowed(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[Grid] = []
    over = Connection.over

    def noted(self: Connection, query: str, grid: Grid) -> Any:
        grids.append(grid)
        return over(self, query, grid)

    monkeypatch.setattr(Connection, "over", noted)
    metrics = past.metrics
    questions: list[Callable[[Window], Any]] = [
        *(metrics.tiers, metrics.traffic, metrics.latency_heatmap, metrics.stages),
        *(metrics.batches, metrics.utilisation, metrics.pools, metrics.arrivals, metrics.edits),
        *(lambda window, by=by: metrics.latency(window, 0.99, by=by) for by in Split),
    ]
    for name in RANGES_S:
        for question in questions:
            asked = len(grids)
            with suppress(NoData):  # of each replica, only what the Overview reads is there
                question(window_of(name, past.now_s))
            assert all(len(grid.times_s) <= promql.MAX_POINTS for grid in grids[asked:])
    assert len(grids) > len(RANGES_S) * len(questions)


@pytest.mark.parametrize("page", ["overview", "cost"])
def test_a_second_reader_asks_prometheus_nothing(
    page: str, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = Connection._ask

    def noted(self: Connection, call: Any, query: str, **arguments: Any) -> Any:
        asked.append(query)
        return ask(self, call, query, **arguments)

    monkeypatch.setattr(Connection, "_ask", noted)
    parts = replace(FakeParts().parts(), metrics=past.metrics, now=lambda: past.now_s)
    monkeypatch.setattr(wiring, "parts", lambda: parts)
    st.cache_data.clear()
    for reader in ("first", "second"):
        app = AppTest.from_file(str(APP), default_timeout=RUN_LIMIT_S)
        app.query_params["range"] = "7 d"
        if page != "overview":
            app.switch_page(f"app_pages/{page}.py")
        app.run()
        assert_sound(app)
        if reader == "first":
            assert any("headway:" in query for query in asked)  # so it is the long window
        else:
            assert asked == []
        asked.clear()
