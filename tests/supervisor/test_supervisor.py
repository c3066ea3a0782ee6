"""The supervisor with children that only end; real servers are in tests/server."""

import logging
import sys
from pathlib import Path

import pytest

from predictor.core import restarts
from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings
from predictor.core.restarts import MOST_DEATHS
from predictor.settings import Settings
from predictor.supervisor.supervisor import Supervisor

MODELS = (ModelSettings(name="a"),)


def supervisor(folder: Path, code: str, *, workers: int = 1, engines: int = 1) -> Supervisor:
    settings = Settings(models=MODELS, workers=workers, engines=engines, grace_s=1)
    made = Supervisor(settings, [], folder)
    made._command = (sys.executable, "-S", "-c", code)
    return made


async def test_a_child_that_keeps_dying_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.001)
    caplog.set_level(logging.INFO)
    assert await supervisor(tmp_path, "raise SystemExit(3)").run() == 1
    assert "ended (exit code 3), too often in a minute" in caplog.text
    assert caplog.text.count("engine 0 is process") <= MOST_DEATHS + 1


async def test_a_child_that_cannot_start_ends_all_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    waits = (
        "import os, signal, sys; 'engine-1' in os.environ['HEADWAY_CHILD_ORDER'] and sys.exit(2)"
    )
    one = supervisor(tmp_path, f"{waits}; signal.pause()", workers=2, engines=2)
    assert await one.run() == 2
    assert "starting it again" not in caplog.text


async def test_who_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.supervisor.supervisor.LATE_S", -0.9)
    stubborn = "import os, signal, sys; signal.signal(15, signal.SIG_IGN);"
    edge = "'edge' in os.environ['HEADWAY_CHILD_ORDER'] and sys.exit(2); signal.pause()"
    assert await supervisor(tmp_path, stubborn + edge).run() == 2


def test_each_engine_sees_its_own_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    settings = Settings(models=MODELS, engines=2)
    seen = [child.environment for child in Supervisor(settings, [], tmp_path).engines]
    assert seen == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}]


def test_a_folder_whose_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(StartupError, match="TMPDIR"):
        supervisor(deep, "")
