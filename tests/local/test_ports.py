"""The ports of `make up`, before there is anything but a Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.local.ports import main
from tests.edge.server_process import ROOT
from tests.local.services import free_port
from tests.local.test_main import taken_port

QUIET = ("--prometheus_port=0", "--dashboard_port=0")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed, and a Python without any package."""
    for package in ("core", "local"):
        shutil.copytree(ROOT / "predictor" / package, tmp_path / "predictor" / package)
    for file in ("Makefile", "pyproject.toml", "constraints.txt", "predictor/__init__.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_a_taken_port_is_known_before_anything_is_installed(fresh: Path) -> None:
    with taken_port() as port:
        done = subprocess.run(
            ["/usr/bin/env", "make", "up", f"HTTP_PORT={port}", "PYTHON=./bare-python"],
            cwd=fresh,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"headway: cannot listen on 127.0.0.1:{port}" in done.stdout, done.stderr
    assert "make up HTTP_PORT=<port>" in done.stdout
    assert not (fresh / ".venv").exists()


def test_all_ports_that_are_free_are_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    ports = [f"--{kind}_port={free_port()}" for kind in ("http", "grpc", "redis")]
    assert main([*ports, *QUIET, "--replicas=1", "--labels=a,b"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("flag", ["--task=text-generation", "--simulated_output_tokens=9"])
def test_where_one_replica_is_the_default_no_second_one_is_looked_for(flag: str) -> None:
    with taken_port() as second:
        ports = [f"--http_port={second - 10}", f"--grpc_port={free_port()}"]
        ports.append(f"--redis_port={free_port()}")
        assert main([*ports, *QUIET, "--replicas=2"]) == 2
        assert main([*ports, *QUIET, flag]) == 0


def test_a_redis_that_is_named_needs_no_port_here() -> None:
    with taken_port() as port:
        flags = [f"--{kind}_port={free_port()}" for kind in ("http", "grpc")]
        flags += [f"--redis_port={port}", *QUIET, "--replicas=1"]
        assert main(flags) == 2
        assert main([*flags, "--redis_url=redis://elsewhere"]) == 0
