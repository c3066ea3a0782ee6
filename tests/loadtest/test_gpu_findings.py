"""GPU benchmarks: their tables, what they read of the server, and how they refuse to start."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from loadtest.bench.capacity import Capacity
from loadtest.bench.errors import BenchError
from loadtest.bench.plan import RunReport
from loadtest.bench.requests import ADDED_TOKENS, WORDS
from loadtest.bench.running import command_told
from loadtest.bench.scrapes import Scrape, busiest_shares, cpu_seconds
from loadtest.bench.servers import RunningServer
from loadtest.bench_gpu import __main__ as command
from loadtest.bench_gpu import bulk, device, low_load, overload, rivals, single, tiers
from loadtest.bench_gpu.checkpoints import VOCABULARY_SIZE, write_tokenizer
from loadtest.bench_gpu.context import GpuContext, Target
from loadtest.bench_gpu.device_findings import DeviceFindings, Throughput
from loadtest.bench_gpu.device_runs import by_rows, by_tokens, length_of
from loadtest.bench_gpu.findings import (
    Findings,
    at_least,
    at_most,
    errors_of,
    known_of,
    rate_of,
    ratio,
)
from loadtest.bench_gpu.rival_servers import RIVALS, Rival, installed_version, place_of
from tests.loadtest.reports import CALM, NOTHING_ANSWERED, SOME_REFUSED

FIGURE = Throughput(
    label="8,192 tokens", tokens_per_s=1e6, rows_per_s=1e4, batch_ms=8.0, padding_share=0.0
)
ON_DEVICE = DeviceFindings(
    offline=[FIGURE],
    eager=[],
    padded=[FIGURE],
    engine=msgspec.structs.replace(FIGURE, tokens_per_s=0.9e6),
    packed=True,
    loading_s=3.0,
)
FOUND = Capacity(rate_per_s=1000, report=CALM, failing_rate_per_s=1050, settled=True)


NONE_PASSED: Capacity[RunReport] = Capacity(
    rate_per_s=0, report=None, failing_rate_per_s=121, settled=False
)
NOTHING_MEASURED: Capacity[RunReport] = Capacity(
    rate_per_s=0, report=None, failing_rate_per_s=None, settled=True
)


def rows_of(*lengths: int) -> list[bytes]:
    return [bytes(8 * length) for length in lengths]


@given(st.lists(st.integers(1, 20), min_size=1), st.integers(1, 40))
def test_batches_by_tokens_are_as_full_as_whole_rows_allow(lengths: list[int], budget: int) -> None:
    rows = rows_of(*lengths)
    batches = by_tokens(rows, budget)
    together = [row for batch in batches for row in batch]
    assert together == rows[: len(together)]
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        tokens = sum(map(length_of, batch))
        assert tokens <= budget or len(batch) == 1
        if following is not None:
            assert tokens + length_of(following[0]) > budget


def test_batches_by_rows_are_all_of_one_size() -> None:
    assert [len(batch) for batch in by_rows(rows_of(*range(1, 11)), 4)] == [4, 4]


def test_a_bound_is_held_or_not() -> None:
    assert at_least("a", 0.9, 0.9).held
    assert not at_least("a", ratio(1, 0), 0.9).held
    assert at_most("a", 2.0, 2.0).held
    assert not at_most("a", 2.01, 2.0).held


@pytest.mark.parametrize(
    ("ours", "theirs", "seen", "held"),
    [
        (15_072.0, 100.0, "150.7", True),
        (400.0, 100.0, "4.0", False),
        (15_072.0, None, "> 124.6", True),
        (400.0, None, "> 3.3", None),  # it may be 5 or not
        (None, 100.0, "could not be compared: no rate of ours passed", None),
        (None, None, "could not be compared: no rate of ours passed", None),
    ],
)
def test_a_comparison_says_what_is_known(
    ours: float | None, theirs: float | None, seen: str, held: bool | None
) -> None:
    def found(rate_per_s: float | None) -> Capacity[RunReport]:
        if rate_per_s is None:
            return NONE_PASSED
        return msgspec.structs.replace(FOUND, rate_per_s=rate_per_s)

    measure = rivals.compared(found(ours), found(theirs))
    assert (measure.seen, measure.held) == (seen, held)


def test_a_rival_that_was_never_measured_is_not_compared() -> None:
    assert rivals.compared(FOUND, NOTHING_MEASURED).held is None


def test_a_search_that_found_nothing_tells_an_upper_bound() -> None:
    assert rate_of(FOUND) == "1000"
    assert rate_of(NONE_PASSED) == "< 121 (no rate tried passed)"
    assert rate_of(NOTHING_MEASURED) == "0"
    assert (known_of(FOUND), known_of(NONE_PASSED)) == ("a lower bound", "an upper bound")


def test_errors_are_told_by_kind() -> None:
    assert errors_of(CALM) == "no errors"
    assert errors_of(SOME_REFUSED) == "5 of status 429"
    assert errors_of(NOTHING_ANSWERED) == "1000 failed"


def test_scrapes_are_summed_and_subtracted() -> None:
    def scrape(count: float, total: float) -> Scrape:
        labels = frozenset({("stage", "decode"), ("model", "m")})
        return Scrape({("x_count", labels): count, ("x_sum", labels): total})

    run = scrape(6, 3.0).since(scrape(2, 1.0))
    assert run.total("x_count") == 4
    assert run.total("x_count", stage="encode") == 0
    assert run.mean("x", stage="decode") == 0.5
    assert run.mean("x", stage="encode") == 0.0


def test_this_process_uses_cpu_and_its_parent_is_not_its_child() -> None:
    used = cpu_seconds(os.getpid())
    assert used[os.getpid()] > 0
    assert os.getppid() not in used
    assert busiest_shares({1: 1.0}, {1: 1.5, 2: 2.0, 3: 0.0}, 1.0) == [2.0, 0.5]


def test_words_of_requests_are_one_token_each(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    assert len(tokenizer.encode(" ".join(WORDS)).ids) == len(WORDS) + ADDED_TOKENS


class KnownContext(GpuContext):
    """All that would take a GPU is known already."""

    def on_device(self) -> DeviceFindings:
        return ON_DEVICE

    def capacity(self, slo_ms: float, server_slo_ms: float, work: object) -> Capacity[RunReport]:
        return FOUND

    def stop_server(self) -> None:
        pass


def tiny(kind: type[GpuContext], folder: Path) -> GpuContext:
    return kind(
        tiny=True,
        device="cpu",
        gpu="no GPU",
        folder=folder,
        workers=1,
        generators=1,
        say=lambda _: None,
        _device_findings=ON_DEVICE,
    )


def assert_is_a_table(found: Findings) -> None:
    table = found.table()
    assert table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_the_device_is_compared_with_itself(tmp_path: Path) -> None:
    found = device.run(tiny(KnownContext, tmp_path))
    assert_is_a_table(found)
    assert found.measures[-1].held


class Swamped(KnownContext):
    """No rate passed the search; nothing is served here."""

    def capacity(self, slo_ms: float, server_slo_ms: float, work: object) -> Capacity[RunReport]:
        return NONE_PASSED

    def likely_rate_per_s(self) -> float:
        return 600.0

    def server(self, slo_ms: float, **_: Any) -> RunningServer:
        return RunningServer(
            http_port=1, grpc_port=2, model="bert", pid=1, parameters_file=self.folder
        )

    def open_loop(self, target: Target, rate_per_s: float, **_: Any) -> RunReport:
        assert rate_per_s == 900.0
        return CALM


def test_where_no_rate_passed_the_overload_is_of_a_stated_rate(tmp_path: Path) -> None:
    found = overload.run(tiny(Swamped, tmp_path))
    assert_is_a_table(found)
    assert "600/s" in found.notes[0]


def test_a_rival_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    found = rivals.scenario_of("bentoml")(tiny(KnownContext, tmp_path))
    assert_is_a_table(found)
    assert "1000" in found.measures[0].seen
    assert "bentoml is not installed; loadtest/bench/rivals/bentoml_server.py" in found.notes[0]


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_each_rival_says_how_it_is_installed(rival: Rival) -> None:
    assert "pip install" in Path(rival.module.replace(".", "/") + ".py").read_text()


def test_a_rivals_own_packages_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    (tmp_path / "litserve").mkdir()
    there = place_of("litserve", tmp_path)
    assert there.environment["PYTHONPATH"] == f"{tmp_path / 'litserve'}:/elsewhere"
    assert place_of("bentoml", tmp_path) == place_of("bentoml", None)
    with pytest.raises(BenchError, match="is not installed"):
        installed_version(RIVALS["litserve"], there)


def test_a_rival_may_have_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    python = tmp_path / "triton" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    there = place_of("triton", tmp_path)
    assert there.python == str(python)
    assert "PYTHONPATH" not in there.environment


def test_no_gpu_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "gpu_name", lambda: None)
    assert command.main([]) == command.EXIT_NO_GPU
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_section_names_no_path_of_the_machine() -> None:
    given = ["--tiny", "--output", "/tmp/b.md", "--rival_sites=/tmp/r", "--workers", "2"]  # noqa: S108
    assert command_told("m", given) == ["python", "-m", "m", "--tiny", "--workers", "2"]


def test_a_bug_in_a_benchmark_is_told_as_its_failure(tmp_path: Path) -> None:
    def broken(context: GpuContext) -> Findings:
        raise KeyError("nothing")

    with pytest.raises(BenchError, match="KeyError"):
        command.guarded(broken, tiny(KnownContext, tmp_path))


@pytest.mark.proof
def test_served_benchmarks_run_on_any_machine(tmp_path: Path) -> None:
    """What a tiny model on a CPU measures means nothing; that it is measured does."""
    context = tiny(GpuContext, tmp_path)
    try:
        for run in (bulk.run, single.run, overload.run, tiers.run, low_load.run):
            assert_is_a_table(run(context))
    finally:
        context.stop_server()
