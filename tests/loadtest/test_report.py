"""Sections of BENCHMARKS.md: what is not ours stays as it is."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.__main__ import main
from loadtest.bench.errors import BenchError
from loadtest.bench.report import (
    Machine,
    Table,
    replace_section,
    section_text,
    this_machine,
    write_section,
)
from loadtest.bench.scenarios import capacity, edge, low_load, minilm, order, overload
from loadtest.bench.scenarios.context import Context, Result
from loadtest.bench.scenarios.tiers_result import Overload, TierRow, TiersResult
from loadtest.bench.sharing import Sharing
from predictor.core.parameters import Order
from tests.loadtest.reports import CALM, NOTHING_ANSWERED, SOME_REFUSED

NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
MACHINE = Machine("Some CPU", 2, 24.0, "Some Linux", "3.11.2")
TABLE = Table(title="Edge", intro="What it is.", columns=("a", "b"), rows=[("1", "2|3")])
texts = st.text(st.characters(exclude_characters="<\r"), max_size=50)


def test_a_section_says_what_ran_where_and_when() -> None:
    lines = section_text(TABLE, "python -m loadtest.bench", NOON, MACHINE).splitlines()
    assert lines[0] == "## Edge"
    assert lines[2] == (
        "`python -m loadtest.bench`, 2030-01-02 12:00 UTC, on Some CPU, 2 cores, 24 GiB, "
        "Some Linux, Python 3.11.2."
    )
    assert lines[-3:] == ["| a | b |", "| --- | --- |", "| 1 | 2\\|3 |"]


@given(texts, texts, texts, texts)
def test_only_its_own_section_changes(before: str, after: str, old: str, new: str) -> None:
    document = f"{before}<!-- begin edge -->{old}<!-- end edge -->{after}"
    replaced = replace_section(document, "edge", new)
    assert replaced.startswith(f"{before}<!-- begin edge -->")
    assert replaced.endswith(f"<!-- end edge -->{after}")
    assert replace_section(replaced, "edge", new) == replaced


def test_a_new_section_goes_to_the_end() -> None:
    one = replace_section("", "edge", "first")
    both = replace_section(one, "gpu", "second")
    assert one.startswith("# Benchmarks")
    assert both.startswith(one.rstrip())
    assert both.index("first") < both.index("second")


def test_an_unclosed_section_is_not_guessed_at() -> None:
    with pytest.raises(BenchError, match="end edge"):
        replace_section("<!-- begin edge -->\nsomething precious", "edge", "new")


def test_the_file_is_made_and_then_kept(tmp_path: Path) -> None:
    path = tmp_path / "BENCHMARKS.md"
    write_section(path, "edge", "one")
    path.write_text(path.read_text() + "\nWritten by hand.\n")
    write_section(path, "edge", "two")
    text = path.read_text()
    assert "one" not in text
    assert "two" in text
    assert text.endswith("Written by hand.\n")
    assert list(tmp_path.iterdir()) == [path]


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores > 0
    assert machine.memory_gib > 0


def _edge_row(label: str, requests_per_s: float) -> edge.EdgeRow:
    return edge.EdgeRow(
        label=label,
        requests_per_s=requests_per_s,
        p50_ms=1.0,
        generator_cpu_share=0.5,
        errors=0,
    )


def _overload_row(capacity_per_s: float) -> overload.OverloadRow:
    return overload.OverloadRow(
        label="packed", overload=1.5, capacity_per_s=capacity_per_s, report=SOME_REFUSED
    )


EDGE = edge.EdgeResult(
    http=_edge_row("a", 4000),
    sdk_http=_edge_row("b", 1000),
    grpc=_edge_row("c", 2000),
    sdk_grpc=_edge_row("d", 0),
)
LOW_LOAD = low_load.LowLoadResult(
    no_op_p50_ms=1.0, latency_p50_ms=7.5, overhead_p50_ms=1.8, requests=300, errors=0
)
CAPACITY_ROW = capacity.CapacityRow(
    label="packed",
    rate_per_s=850.0,
    bound_per_s=1000.0,
    required_ratio=0.85,
    tolerant_rate_per_s=880.0,
    p50_ms=40.0,
    p99_ms=90.0,
    lag_p99_ms=1.0,
    settled=False,
)
ORDER = order.OrderResult(
    rate_per_s=700,
    rows=[order.OrderRow(Order.ARRIVAL, CALM), order.OrderRow(Order.SHORTEST, NOTHING_ANSWERED)],
)
MINILM_ROW = minilm.MiniLMRow(
    label="adaptive", requests_per_s=100, p50_ms=50, p99_ms=90, alone_p50_ms=12, errors=0
)
SHARING = Sharing(
    alone=CALM, interactive=CALM, bulk=NOTHING_ANSWERED, best_tokens_per_s=1e5, slo_ms=100
)
TIER_ROW = TierRow(scheduler="tiers", load=0.1, max_slice_ms=None, sharing=SHARING)
TIERS = TiersResult(
    rows=[TIER_ROW, msgspec.structs.replace(TIER_ROW, scheduler="FIFO")],
    curve=[msgspec.structs.replace(TIER_ROW, max_slice_ms=10.0)],
    overload=Overload(load=1.5, min_share=0.1, share=0.098, slice_share=0.003, goodput_ratio=0.8),
    best_tokens_per_s=1e5,
    longest_batch_ms=84.0,
)
RESULTS: Sequence[Result] = (
    EDGE,
    LOW_LOAD,
    capacity.CapacityResult([CAPACITY_ROW]),
    overload.OverloadResult([_overload_row(100)]),
    ORDER,
    TIERS,
    minilm.MiniLMResult(adaptive=MINILM_ROW, one_at_a_time=MINILM_ROW, mean_words=27),
)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_every_table_has_a_cell_for_each_column(result: Result) -> None:
    table = result.table()
    assert table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_bounds_are_held_or_not() -> None:
    assert EDGE.held
    assert LOW_LOAD.held
    assert not msgspec.structs.replace(LOW_LOAD, overhead_p50_ms=2.1).held
    assert CAPACITY_ROW.held
    assert not msgspec.structs.replace(CAPACITY_ROW, rate_per_s=849.0).held
    assert msgspec.structs.replace(CAPACITY_ROW, required_ratio=None).held is None
    assert _overload_row(100).held
    assert not _overload_row(110).held
    assert TIERS.overload.held
    assert not msgspec.structs.replace(TIERS.overload, share=0.096).held
    assert [row.asked for row in (*TIERS.rows, *TIERS.curve)] == [True, False, False]


def test_a_benchmark_that_cannot_run_does_not_stop_the_others(tmp_path: Path) -> None:
    def broken(context: Context) -> Result:
        raise BenchError("the server did not start")

    output = tmp_path / "BENCHMARKS.md"
    code = main(["--output", str(output)], {"broken": broken, "edge": lambda context: EDGE})
    assert code == 1
    assert "begin edge" in output.read_text()
    assert "begin broken" not in output.read_text()


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "edge,nonsense"])
    assert "no benchmark 'nonsense'; use some of edge,low_load" in capsys.readouterr().err
