"""The Prometheus of `make up`: found or installed, and with a configuration that it takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from predictor.local.prometheus import (
    Target,
    find_prometheus,
    obtain_prometheus,
    prometheus_service,
    takes_remote_write,
)
from predictor.local.together import run_together
from tests.local.services import Terminal, free_port


def test_without_a_way_to_install_prometheus_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert obtain_prometheus(said.append) is None
    (line,) = said
    assert "prometheus is missing; install it (Debian, Ubuntu: apt-get install prometheus)" in line
    assert "PROMETHEUS_PORT=0" in line
    assert not takes_remote_write(str(tmp_path / "prometheus"))


def test_an_installation_that_fails_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_get = tmp_path / "apt-get"
    apt_get.write_text("#!/bin/sh\nexit 100\n")
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    said: list[str] = []
    assert obtain_prometheus(said.append) is None
    assert "installing it: apt-get install --yes --no-install-recommends prometheus" in said[0]
    assert "could not be installed" in said[1]


async def test_a_prometheus_serves_and_its_configuration_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, promtool = find_prometheus(), shutil.which("promtool")
    if program is None or promtool is None:
        pytest.skip("no prometheus here: apt-get install prometheus")
    assert takes_remote_write(program)
    targets = [
        Target("127.0.0.1:1", {"capacity_type": "on-demand"}),
        Target("127.0.0.1:2", {"capacity_type": 'a "spot": #1'}),
    ]
    prometheus = prometheus_service(program, tmp_path, f"127.0.0.1:{free_port()}", targets)
    checked = (promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    subprocess.run(checked, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
    terminal = Terminal(monkeypatch)
    assert await run_together([[prometheus]], "welcome", ready_within_s=60) == 0
    assert terminal.lines[-2:] == ["welcome", "stopping"]
