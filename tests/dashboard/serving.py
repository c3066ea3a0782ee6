"""The dashboard as it is served: a real process, asked over HTTP and by websocket."""

import http.client
import os
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.servers import free_ports
from predictor.local.__main__ import create_parameters_file
from predictor.local.dashboard import create_price_table, dashboard_service
from tests.dashboard.prometheus_process import until

ROOT = Path(__file__).parents[2]
LOCALHOST = "127.0.0.1"
ANSWER_S = 60.0


@dataclass
class Served:
    port: int
    folder: Path
    log: deque[str] = field(default_factory=lambda: deque(maxlen=1000))

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def parameters(self) -> Path:
        return self.folder / "parameters.yaml"

    def get(
        self, path: str, host: str | None, *more: tuple[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers by lower-case name, and body."""
        asked = http.client.HTTPConnection(LOCALHOST, self.port, timeout=ANSWER_S)
        asked.putrequest("GET", path, skip_host=True)
        for name, value in (*([("Host", host)] if host is not None else []), *more):
            asked.putheader(name, value)
        asked.endheaders()
        answer = asked.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
        asked.close()
        return answer.status, headers, body

    def opens_websocket(self, host: str, origin: str | None) -> bool:
        lines = [
            "GET /_stcore/stream HTTP/1.1",
            f"Host: {host}",
            *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: streamlit"),
            *([] if origin is None else [f"Origin: {origin}"]),
        ]
        with socket.create_connection((LOCALHOST, self.port), timeout=ANSWER_S) as asked:
            asked.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            return asked.recv(64).startswith(b"HTTP/1.1 101")


@contextmanager
def served(folder: Path, secrets: str | None = None, **variables: str) -> Iterator[Served]:
    """`secrets`: what lies in secrets.toml; {url} in it is the dashboard's own."""
    (port,) = free_ports(1)
    found = Served(port, folder)
    prices = folder / "prices.yaml"
    create_parameters_file(found.parameters)
    create_price_table(prices)
    if secrets is not None:
        (folder / ".streamlit").mkdir()
        (folder / ".streamlit" / "secrets.toml").write_text(secrets.format(url=found.url))
    service = dashboard_service(
        port, parameters=found.parameters, prices=prices, prometheus_url=None
    )
    environment = {**os.environ, **(service.environment or {}), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        service.command,
        cwd=folder,
        env={**environment, "HOME": str(folder), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=found.log.extend, args=(process.stdout,))
    reader.start()
    try:
        until(lambda: _answers(found, process))
        yield found
    finally:
        process.terminate()
        process.wait()
        reader.join()


def _answers(found: Served, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, "the dashboard ended:\n" + "".join(found.log)
    try:
        return found.get("/_stcore/health", "probe")[0] == http.HTTPStatus.OK
    except OSError:
        return False
