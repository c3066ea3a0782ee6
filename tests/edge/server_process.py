"""Runs a server as a process of its own, and ends it."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 30


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    stderr: IO[str]
    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> tuple[int, Any]:
        return fetch(urllib.request.Request(self.url + path))

    def post(
        self, path: str, plain: object, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        body = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
        return fetch(urllib.request.Request(self.url + path, body, headers or {}))

    def wait_for_line(self, *parts: str) -> None:
        """Reads what the server says until there was a line for each part, in any order.

        Fails if the server ends before.
        """
        missing = list(parts)
        for line in self.stderr:
            found = next((part for part in missing if part in line), None)
            if found is not None:
                missing.remove(found)
            if not missing:
                return
        raise AssertionError(f"the server ended without saying {missing}")

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(STOP_S)


def fetch(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=START_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


FAKE = "tests.edge.fake_main"


def command(http_port: int, grpc_port: int, *flags: str, module: str = FAKE) -> list[str]:
    ports = ["--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    return [sys.executable, "-m", module, *ports, *flags]


@contextmanager
def running(*flags: str, module: str = FAKE, models: int = 1) -> Iterator[Server]:
    """A server whose models are loaded and whose ports answer."""
    http_port, grpc_port = free_ports()
    process = subprocess.Popen(
        command(http_port, grpc_port, *flags, module=module),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    server = Server(process, process.stderr, http_port, grpc_port)
    try:
        for _ in range(models):
            server.wait_for_line("ready")
        assert server.get("/v2/health/ready") == (200, {"ready": True})
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            grpc.channel_ready_future(channel).result(START_S)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_S)
        process.stderr.close()
