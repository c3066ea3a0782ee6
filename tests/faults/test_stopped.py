"""Processes that are stopped, not dead: nothing waits for ever, and all goes on or starts again."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from predictor.engine.pulse import DEAD_S, SILENT_S
from tests.edge.server_process import Server
from tests.server.jobs import say
from tests.server.process import document, ids, metrics, serving, simulated
from tests.server.test_processes import children

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

SLOW_S = 10.0  # beyond what anything here takes: a failure, not a measurement
READY = "/v2/models/sim/ready"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Two edges before one engine."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(interactive={"priority": 1, "slo_ms": 200}))
    flags = ("--workers", "2", *simulated("sim", 5))
    with serving(parameters, *flags, models=3) as server:
        yield server


def infer(server: Server, *values: int, **headers: str) -> tuple[int, float, str]:
    """Status, seconds, and the error."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    began_s = time.monotonic()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/v2/models/sim/infer", json.dumps(ids(*values)).encode(), named)
    answer = connection.getresponse()
    body: dict[str, Any] = json.loads(answer.read())
    connection.close()
    return answer.status, time.monotonic() - began_s, body.get("error", "")


def status(server: Server, path: str) -> int:
    return server.get(path)[0]


def until(holds: Callable[[], bool], within_s: float) -> float:
    """Seconds until it holds; fails where it never does."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < within_s
        time.sleep(0.05)
    return time.monotonic() - began_s


def test_a_stopped_engine_that_goes_on(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    engine = children(server)["engine-0"]
    assert infer(server, 1)[0] == 200
    os.kill(engine, signal.SIGSTOP)
    timed = infer(server, 1, x_headway_timeout_ms="300")
    bounded = infer(server, 2)
    bulk = infer(server, 3, x_headway_tier="bulk")
    assert (timed[0], bounded[0], bulk[0]) == (504, 504, 503)
    assert timed[1] < 0.3 + SLOW_S
    assert "gave no answer" in timed[2]
    assert "does not answer" in bulk[2]
    # Either edge may answer, and each notices for itself.
    not_ready_s = until(
        lambda: all(status(server, READY) == 503 for _ in range(16)), SILENT_S + SLOW_S
    )
    assert status(server, "/v2/health/ready") == 503
    assert status(server, "/v2/health/live") == 200
    refused = infer(server, 4)
    assert refused[0] == 503
    os.kill(engine, signal.SIGCONT)
    ready_s = until(lambda: status(server, READY) == 200, SLOW_S)
    answers = [infer(server, n)[0] for n in range(20)]
    assert answers == [200] * 20
    assert children(server)["engine-0"] == engine
    found = metrics(server)
    assert found['headway_requests_total{model="sim",outcome="ok",tier="interactive"}'] == 21
    assert found['headway_process_restarts_total{process="engine"}'] == 0
    say(
        capsys,
        f"engine stopped: 300 ms timeout answered after {timed[1]:.2f} s, SLO 200 ms after"
        f" {bounded[1]:.2f} s, bulk after {bulk[1]:.2f} s, refused in {1e3 * refused[1]:.0f} ms,"
        f" not ready {not_ready_s:.2f} s later, ready {ready_s:.2f} s after it went on",
    )
    assert server.stop() == 0


def test_a_stopped_engine_is_started_again(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = children(server)["engine-0"]
    began_s = time.monotonic()
    os.kill(engine, signal.SIGSTOP)
    server.wait_for_line("engine 0 is silent, though it runs; killing it")
    killed_s = time.monotonic() - began_s
    server.wait_for_line("all models are back")
    until(lambda: status(server, READY) == 200, SLOW_S)
    assert infer(server, 1)[0] == 200
    assert children(server)["engine-0"] != engine
    assert metrics(server)['headway_process_restarts_total{process="engine"}'] == 1
    assert killed_s < DEAD_S + SLOW_S
    say(capsys, f"engine stopped for good: killed after {killed_s:.1f} s, and started again")
    assert server.stop() == 0


def test_liveness_turns_false_where_nobody_starts_it_again(server: Server) -> None:
    """The supervisor is stopped, too: only Kubernetes is left."""
    pids = children(server)
    os.kill(server.process.pid, signal.SIGSTOP)
    os.kill(pids["engine-0"], signal.SIGSTOP)
    until(lambda: status(server, "/v2/health/live") != 200, 2 * DEAD_S + SLOW_S)
    os.kill(pids["engine-0"], signal.SIGCONT)
    until(lambda: status(server, "/v2/health/live") == 200, SLOW_S)
    os.kill(server.process.pid, signal.SIGCONT)
    until(lambda: status(server, READY) == 200, SLOW_S)
    assert children(server) == pids, "a supervisor that stood still killed who did not"
    assert server.stop() == 0


def test_a_stopped_edge_is_started_again(server: Server) -> None:
    edge = children(server)["edge-0"]
    os.kill(edge, signal.SIGSTOP)
    server.wait_for_line("edge 0 is silent, though it runs; killing it")
    server.wait_for_line("engine 0 is ready for sim")
    until(lambda: status(server, READY) == 200, SLOW_S)
    assert children(server)["edge-0"] != edge
    assert [infer(server, n)[0] for n in range(20)] == [200] * 20
    assert server.stop() == 0
