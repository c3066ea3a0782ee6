"""Slow uploads to the real server, over raw sockets: the client's time, and its limit."""

import json
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from tests.edge.server_process import Server
from tests.server.process import counted, document, ids, metrics, serving, simulated

SLO_MS = 100
IDLE_S = 1.0
INVALID = 'headway_requests_total{model="sim",outcome="invalid",tier="unknown"}'
REQUESTS: dict[str, Any] = {
    "/v2/models/sim/infer": ids(*range(2000)),
    "/v1/models/sim:predict": {"instances": [list(range(2000))]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("uploads") / "parameters.yaml"
    parameters.write_text(document(interactive={"priority": 1, "slo_ms": SLO_MS}))
    flags = (*simulated("sim", 1), "--body_idle_s", str(IDLE_S))
    with serving(parameters, *flags) as running_server:
        yield running_server


def connected(server: Server, path: str, size: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.http_port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
    connection.sendall(f"{head}x-headway-timeout-ms: {SLO_MS}\r\n\r\n".encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and plain body of what comes until the whole of it is there."""
    with connection.makefile("rb") as lines:
        status = int(lines.readline().split()[1])
        headers = {}
        while line := lines.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, json.loads(lines.read(int(headers["content-length"])))


@pytest.mark.parametrize("path", REQUESTS)
def test_an_upload_of_three_slos_is_answered(server: Server, path: str) -> None:
    body = json.dumps(REQUESTS[path]).encode()
    began_s = monotonic()
    with connected(server, path, len(body)) as connection:
        for part in range(4):
            connection.sendall(body[part * len(body) // 4 : (part + 1) * len(body) // 4])
            while monotonic() < began_s + (part + 1) * SLO_MS / 1e3 and part < 3:
                metrics(server)  # a round trip, so that what was sent has been read
        status, _, plain = answer(connection)
    assert status == 200, plain
    assert monotonic() - began_s > 3 * SLO_MS / 1e3
    if "parameters" in plain:
        assert plain["outputs"][0]["data"] == [sum(range(2000))]
        assert plain["parameters"]["queue_us"] < SLO_MS * 1e3
    else:
        assert plain == {"predictions": [{"checksum": sum(range(2000))}]}


@pytest.mark.parametrize("path", REQUESTS)
def test_an_upload_that_stops_is_given_up(server: Server, path: str) -> None:
    before = metrics(server).get(INVALID, 0)
    with connected(server, path, 1000) as connection:
        connection.sendall(b'{"in')
        status, headers, plain = answer(connection)
        assert connection.recv(1) == b""  # closed
    assert (status, headers["connection"]) == (408, "close")
    assert f"nothing came for {IDLE_S:g} s" in plain["error"]
    assert counted(server, INVALID, before + 1)
