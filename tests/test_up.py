"""`make up` with small services in place of the predictor."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.core.parameters import DEFAULT_PARAMETERS, parse_document
from predictor.prometheus_server import (
    find_prometheus,
    obtain_prometheus,
    prometheus_command,
    takes_remote_write,
)
from predictor.up import Service, create_parameters_file, main, port_problem, run_together

READY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
NEVER_READY = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(name: str, code: str) -> Service:
    port = free_port()
    return Service(name, (sys.executable, "-c", code, str(port)), f"http://127.0.0.1:{port}/")


class Terminal:
    """Stands for the person: presses Ctrl-C when the welcome appears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, presses: int = 1) -> None:
        self.lines: list[str] = []
        self._presses = presses
        monkeypatch.setattr("predictor.up.say", self._say)

    def _say(self, line: str) -> None:
        self.lines.append(line)
        if line == "welcome":
            os.kill(os.getpid(), signal.SIGINT)
        if line == "stopping" and self._presses > 1:
            os.kill(os.getpid(), signal.SIGINT)


async def test_ctrl_c_stops_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    assert await run_together([service("one", READY), service("two", READY)], "welcome") == 0
    assert terminal.lines[-2:] == ["welcome", "stopping"]


async def test_a_second_ctrl_c_kills_what_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, presses=2)
    async with asyncio.timeout(20):
        assert await run_together([service("stubborn", STUBBORN)], "welcome") == 0


async def test_when_one_ends_the_rest_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    services = [service("waiting", NEVER_READY), service("broken", "raise SystemExit(3)")]
    assert await run_together(services, "welcome") == 3
    assert "broken ended with exit code 3" in terminal.lines[-1]


async def test_what_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    assert await run_together([service("waiting", NEVER_READY)], "welcome", ready_within_s=0.1) == 1
    assert "not ready within 0.1 s" in terminal.lines[-1]


def test_a_taken_port_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([f"--http_port={port}"]) == 2
    assert f"127.0.0.1:{port}" in (said := capsys.readouterr().out)
    assert "make up HTTP_PORT=" in said
    assert not port_problem("127.0.0.1", port)
    assert port_problem("127.0.0.1", 70_000)


def test_the_parameter_file_is_explained_valid_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run" / "parameters.yaml"
    create_parameters_file(path)
    parameters = parse_document(path.read_bytes())
    assert parameters.tiers == DEFAULT_PARAMETERS.tiers
    assert parameters.models == {"topics": DEFAULT_PARAMETERS.for_model("topics")}
    assert "# Most rows in a batch." in path.read_text()
    path.write_text("mine")
    create_parameters_file(path)
    assert path.read_text() == "mine"


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
    listening = f"127.0.0.1:{free_port()}"
    command = prometheus_command(program, tmp_path, listening, "127.0.0.1:1")
    checked = (promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    subprocess.run(checked, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
    terminal = Terminal(monkeypatch)
    prometheus = Service("prometheus", command, f"http://{listening}/-/ready")
    assert await run_together([prometheus], "welcome", ready_within_s=60) == 0
    assert terminal.lines[-2:] == ["welcome", "stopping"]
