"""Cells, fronts and reports of a sweep."""

from pathlib import Path

import msgspec
import pytest

from loadtest.bench.errors import BenchError
from loadtest.sweep.cells import Cell, CellsFile, Grid, best_of_rounds
from loadtest.sweep.front import Place, front, mean_ms, standing, table_of
from loadtest.sweep.report import PAGE_FILE, SUMMARY_FILE, write_report
from predictor.core.parameters import Policy

GRID = Grid(waits_ms=(0.0, 10.0), sizes=(1, 8), rates_per_s=(5.0, 50.0))


def cell(
    latency_ms: float,
    busy: float,
    *,
    policy: Policy = Policy.CONSTANT,
    wait_ms: float = 10.0,
    size: int = 8,
    rate_per_s: float = 50.0,
    goodput_per_s: float = 50.0,
) -> Cell:
    return Cell(
        policy=policy,
        max_wait_ms=wait_ms,
        max_batch_size=size,
        rate_per_s=rate_per_s,
        sent=100,
        answered=100,
        within_slo=100,
        refused=0,
        failed=0,
        dropped=0,
        mean_ms=latency_ms,
        p50_ms=latency_ms,
        p99_ms=2 * latency_ms,
        utilisation=busy,
        throughput_per_s=goodput_per_s,
        goodput_per_s=goodput_per_s,
        padding_share=0.25,
        mean_batch_rows=3.0,
        cost_per_1000=0.01,
    )


def adaptive(latency_ms: float, busy: float, *, goodput_per_s: float = 50.0) -> Cell:
    return cell(latency_ms, busy, policy=Policy.ADAPTIVE, wait_ms=0.0, goodput_per_s=goodput_per_s)


FAST, THRIFTY, POOR = cell(10, 0.9), cell(30, 0.5), cell(40, 0.95)


def test_the_front_leaves_out_what_another_beats() -> None:
    assert front([POOR, THRIFTY, FAST], mean_ms) == [FAST, THRIFTY]


@pytest.mark.parametrize(
    ("own", "place"),
    [
        (adaptive(10.1, 0.9), Place.ON),
        (adaptive(20, 0.7), Place.ON),
        (adaptive(8, 0.85), Place.BEYOND),
        (adaptive(29, 0.4), Place.BEYOND),
        (adaptive(35, 0.6), Place.BEHIND),
        (adaptive(10, 0.9, goodput_per_s=30), Place.BEHIND),
        (adaptive(9, 0.95, goodput_per_s=70), Place.BEYOND),
    ],
)
def test_where_adaptive_lands(own: Cell, place: Place) -> None:
    stands = standing([FAST, THRIFTY, POOR, own], mean_ms)
    assert stands is not None
    assert stands.place is place


def test_an_idle_adaptive_cell_says_nothing() -> None:
    silent = msgspec.structs.replace(adaptive(0, 0), answered=0)
    stands = standing([FAST, silent], mean_ms)
    assert stands is not None
    assert stands.place is Place.UNKNOWN


def test_adaptive_comes_first_and_rates_change_fastest() -> None:
    places = list(GRID.places())
    assert len(places) == 10
    assert [(key.setting.policy, key.rate_per_s) for key in places[:3]] == [
        (Policy.ADAPTIVE, 5.0),
        (Policy.ADAPTIVE, 50.0),
        (Policy.CONSTANT, 5.0),
    ]


def test_a_second_round_comes_after_the_first_and_the_best_one_counts() -> None:
    keys = list(msgspec.structs.replace(GRID, rounds=2).places())
    assert [key.round for key in keys] == [1] * 10 + [2] * 10
    late = msgspec.structs.replace(FAST, mean_ms=5.0, within_slo=50, round=2)
    faster = msgspec.structs.replace(THRIFTY, max_wait_ms=0.0, mean_ms=20.0, round=2)
    slower = msgspec.structs.replace(faster, mean_ms=30.0, round=1)
    assert best_of_rounds([FAST, slower, late, faster]) == [FAST, faster]


def test_cells_are_read_as_written_and_a_cut_off_line_is_left_out(tmp_path: Path) -> None:
    file = CellsFile(tmp_path)
    assert file.read() == []
    file.write([FAST])
    file.append(THRIFTY)
    assert file.read() == [FAST, THRIFTY]
    path = tmp_path / "cells.csv"
    path.write_text(path.read_text() + "constant,1")
    assert file.read() == [FAST, THRIFTY]


def test_a_wrong_line_among_the_cells_is_named(tmp_path: Path) -> None:
    file = CellsFile(tmp_path)
    file.write([FAST, THRIFTY])
    path = tmp_path / "cells.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("constant", "constantly")
    path.write_text("\n".join(lines))
    with pytest.raises(BenchError, match=r"cells\.csv, line 2: .*policy"):
        file.read()


def test_a_report_of_part_of_a_sweep(tmp_path: Path) -> None:
    cells = [FAST, msgspec.structs.replace(THRIFTY, max_wait_ms=0.0), adaptive(8, 0.85)]
    write_report(tmp_path, cells, GRID, "A title", "python -m loadtest sweep")
    assert "beyond the front" in (tmp_path / SUMMARY_FILE).read_text()
    assert "A title" in (tmp_path / PAGE_FILE).read_text()
    for picture in ("front.png", "grid.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_the_table_names_the_rival() -> None:
    rows = table_of([FAST, adaptive(35, 0.95)], "t").rows
    assert rows[0][:3] == ("50", "mean", "behind the front")
    assert rows[0][6] == "N 10 ms, K 8"
