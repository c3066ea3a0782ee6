"""Queries as text: what a reader typed stays a value, and plots stay within their points."""

import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.ports import ALL, Filter, Pool, Window
from dashboard.sources import promql
from dashboard.sources.arrivals import dispersion, lengths_of, unless_chance
from dashboard.sources.connection import Line
from dashboard.sources.coverage import first_seen_s
from dashboard.sources.latency import quantile
from dashboard.sources.rules import rule_file
from predictor.metrics import names
from predictor.simulation.traffic import gamma_times
from tests.dashboard.prometheus_process import WHY

ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}


@given(st.text())
def test_any_value_is_one_string_literal(value: str) -> None:
    literal = promql.quoted(value)
    assert literal[0] == literal[-1] == '"'
    assert "\n" not in literal
    inner = literal[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner
    assert re.sub(r"\\(.)", lambda escaped: ESCAPES[escaped[1]], literal[1:-1]) == value


def test_several_values_are_matched_literally() -> None:
    assert promql.one_of("model", ["a.b", "c|d"]) == 'model=~"a\\\\.b|c\\\\|d"'
    assert promql.one_of("model", ['x",tier=~".*']) == 'model="x\\",tier=~\\".*"'


def test_a_pool_is_asked_for_by_either_label() -> None:
    spot = promql.selectors("up", Filter(pools=(Pool.SPOT,)))
    assert spot == ['up{pool=~"(?i).*spot.*"}', 'up{capacity_type=~"(?i).*spot.*"}']
    assert promql.selectors("up", Filter(pools=tuple(Pool))) == ["up{}"]


def test_a_filter_names_no_label_that_a_metric_lacks() -> None:
    where = Filter(models=("m",), tiers=("t",))
    assert promql.selectors("x", where, ("model",)) == ['x{model="m"}']


@given(st.floats(1.0, 400 * 86400.0), st.floats(0.5, 300.0), st.integers(1, 5000))
def test_a_grid_keeps_to_its_window_and_its_points(
    lasts_s: float, scrape_s: float, points: int
) -> None:
    window = Window(1_700_000_000.0, 1_700_000_000.0 + lasts_s)
    grid = promql.grid(window, scrape_s, points)
    assert 1 <= len(grid.times_s) <= max(2, min(points, promql.MAX_POINTS))
    assert grid.end_s <= window.end_s < grid.end_s + max(scrape_s + 1, grid.step_s)
    assert grid.step_s >= scrape_s


@given(st.integers(2, 400 * 86400), st.integers(0, 400 * 86400))
def test_where_data_begins_is_found_to_a_second_in_four_looks(lasts_s: int, age_s: int) -> None:
    end_s = 1_700_000_000.25
    begins_s = end_s - age_s
    grids = []

    def has_value(grid: promql.Grid) -> set[float]:
        grids.append(grid)
        return {time_s for time_s in grid.times_s if time_s >= begins_s}

    window = Window(end_s - lasts_s, end_s)
    found_s = first_seen_s(window, has_value)
    assert found_s is not None
    assert 0.0 <= found_s - max(begins_s, window.start_s) <= 1.0
    assert len(grids) <= (1 if age_s > lasts_s + lasts_s / 299 + 2 else 4)
    assert all(len(grid.times_s) <= promql.MAX_POINTS for grid in grids)


def test_where_nothing_is_no_beginning_is_found() -> None:
    assert first_seen_s(Window(0.0, 1000.0), lambda grid: set()) is None


def test_rates_name_the_recording_rule_where_there_is_one() -> None:
    raw = promql.rate(promql.OFFERED, ("tier",), ALL, 300)
    assert "rate(headway_offered_requests_total{" in raw
    assert "[300s]" in raw
    recorded = promql.rate(promql.OFFERED, ("tier",), ALL, 300, recorded=True)
    assert "sum_over_time(headway:offered_requests_total:rate1m{" in recorded
    assert "[299s]) / 5" in recorded


def test_every_metric_asked_for_is_one_that_the_predictor_has() -> None:
    known = {each.name: each for each in vars(names).values() if isinstance(each, names.Metric)}
    for counter in promql.recorded_counters():
        base = counter.name
        for ending in ("_bucket", "_sum", "_count"):
            base = base.removesuffix(ending)
        metric = known[base]
        assert set(counter.labels) - {"le"} <= set(metric.labels)
    for name in (
        *(promql.QUEUE_DEPTH, promql.BACKLOG, promql.OFFERED_LOAD, promql.COEFFICIENT),
        *(promql.MODEL_ERROR, promql.MODEL_BATCHES, promql.NVML_UTILISATION, promql.GENERATION),
        *(promql.LAST_REFUSAL, promql.ENGINES),
    ):
        assert name in known


@pytest.mark.skipif(shutil.which("promtool") is None, reason=WHY)
def test_prometheus_takes_the_recording_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(rule_file())
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_quantile_of_nothing_is_none_and_beyond_all_bounds_the_last_one() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, math.inf: 0.0}, 0.5) is None
    assert quantile({1.0: 1.0, 2.0: 1.0, math.inf: 4.0}, 0.9) == 2.0
    assert quantile({1.0: 1.0, 2.0: 3.0, math.inf: 3.0}, 0.5) == pytest.approx(1.25)


@pytest.mark.parametrize("burstiness", [0.0, 1.0, 4.0])
def test_counts_tell_how_bursty_the_gaps_were(burstiness: float) -> None:
    values = {0.0: 0.0}
    next_s = 5.0
    times_s = gamma_times(200.0, 6000.0, random.Random(1), burstiness)
    for counted, time_s in enumerate(times_s):
        while time_s >= next_s:
            values[next_s] = float(counted)
            next_s += 5.0
    assert dispersion(Line({}, values)) == pytest.approx(burstiness, rel=0.25, abs=0.02)


def test_a_few_counts_of_poisson_arrivals_pass_for_nothing_else() -> None:
    rng = random.Random(2)
    seen = []
    for _ in range(400):
        times_s = list(gamma_times(100.0, 20.0, rng, 1.0))
        values = {float(now): float(sum(time < now for time in times_s)) for now in range(21)}
        found = dispersion(Line({}, values))
        assert found is not None
        seen.append(unless_chance(found, len(values)))
    assert sum(found != 1.0 for found in seen) <= 12
    assert unless_chance(2.0, 100) == 2.0
    assert unless_chance(1.4, 100) == 1.0
    assert unless_chance(0.0, 20) == 0.0


def test_a_rate_that_drifts_is_no_burst() -> None:
    values = {5.0 * step: step * 1000.0 + step * step for step in range(200)}
    found = dispersion(Line({}, values))
    assert found is not None
    assert found < 0.01


def test_a_restart_is_no_burst_and_few_counts_say_nothing() -> None:
    steady = {float(step): 100.0 * (step % 50) for step in range(100)}
    assert dispersion(Line({}, steady)) == pytest.approx(0.0)
    assert dispersion(Line({}, {0.0: 0.0, 1.0: 5.0})) is None
    assert dispersion(Line({}, {float(step): 7.0 for step in range(20)})) is None


@given(
    st.dictionaries(st.sampled_from([1.0, 8.0, 64.0, 512.0, math.inf]), st.floats(0.1, 100.0)),
    st.floats(1.0, 1000.0),
)
def test_lengths_have_the_mean_that_was_measured(
    counts: dict[float, float], mean_tokens: float
) -> None:
    total = 0.0
    cumulative = {bound: (total := total + counts[bound]) for bound in sorted(counts)}
    lengths = lengths_of(cumulative, mean_tokens)
    assert sum(share for _, share in lengths) == pytest.approx(1.0)
    mean = sum(tokens * share for tokens, share in lengths)
    assert mean == pytest.approx(mean_tokens, abs=1.0)
