"""A trace that torch's own profiler wrote, of exactly the batches that were asked for."""

import json
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, ModelSpec, Task
from predictor.core.rows import Packing
from predictor.engine.port import Launched, PipelinedRunner, Runner
from predictor.runner.loading import load_runner
from predictor.runner.profiling import traced
from predictor.runner.simulated import SimulatedRunner

MODEL = "sums"
BATCHES = 3
ROWS = [array("q", [1, 2, 3]).tobytes()]


class Multiplying:
    """A runner whose batches can be counted in a trace: each is one product of matrices."""

    spec = ModelSpec(MODEL, Task.SIMULATED, "INT64", "INT64", 1, max_tokens=512)

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        assert packing is Packing.PADDED
        if not rows:
            raise ValueError("no rows")
        torch.ones(2, 2).mm(torch.ones(2, 2))
        return rows


class Launching(Multiplying):
    """The same on a device with a queue of its own; what is empty cannot be launched."""

    def launch(self, rows: Sequence[bytes], packing: Packing) -> Launched | None:
        return Ready(self.run(rows, packing)) if rows else None


class Ready:
    def __init__(self, given: Sequence[bytes]) -> None:
        self._given = given

    def results(self) -> Sequence[bytes]:
        return self._given


def run(runner: Runner) -> Sequence[bytes]:
    return runner.run(ROWS, Packing.PADDED)


def launch(runner: Runner) -> Sequence[bytes]:
    assert isinstance(runner, PipelinedRunner)
    launched = runner.launch(ROWS, Packing.PADDED)
    assert launched is not None
    return launched.results()


def wait_for_the_writer() -> None:
    for thread in threading.enumerate():
        if thread.name == "trace":
            thread.join(30)
            assert not thread.is_alive()


def events(folder: Path) -> list[dict[str, Any]]:
    """Of the one trace that is there."""
    (path,) = folder.iterdir()
    assert path.name.startswith(f"{MODEL}-")
    assert path.suffix == ".json"
    found = json.loads(path.read_text())["traceEvents"]
    assert isinstance(found, list)
    return found


def products(folder: Path) -> int:
    return sum(event.get("name") == "aten::mm" for event in events(folder))


@pytest.mark.parametrize(
    ("runner", "ask"), [(Multiplying(), run), (Launching(), launch), (Launching(), run)]
)
def test_exactly_the_first_batches_are_traced_once(
    tmp_path: Path, runner: Runner, ask: Callable[[Runner], Sequence[bytes]]
) -> None:
    folder = tmp_path / "made" / "here"
    watched = traced(runner, BATCHES, folder)
    assert watched.spec is runner.spec
    assert isinstance(watched, PipelinedRunner) == isinstance(runner, PipelinedRunner)
    run(runner)  # not through the trace
    for _ in range(BATCHES - 1):
        assert ask(watched) == ROWS
    wait_for_the_writer()
    assert not list(folder.iterdir())  # one is missing yet
    for _ in range(BATCHES):
        assert ask(watched) == ROWS
    wait_for_the_writer()
    assert products(folder) == BATCHES


def test_a_batch_that_fails_counts_and_the_error_is_passed_on(tmp_path: Path) -> None:
    watched = traced(Multiplying(), 2, tmp_path)
    with pytest.raises(ValueError, match="no rows"):
        watched.run([], Packing.PADDED)
    run(watched)
    wait_for_the_writer()
    assert products(tmp_path) == 1


def test_a_batch_that_cannot_be_launched_counts_when_it_runs(tmp_path: Path) -> None:
    watched = traced(Launching(), 2, tmp_path)
    assert isinstance(watched, PipelinedRunner)
    assert watched.launch([], Packing.PADDED) is None
    launch(watched)
    wait_for_the_writer()
    assert not list(tmp_path.iterdir())
    launch(watched)
    wait_for_the_writer()
    assert products(tmp_path) == 2


def test_the_thread_of_the_device_may_run_what_was_not_launched(tmp_path: Path) -> None:
    watched = traced(Launching(), 2, tmp_path)
    assert isinstance(watched, PipelinedRunner)
    for _ in range(2):
        assert watched.launch([], Packing.PADDED) is None
        device = threading.Thread(target=run, args=(watched,))
        device.start()
        device.join(30)
    assert not list(tmp_path.iterdir())
    launch(watched)  # on the thread that started the profiler: no other may stop it
    wait_for_the_writer()
    assert events(tmp_path)


@pytest.mark.parametrize("ask", [run, launch])
def test_the_simulated_runner_can_be_traced(
    tmp_path: Path, ask: Callable[[Runner], Sequence[bytes]]
) -> None:
    settings = ModelSettings(
        name=MODEL, task=Task.SIMULATED, simulated_fixed_ms=0, simulated_token_us=0
    )
    runner = load_runner(settings)
    assert isinstance(runner, SimulatedRunner)
    watched = traced(runner, BATCHES, tmp_path)
    for _ in range(BATCHES):
        assert ask(watched) == [array("q", [6]).tobytes()]
    wait_for_the_writer()
    assert events(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"--profile_dir .*file/traces cannot be made"):
        traced(Multiplying(), BATCHES, tmp_path / "file" / "traces")


def test_a_trace_that_cannot_be_written_costs_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    watched = traced(Multiplying(), 1, folder)
    folder.rmdir()
    assert run(watched) == ROWS
    wait_for_the_writer()
    assert "cannot be written" in caplog.text
