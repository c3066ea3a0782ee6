"""Each k6 script once, against a real server: small, but all of it."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.bench.report import this_machine
from loadtest.k6.__main__ import main
from loadtest.k6.result import K6Result, read_summary
from loadtest.k6.run import SCRIPTS, RunRecord, find_k6, run_k6

LIMIT_S = 60.0
TRACE = [
    {"at_s": 0.0, "tokens": 3, "tier": "bulk"},
    {"at_s": 0.5, "tier": "interactive"},
    {"at_s": 0.5},
    {"at_s": 1.9, "tokens": 700},
]
SPECIAL: Mapping[str, Mapping[str, str]] = {
    "burst": {"DURATION": "2s", "SPIKE_EVERY": "1s", "SPIKE_FOR": "0.2s"},
    "grpc": {},
    "jobs": {"RATE": "2", "JOB_LINES": "7", "ARRIVALS": "even"},
    "lengths": {"DURATION": "2s", "MIXES": "short,lognormal:20:0.5"},
    "ramp": {"FROM": "10", "TO": "30", "STEPS": "2"},
    "replay": {"SPEED": "2"},
    "soak": {},
    "steady": {"TIERS": "interactive:0.5,bulk:0.5", "ROWS": "interactive:1,bulk:3"},
    "tiers": {"BULK_RATE": "5", "TIMEOUT": "30s"},
}


def run(script: str, results: Path, *settings: Mapping[str, str]) -> K6Result:
    merged = {name: value for each in settings for name, value in each.items()}
    return run_k6(script, merged, results=results, limit_s=LIMIT_S)


@pytest.mark.parametrize("script", sorted(each.stem for each in SCRIPTS.glob("*.js")))
def test_every_script_is_answered_rightly(
    script: str, settings: Mapping[str, str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps(TRACE))
    result = run(script, tmp_path, settings, SPECIAL[script], {"TRACE": str(trace)})
    assert result.valid, result.missed
    assert result.thresholds_ok, result.missed
    assert result.script == script
    for tier in result.tiers.values():
        assert tier.requests == tier.ok == tier.within_slo > 0
        assert 0 < tier.p50_ms <= tier.p95_ms <= tier.p99_ms
        assert tier.batch_size_mean >= 1
    in_phases = sum(phase.measured.requests for phase in result.phases)
    assert in_phases == sum(tier.requests for tier in result.tiers.values())


def test_a_trace_is_replayed_whole(settings: Mapping[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps(TRACE))
    result = run("replay", tmp_path, settings, {"TRACE": str(trace), "SPEED": "4"})
    assert {name: tier.requests for name, tier in result.tiers.items()} == {
        "bulk": 1,
        "interactive": 3,
    }
    assert result.seconds == pytest.approx(1.9 / 4, abs=0.01)


def test_the_same_seed_sends_the_same(settings: Mapping[str, str], tmp_path: Path) -> None:
    seeds = ("1", "1", "2")
    counts = [
        run("steady", tmp_path, settings, {"SEED": seed, "RATE": "120", "DURATION": "0.5s"})
        .tiers["interactive"]
        .requests
        for seed in seeds
    ]
    assert counts[0] == counts[1] != counts[2]


def test_what_a_run_was_is_kept_beside_its_figures(
    settings: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [f"{name}={value}" for name, value in settings.items()]
    assert main(["steady", *pairs, "--results", str(tmp_path)]) == 0
    assert "passed steady" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    record = msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)
    assert record.settings == settings
    assert record.generation == 1
    assert record.machine == this_machine()
    assert record.revision
    assert read_summary(folder / "summary.json").tiers["interactive"].ok > 0


def test_missed_thresholds_are_named(
    settings: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [f"{name}={value}" for name, value in {**settings, "GOODPUT_PER_S": "1000"}.items()]
    assert main(["steady", *pairs, "--results", str(tmp_path)]) == 1
    assert "FAILED steady: interactive: at least 1000/s answered in time" in capsys.readouterr().out


def test_dropped_requests_make_a_run_invalid(settings: Mapping[str, str], tmp_path: Path) -> None:
    result = run("steady", tmp_path, settings, {"VUS": "1", "RATE": "100"})
    assert result.dropped > 0
    assert not result.valid
    assert not result.thresholds_ok
    assert "INVALID steady" in (result.folder / "k6.txt").read_text()


def test_every_threshold_can_be_left_out(settings: Mapping[str, str], tmp_path: Path) -> None:
    none: dict[str, Any] = dict.fromkeys(("P99_MS", "ERROR_RATE", "GOODPUT"), "none")
    result = run("steady", tmp_path, settings, none)
    assert all(threshold.validity for threshold in result.thresholds)


BUSY = """
import { Settings } from '%(lib)s/settings.js';
import { summarised } from '%(lib)s/summary.js';
import { thresholdsOf } from '%(lib)s/thresholds.js';

const settings = new Settings('steady');
const run = { settings, phases: [{ name: 'steady', from_s: 0, to_s: 30 }], duration_s: 30,
  tiers: ['interactive'], planned: 10 };
const thresholds = thresholdsOf(run, true);

export default function () {}

export function handleSummary() {
  const metrics = { headway_lag: { values: { 'p(99)': Number(__ENV.LAG_MS) } } };
  thresholds.rules.forEach(({ metric, condition }) => {
    const ok = !metric.startsWith(__ENV.MISSED);
    const values = { 'p(99)': 300, rate: 0.5, count: 10 };
    if (metric === 'dropped_iterations') values.count = 0;
    metrics[metric] = { values, thresholds: { [condition]: { ok } } };
  });
  metrics['headway_requests{tier:interactive,outcome:ok}'] = { values: { count: 10 } };
  return summarised(run, thresholds, { metrics });
}
"""


@pytest.mark.parametrize(
    ("missed", "lag_ms", "verdict"),
    [
        ("headway_latency", 51, "INVALID"),
        ("headway_goodput", 51, "INVALID"),
        ("headway_latency", 49, "FAILED"),  # a quarter of the SLO explains no miss
        ("headway_errors", 900, "FAILED"),  # errors are the server's, however late k6 was
        ("nothing", 900, "passed"),  # answers were in time all the same
    ],
)
def test_a_k6_that_was_late_itself_makes_a_run_invalid(
    missed: str, lag_ms: int, verdict: str, tmp_path: Path
) -> None:
    """What k6 measured is made up; what is made of it, k6 runs."""
    script = tmp_path / "busy.js"
    script.write_text(BUSY % {"lib": SCRIPTS / "lib"})
    summary = tmp_path / "summary.json"
    given = {"LAG_MS": lag_ms, "MISSED": missed, "SUMMARY": summary}
    environment = [part for name, value in given.items() for part in ("-e", f"{name}={value}")]
    done = subprocess.run(
        [find_k6(), "run", "--quiet", "--no-usage-report", "--address", "", *environment, script],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert f"{verdict} steady" in done.stdout
    result = read_summary(summary)
    assert result.valid is (verdict != "INVALID")
    assert result.verdict.startswith(verdict)
    assert ("k6 itself sends at most 50 ms late" in done.stdout) is (verdict == "INVALID")
