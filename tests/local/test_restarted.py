"""`python -m predictor.local` with real services, of which some are killed."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from predictor.local.ports import PORTS_APART
from predictor.local.prometheus import find_prometheus
from predictor.local.together import port_problem
from tests.edge.server_process import ROOT, STOP_S
from tests.local.services import free_port

SIMULATED = ("--task=simulated", "--simulated_fixed_ms=1")
ALARMS = ("warn", "error", "must be", "traceback", "nvml")


class MakeUp:
    def __init__(self, folder: Path, flags: Sequence[str]) -> None:
        self.http_port = _http_port()
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "predictor.local", "--dashboard_port=0", *SIMULATED),
                *(f"--http_port={self.http_port}", f"--grpc_port={self.http_port + 1}"),
                *(f"--redis_port={free_port()}", *flags),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, *parts: str) -> None:
        """Reads until there was a line for each, in any order."""
        missing = list(parts)
        assert self.process.stdout is not None
        while missing:
            line = self.process.stdout.readline()
            assert line, "".join(self.lines)
            self.lines.append(line)
            missing = [part for part in missing if part not in line]

    def kill(self, flag: str) -> None:
        """The service whose command has this part."""
        own = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (found,) = [
            int(pid)
            for pid in own.read_text().split()
            if flag in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        os.kill(found, signal.SIGKILL)

    def infer(self, replica: int) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port + replica * PORTS_APART}/v2/models/topics/infer",
            b'{"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 2],'
            b' "data": [1, 2]}]}',
        )
        with urllib.request.urlopen(request, timeout=STOP_S) as response:
            return json.loads(response.read())["outputs"][0]["data"]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=STOP_S)
        self.lines += said.splitlines(keepends=True)
        return self.process.returncode


def _http_port() -> int:
    """With room for the gRPC port behind it, and for both of a second replica."""
    while True:
        first = free_port()
        wanted = (first + each for each in (0, 1, PORTS_APART, PORTS_APART + 1))
        if not any(port_problem("127.0.0.1", port) for port in wanted):
            return first


@contextmanager
def made_up(folder: Path, *flags: str) -> Iterator[MakeUp]:
    stack = MakeUp(folder, flags)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()
        assert stack.process.stdout is not None
        stack.process.stdout.close()


def test_one_replica_that_is_killed_is_one_replica_that_is_started_again(tmp_path: Path) -> None:
    with made_up(tmp_path, "--replicas=2", "--prometheus_port=0") as up:
        up.wait_for("ready. Ctrl-C stops it.")
        up.kill(f"--http_port={up.http_port + PORTS_APART}")
        up.wait_for("predictor 2 ended by SIGKILL; starting it again")
        assert up.infer(0) == [3]  # nothing happened to it
        up.wait_for("predictor 2 is ready again")
        assert up.infer(1) == [3]
        assert up.stop() == 0
    assert not any("predictor 1 ended" in line for line in up.lines)


def test_prometheus_is_started_again_and_nothing_alarms(tmp_path: Path) -> None:
    if find_prometheus() is None:
        pytest.skip("no prometheus here: apt-get install prometheus")
    with made_up(tmp_path, "--replicas=1", f"--prometheus_port={free_port()}") as up:
        up.wait_for("ready. Ctrl-C stops it.")
        up.kill("--config.file=run/prometheus/prometheus.yml")
        up.wait_for("prometheus is ready again")
        assert up.stop() == 0
    said = "".join(up.lines).lower()
    assert [alarm for alarm in ALARMS if alarm in said] == [], said
