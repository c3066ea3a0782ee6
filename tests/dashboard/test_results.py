"""Load tests' folders, as the scripts write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from dashboard.ports import NoData, SourceDown
from dashboard.sources.results import ResultsFolder

TIER: dict[str, Any] = {
    "requests": 600,
    "ok": 590,
    "within_slo": 580,
    "refused": 10,
    "failed": 0,
    "failures": {},
    "mean_ms": 20.0,
    "p50_ms": 18.0,
    "p95_ms": 40.0,
    "p99_ms": 55.0,
    "queue_mean_ms": 4.0,
    "service_mean_ms": 9.0,
    "batch_size_mean": 3.5,
}
SUMMARY = {
    "script": "steady",
    "settings": {"RATE": "20"},
    "seconds": 30,
    "dropped": 0,
    "lag_p99_ms": 1.0,
    "tiers": {"interactive": TIER},
    "phases": [{"name": "calm", "seconds": 30, "rate": 20, "measured": TIER}],
    "thresholds": [
        {"text": "p99 under 50 ms", "seen": "55 ms", "ok": False},
        {"text": "nothing dropped", "seen": "0", "ok": True, "validity": True},
    ],
}
RUN = {
    "script": "steady",
    "settings": {"RATE": "20"},
    "started": "2026-11-20T10:00:00Z",
    "generation": 3,
    "revision": "abc",
    "machine": {
        "cpu": "a CPU",
        "cores": 2,
        "memory_gib": 8,
        "system": "s",
        "python": "3",
        "gpu": "",
    },
}
CELLS = "policy,max_wait_ms,p99_ms\nadaptive,0.0,12.5\nconstant,10.0,\nconst"


def write_run(folder: Path, summary: Any = SUMMARY) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "summary.json").write_text(json.dumps(summary))


def test_runs_come_newest_first_with_those_of_a_search(tmp_path: Path) -> None:
    write_run(tmp_path / "20261120T100000Z-steady")
    write_run(tmp_path / "20261121T100000Z-capacity" / "20261121T100001Z-steady")
    (run, older) = ResultsFolder(tmp_path).find().runs
    assert run.name == "20261121T100000Z-capacity/20261121T100001Z-steady"
    assert older.name == "20261120T100000Z-steady"
    assert (run.script, run.generation, run.machine) == ("steady", 3, "a CPU, 2 cores")
    assert run.started_s == 1795168800.0
    assert run.tiers["interactive"].p99_ms == 55.0
    assert run.phases[0].measured.within_slo == 580
    assert run.valid
    assert run.missed == ("p99 under 50 ms; seen 55 ms.",)


def test_a_run_that_dropped_iterations_is_not_valid(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {**SUMMARY, "dropped": 3})
    assert not ResultsFolder(tmp_path).find().runs[0].valid


def test_a_sweep_is_rows_of_values_and_a_cut_off_line_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "20261120T100000Z-sweep"
    folder.mkdir()
    (folder / "cells.csv").write_text(CELLS)
    (sweep,) = ResultsFolder(tmp_path).find().sweeps
    assert sweep.columns == ("policy", "max_wait_ms", "p99_ms")
    assert sweep.rows == (("adaptive", 0.0, 12.5), ("constant", 10.0, None))


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "wrong", {"seconds": "many"})
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "summary.json").write_text("{}")
    found = ResultsFolder(tmp_path).find()
    assert [run.name for run in found.runs] == ["good"]
    assert len(found.unreadable) == 2
    assert "run.json" in " ".join(found.unreadable)


def test_the_newest_are_kept_where_there_are_many(tmp_path: Path) -> None:
    for number in range(5):
        write_run(tmp_path / f"run-{number}")
    assert [run.name for run in ResultsFolder(tmp_path).find(2).runs] == ["run-4", "run-3"]


def test_no_folder_and_no_runs_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceDown, match="cannot be read"):
        ResultsFolder(tmp_path / "none").find()
    with pytest.raises(NoData, match="run one with k6"):
        ResultsFolder(tmp_path).find()
