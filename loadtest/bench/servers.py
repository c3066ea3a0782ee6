"""Starts the servers under test on free ports of this machine, and stops them."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from loadtest.bench.errors import BenchError
from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    ModelParameters,
    Parameters,
    TierParameters,
)

HOST = "127.0.0.1"
READY_LIMIT_S = 90.0
READY_CHECK_S = 0.1
STOP_LIMIT_S = 15.0
LOG_TAIL_BYTES = 1500


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """`python -m module --model_name model flags…`; ports and files are added at the start."""

    module: str
    model: str
    flags: tuple[str, ...] = ()
    parameters: Parameters | None = None
    ready_limit_s: float = READY_LIMIT_S


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`parameters_file` is followed by the server, if it was started with parameters."""

    model: str
    http_port: int
    grpc_port: int
    pid: int
    parameters_file: Path


def one_model_parameters(
    model: str,
    batching: ModelParameters,
    interactive_slo_ms: float,
    *,
    max_queue_size: int = 2000,
    bulk: TierParameters = DEFAULT_PARAMETERS.tiers["bulk"],
    generation: int = 1,
) -> Parameters:
    """A parameter document for one model; requests that name no tier are interactive."""
    interactive = TierParameters(
        priority=1, slo_ms=interactive_slo_ms, max_queue_size=max_queue_size, weight=10.0
    )
    return Parameters(
        generation=generation,
        models={model: batching},
        tiers={"interactive": interactive, "bulk": bulk},
    )


def parameter_document(parameters: Parameters) -> bytes:
    """The document as JSON, which is YAML too."""
    return msgspec.json.format(msgspec.json.encode(parameters))


@contextlib.contextmanager
def running_server(command: ServerCommand) -> Iterator[RunningServer]:
    """The server, ready. It is stopped when the block ends, however it ends.

    Raises:
        BenchError: it ended or was not ready within its limit; holds the end of its log.
    """
    # The log stays in memory: waiting for a disk would be held against the server.
    with (
        tempfile.TemporaryDirectory(prefix="headway-bench-") as folder,
        os.fdopen(os.memfd_create("server.log"), "r+b") as log,
    ):
        http_port, grpc_port = free_ports(2)
        arguments = _arguments(command, http_port, grpc_port, Path(folder))
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until_ready(
                process,
                lambda: _is_ready(http_port, command.model),
                name=f"python -m {command.module}",
                limit_s=command.ready_limit_s,
                log=log,
            )
            yield RunningServer(
                command.model, http_port, grpc_port, process.pid, _parameters_file(Path(folder))
            )
        finally:
            stop(process)


def free_ports(count: int) -> list[int]:
    """Ports that nothing on HOST listens on. All are held until all are found."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _arguments(command: ServerCommand, http_port: int, grpc_port: int, folder: Path) -> list[str]:
    arguments = [sys.executable, "-m", command.module, "--model_name", command.model]
    arguments += command.flags
    arguments += ["--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    if command.parameters is not None:
        document = _parameters_file(folder)
        document.write_bytes(parameter_document(command.parameters))
        arguments += ["--parameters", str(document)]
    return arguments


def _parameters_file(folder: Path) -> Path:
    return folder / "parameters.yaml"


def wait_until_ready(
    process: subprocess.Popen[bytes],
    is_ready: Callable[[], bool],
    *,
    name: str,
    limit_s: float,
    log: BinaryIO,
) -> None:
    """Return once `is_ready`. Raises BenchError as `running_server` does."""
    give_up_at = time.monotonic() + limit_s
    while not is_ready():
        if process.poll() is not None:
            problem = f"ended with code {process.returncode} before it was ready"
        elif time.monotonic() > give_up_at:
            problem = f"was not ready within {limit_s:.0f} s"
        else:
            time.sleep(READY_CHECK_S)
            continue
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        end = log.read().decode(errors="replace").strip()
        raise BenchError(f"{name} {problem}; its log ends with:\n{end}")


def _is_ready(port: int, model: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", f"/v2/models/{model}/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
