"""Two signals: whoever waits is answered with 503, on every protocol, and the log has no trace."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.edge.server_process import START_S, STOP_S, Server
from tests.server.process import document, grpc_ids, ids, metrics, serving, simulated

LONG = range(16_000)  # tokens: a batch of 3.2 s, and each has one of its own


def over_http(server: Server) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=START_S)
    connection.request("POST", "/v2/models/sim/infer", json.dumps(ids(*LONG)).encode())
    answer = connection.getresponse()
    assert answer.getheader("Retry-After"), answer.read()
    assert "error" in json.loads(answer.read())
    return answer.status


def over_v1(server: Server) -> int:
    body = json.dumps({"instances": [list(LONG)]}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=START_S)
    connection.request("POST", "/v1/models/sim:predict", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert "error" in json.loads(answer.read())
    return answer.status


def over_grpc(server: Server) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as raised:
            GRPCInferenceServiceStub(channel).ModelInfer(grpc_ids("sim", *LONG))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE, raised.value
        return 503


def half_a_body(server: Server) -> int:
    """It never sends the rest; it may be cut off, in a moment."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=START_S) as client:
        head = "POST /v2/models/sim/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
        client.sendall(head.encode())
        answer = client.recv(4096)
    return int(answer.split()[1]) if answer else 503


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_waits_is_answered(tmp_path: Path, workers: str) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(interactive={"priority": 1, "slo_ms": None}))
    flags = ("--workers", workers, *simulated("sim", 0)[:-1], "200")
    asks: list[Callable[[Server], int]] = [over_http, over_http, over_v1, over_v1]
    asks += [over_grpc, over_grpc, half_a_body]
    models = 1 if workers == "1" else 3
    with (
        serving(parameters, *flags, models=models) as server,
        ThreadPoolExecutor(len(asks)) as pool,
    ):
        outcomes = [pool.submit(ask, server) for ask in asks]
        offered = 'headway_offered_requests_total{model="sim",tier="interactive"}'
        while metrics(server)[offered] < len(asks) - 1:
            pass  # each scrape is a turn of the server's loop
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line(*["draining"] * (1 if workers == "1" else 3))
        began_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert [each.result() for each in outcomes] == [503] * len(asks)
        assert server.process.wait(STOP_S) == 0
        assert time.monotonic() - began_s < 10, "it waited for its grace period"
        said = server.stderr.read()
    assert "Traceback" not in said
    assert "Exception" not in said
