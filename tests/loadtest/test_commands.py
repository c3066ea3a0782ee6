"""Capacity and sweep against a real server, with a stand-in for k6."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.bench.errors import BenchError
from loadtest.bench.servers import (
    RunningServer,
    ServerCommand,
    one_model_parameters,
    running_server,
)
from loadtest.learned import learned_from
from loadtest.serving import task_of
from loadtest.sweep.cells import CellsFile
from loadtest.target import LiveParameters, Target, edited_live, with_generation
from predictor.core.parameters import ModelParameters, Policy, parse_document
from tests.loadtest.fake_k6 import FakeK6

MODEL = "sim"
FLAGS = ("--task", "simulated", "--simulated_fixed_ms", "2", "--simulated_token_us", "1000")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    command = ServerCommand(
        module="predictor",
        model=MODEL,
        flags=("--host", "127.0.0.1", *FLAGS),
        parameters=one_model_parameters(MODEL, ModelParameters(), 100.0),
    )
    with running_server(command) as running:
        yield running


def target_of(server: RunningServer) -> Target:
    return Target(f"http://127.0.0.1:{server.http_port}", MODEL)


def options(server: RunningServer, tmp_path: Path) -> list[str]:
    return [
        *("--url", target_of(server).url, "--model", MODEL),
        *("--parameters", str(server.parameters_file), "--results", str(tmp_path)),
    ]


def policy_in(server: RunningServer) -> Policy:
    return parse_document(server.parameters_file.read_bytes()).for_model(MODEL).policy


def test_policies_are_compared_and_the_document_is_put_back(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies: list[Policy] = []
    k6 = FakeK6(60.0, before=lambda run: policies.append(policy_in(server)))
    arguments = ["capacity", *options(server, tmp_path), "--compare", "constant,adaptive"]
    assert main(arguments, k6) == 0
    told, steps = capsys.readouterr()
    assert "capacity ÷ simulator's" in told
    # Piped, each step is a line, beside the result and not in it.
    assert re.search(r"^\[\d+ s\] constant: a look at what is sent$", steps, re.MULTILINE)
    assert re.search(r"^\[\d+ s\] adaptive: [\d.]+/s: held$", steps, re.MULTILINE)
    assert "/s: held" not in told
    assert set(policies) == {Policy.CONSTANT, Policy.ADAPTIVE}
    assert policy_in(server) is Policy.ADAPTIVE
    assert set(k6.scripts) == {"steady"}
    assert {run["SLO_MS"] for run in k6.runs} == {"100"}
    assert {run["TASK"] for run in k6.runs} == {"simulated"}


def test_an_slo_that_is_never_met_is_said(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capacity", *options(server, tmp_path)], FakeK6(0.0)) == 1
    assert "no rate met p99 ≤ 100 ms" in " ".join(capsys.readouterr().out.split())


def test_a_generator_that_is_too_busy_is_invalid(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["capacity", *options(server, tmp_path)]
    assert main(arguments, FakeK6(1e6, busy_above_per_s=30.0)) == 0
    told, steps = capsys.readouterr()
    assert "what gave up was k6, not the server; a lower bound" in " ".join(told.split())
    assert "INVALID: the generator could not keep up" in steps
    assert main(arguments, FakeK6(1e6, busy_above_per_s=0.0)) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "adaptive: INVALID: the generator could not keep up" in told

    grid = ["--waits_ms", "0", "--sizes", "1", "--rates", "10,40", "--seconds", "1"]
    k6 = FakeK6(1e6, busy_above_per_s=30.0)
    assert main(["sweep", *options(server, tmp_path), *grid], k6) == 0
    told, steps = capsys.readouterr()
    assert "INVALID: 2 of 4 cells" in " ".join(told.split())
    assert steps.count("INVALID: k6 could not keep up") == 2
    assert "[4/4, " in steps


def test_a_sweep_that_was_stopped_goes_on(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_at_third(run: int) -> None:
        if run == 4:  # the first is to warm up
            raise KeyboardInterrupt

    grid = ["--waits_ms", "0,5", "--sizes", "1,8", "--rates", "10,20", "--seconds", "1"]
    arguments = ["sweep", *options(server, tmp_path), *grid]
    assert main(arguments, FakeK6(15.0, stop_at_third)) == 130
    (folder,) = tmp_path.iterdir()
    assert "7 cells are left" in " ".join(capsys.readouterr().out.split())
    assert policy_in(server) is Policy.ADAPTIVE
    assert len(CellsFile(folder).read()) == 3

    k6 = FakeK6(15.0)
    assert main(["sweep", "--resume", str(folder), *options(server, tmp_path)], k6) == 0
    cells = CellsFile(folder).read()
    assert len(k6.runs) == 1 + 7
    assert len({cell.place for cell in cells}) == 10
    assert all(0 < cell.utilisation <= 1 for cell in cells)
    assert {cell.mean_batch_rows for cell in cells} == {1.0}
    assert {path.name for path in folder.iterdir()} >= {
        *("cells.csv", "sweep.json", "sweep.html", "front.png", "grid.png", "summary.md")
    }


def test_a_replay_passes_the_trace_on(server: RunningServer, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,tokens\n5,12\n7,13\n")
    k6 = FakeK6(100.0)
    given = [
        *("replay", str(trace), "--speed", "2", "--results", str(tmp_path / "r")),
        *("--url", target_of(server).url, "--model", MODEL),
    ]
    assert main(given, k6) == 0
    (settings,) = k6.runs
    assert k6.scripts == ["replay"]
    assert settings["SPEED"] == "2"
    entries = json.loads(Path(settings["TRACE"]).read_bytes())
    assert entries == [{"at_s": 0.0, "tokens": 12}, {"at_s": 2.0, "tokens": 13}]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (("--url", "http://127.0.0.1:9"), "no metrics at 127.0.0.1:9: "),
        (("--url", "localhost"), "--url localhost is not a URL such as"),
        (("--model", "other"), "model 'other' is not served"),
        (("--parameters", "absent.yaml"), "absent.yaml"),
        (("--tier", "vip"), "--tier vip: the server has interactive, bulk"),
        (("--tier", "bulk", "--parameters"), "tier bulk has no SLO"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    server: RunningServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: tuple[str, ...],
    complaint: str,
) -> None:
    given = [*options(server, tmp_path), *(part for part in changed if part != "--parameters")]
    if "absent.yaml" in changed:
        given = [*options(server, tmp_path), "--parameters", str(tmp_path / "absent.yaml")]
    assert main(["capacity", *given], FakeK6(1.0)) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_a_file_that_the_server_does_not_follow_is_refused(
    server: RunningServer, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("generation: 99\ntiers: {interactive: {priority: 1}}\n")
    with (
        pytest.raises(BenchError, match="has generation 99, but the server serves"),
        edited_live(target_of(server), other),
    ):
        raise AssertionError("it must not begin")


def test_comments_outlive_an_edit(server: RunningServer) -> None:
    target = target_of(server)
    before = server.parameters_file.read_bytes()
    with edited_live(target, server.parameters_file) as live:
        edited = live.edit(MODEL, ModelParameters(policy=Policy.CONSTANT))
        assert policy_in(server) is Policy.CONSTANT
    after = server.parameters_file.read_bytes()
    assert parse_document(after).generation == edited.generation + 1
    assert after == with_generation(before, edited.generation + 1)
    assert LiveParameters(target, server.parameters_file).original.for_model(
        MODEL
    ) == parse_document(before).for_model(MODEL)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            b"# mine\ngeneration: 3  # so far\ntiers: {a: {priority: 1}}\n",
            b"# mine\ngeneration: 8  # so far\ntiers: {a: {priority: 1}}\n",
        ),
        (
            b'{"generation":3,"tiers":{"a":{"priority":1}}}',
            b'{"generation":8,"tiers":{"a":{"priority":1}}}',
        ),
    ],
)
def test_only_the_generation_changes(document: bytes, expected: bytes) -> None:
    assert with_generation(document, 8) == expected


def test_a_generation_that_is_not_found_is_set_all_the_same() -> None:
    document = b'{"tiers":{"a":{"priority":1}},"generation":3}'
    assert parse_document(with_generation(document, 8)).generation == 8


def test_what_the_server_has_learned_is_read(server: RunningServer) -> None:
    target = target_of(server)
    assert task_of(target) == "simulated"
    learned = learned_from(target.check(), MODEL)
    bound = learned.bound_per_s(ModelParameters(max_batch_size=8), mean_tokens=100.0)
    assert bound == pytest.approx(8 / (2e-3 + 800 * 1e-3), rel=0.2)


@pytest.mark.slow
def test_k6_itself_replays_a_trace(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.ndjson"
    trace.write_text('{"time_s": 0, "tokens": 12}\n{"time_s": 1, "tier": "bulk"}\n')
    given = [
        *("replay", str(trace), "--speed", "4", "--slo_ms", "5000"),
        *("--results", str(tmp_path / "r"), "--url", target_of(server).url, "--model", MODEL),
    ]
    assert main(given) == 0
    told = capsys.readouterr().out
    assert "interactive" in told
    assert "bulk" in told
