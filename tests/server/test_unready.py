"""A server that is not there yet, or not for long: loading, draining, hung."""

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.edge.server_process import ROOT, START_S, Server, command, free_ports
from tests.server.process import document, grpc_ids, ids, metrics, serving, simulated

# The first takes a minute for each batch of its warm-up, and the second waits for its turn.
MODELS = """
- {name: endless, task: simulated, simulated_fixed_ms: 60000}
- {name: next, task: simulated}
"""


@contextmanager
def loading(folder: Path) -> Iterator[Server]:
    """A server that answers while it loads, for longer than a test lasts."""
    models = folder / "models.yaml"
    models.write_text(MODELS)
    http_port, grpc_port = free_ports()
    flags = ("--host", "127.0.0.1", "--models", str(models))
    process = subprocess.Popen(
        command(http_port, grpc_port, *flags, module="predictor"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            grpc.channel_ready_future(channel).result(START_S)
        yield Server(process, process.stderr, http_port, grpc_port)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(START_S)
        process.stderr.close()


def grpc_refusal(server: Server, model: str) -> grpc.RpcError:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as raised:
            GRPCInferenceServiceStub(channel).ModelInfer(grpc_ids(model, 1), timeout=START_S)
        return raised.value


def test_loading(tmp_path: Path) -> None:
    """Every door says 503, readiness is false, and a signal ends it before the load is done."""
    with loading(tmp_path) as server:
        assert server.get("/v2/health/live") == (200, {"live": True})
        assert server.get("/v2/health/ready")[0] == 503
        for model in ("endless", "next"):
            assert server.get(f"/v2/models/{model}/ready")[0] == 503
            status, body = server.post(f"/v2/models/{model}/infer", ids(1))
            assert (status, "loading" in body["error"]) == (503, True)
            status, body = server.post(f"/v1/models/{model}:predict", {"instances": [[1]]})
            assert (status, "loading" in body["error"]) == (503, True)
            refusal = grpc_refusal(server, model)
            assert refusal.code() is grpc.StatusCode.UNAVAILABLE
            assert dict(refusal.trailing_metadata())["retry-after"] == "1"
        request = urllib.request.Request(f"{server.url}/v2/models/next/infer", b"{}")
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=START_S)
        assert int(raised.value.headers["Retry-After"]) >= 1
        raised.value.close()
        assert server.post("/v2/models/nobody/infer", ids(1))[0] == 404
        refused = 'headway_requests_total{model="next",outcome="unavailable",tier="unknown"}'
        assert metrics(server)[refused] == 4
        assert server.stop() == 0


def test_draining_over_grpc(tmp_path: Path) -> None:
    """Calls in flight are answered, new ones are not taken, and the exit code is 0."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(models={"sim": {"max_batch_size": 1}}))
    with serving(parameters, *simulated("sim", 300)) as server:
        offered = 'headway_offered_requests_total{model="sim",tier="interactive"}'
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer.future(grpc_ids("sim", n), timeout=START_S) for n in range(4)]
            while metrics(server)[offered] < len(calls):
                pass  # each scrape is a turn of the server's loop
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("draining")
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(grpc_ids("sim", 9), timeout=START_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert [checksum(call.result()) for call in calls] == [0, 1, 2, 3]
        assert server.process.wait(START_S) == 0


def checksum(response: pb.ModelInferResponse) -> int:
    return int(response.outputs[0].contents.int64_contents[0])


def test_a_device_that_hangs(tmp_path: Path) -> None:
    """8,000 tokens of 1 ms are a batch of 8 s, and 1 s is all it has. Nobody waits for ever."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(interactive={"priority": 1, "slo_ms": None}))
    flags = (*simulated("sim", 1)[:-1], "1000", "--batch_timeout_s", "1")
    with serving(parameters, *flags) as server, ThreadPoolExecutor(3) as pool:
        long = ids(*range(8000))
        answers = list(pool.map(lambda _: server.post("/v2/models/sim/infer", long), range(3)))
        assert [status for status, _ in answers] == [503] * 3
        assert all("hangs" in body["error"] for _, body in answers)
        assert server.process.wait(START_S) == 1
        said = server.stderr.read()
    assert "headway: RuntimeError: the device has been at one batch for over 1 s" in said
    assert "Traceback" not in said
