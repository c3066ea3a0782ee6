"""The edge as a process, over real sockets, with clients that nobody here wrote."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.edge.asgi import ids_input
from tests.edge.conftest import WORDS
from tests.edge.server_process import ROOT, START_S, Server, command, free_ports, running


@pytest.fixture(scope="module")
def server(tokenizer_file: Path) -> Iterator[Server]:
    flags = ("--tokenizer", str(tokenizer_file), "--vocabulary", str(len(WORDS)))
    with running(*flags) as running_server:
        yield running_server


@pytest.mark.parametrize("binary", [False, True])
def test_tritonclient_http(server: Server, binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    ids = triton.InferInput("input_ids", [1, 3], "INT64")
    ids.set_data_from_numpy(np.array([[1, 2, 3]], "<i8"), binary_data=binary)
    wanted = [triton.InferRequestedOutput("checksum", binary_data=binary)]
    result = client.infer("sim", [ids], outputs=wanted, request_id="7", priority=1)
    assert result.as_numpy("checksum").tolist() == [6]
    assert result.get_response()["id"] == "7"
    text = triton.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(["the bus", "late"], object), binary_data=binary)
    result = client.infer("topics", [text])
    assert result.as_numpy("probabilities").shape == (2, 3)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sim")
    assert client.get_model_metadata("topics")["outputs"][0]["name"] == "label"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    client.close()


def _ids_of_triton() -> triton.InferInput:
    ids = triton.InferInput("input_ids", [1, 3], "INT64")
    ids.set_data_from_numpy(np.array([[1, 2, 3]], "<i8"))
    return ids


def test_versions_of_tritonclient(server: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    assert client.is_model_ready("sim", "1")
    assert not client.is_model_ready("sim", "2")
    assert client.get_model_metadata("sim", "1")["versions"] == ["1"]
    result = client.infer("sim", [_ids_of_triton()], model_version="1")
    assert result.as_numpy("checksum").tolist() == [6]
    calls: list[Callable[[], object]] = [
        lambda: client.get_model_metadata("sim", "2"),
        lambda: client.infer("sim", [_ids_of_triton()], model_version="2"),
    ]
    for asked in calls:
        with pytest.raises(InferenceServerException, match=r"no version '2'; served: 1") as raised:
            asked()
        assert raised.value.status() == "404"
    client.close()


def test_every_extension_that_metadata_names(server: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    tried = {"binary_tensor_data"}  # by the tests above, as are most of their calls
    models = {each["name"]: each for each in client.get_model_repository_index()}
    assert models["sim"] == {"name": "sim", "version": "1", "state": "READY", "reason": ""}
    client.load_model("sim")
    with pytest.raises(InferenceServerException, match=r"parameters\.config: .* fixed"):
        client.load_model("sim", config="{}")
    with pytest.raises(InferenceServerException, match="'nobody' is not served"):
        client.load_model("nobody")
    with pytest.raises(InferenceServerException, match="cannot be unloaded"):
        client.unload_model("sim")
    tried |= {"model_repository", "model_repository_extension"}
    client.infer("sim", [_ids_of_triton()], priority=2, timeout=60_000_000)
    tried |= {"schedule_policy"}
    text = triton.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(["the bus", "late"], object))
    for binary in (False, True):
        best = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        found = client.infer("topics", [text], outputs=[best]).as_numpy("probabilities")
        texts = [each.decode() if isinstance(each, bytes) else each for each in found.ravel()]
        assert (found.shape, texts[:2]) == ((2, 2), ["0.500000:1:busy", "0.250000:0:calm"])
    tried |= {"classification"}
    assert tried == set(client.get_server_metadata()["extensions"])
    client.close()


def test_what_tritonclient_asks_for_and_nobody_does(server: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    text = triton.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array(["late"], object))
    label = triton.InferRequestedOutput("label", class_count=2)
    shared = triton.InferRequestedOutput("label")
    shared.set_shared_memory("region", 64)
    for part, status, asked in (
        ("sequence_id", "400", lambda: client.infer("topics", [text], sequence_id=3)),
        (
            "parameters.shout: not",
            "400",
            lambda: client.infer("topics", [text], parameters={"shout": 1}),
        ),
        ("use: probabilities", "400", lambda: client.infer("topics", [text], outputs=[label])),
        ("shared memory", "400", lambda: client.infer("topics", [text], outputs=[shared])),
        ("/metrics", "501", client.get_inference_statistics),
        ("/metrics", "501", lambda: client.get_inference_statistics("sim", "1")),
        ("metadata", "501", lambda: client.get_model_config("sim")),
        ("trace", "501", client.get_trace_settings),
        ("log settings", "501", client.get_log_settings),
        ("log settings", "501", lambda: client.update_log_settings({"log_verbose_level": 1})),
        ("shared memory", "501", client.get_system_shared_memory_status),
        ("shared memory", "501", lambda: client.register_system_shared_memory("a", "/a", 8)),
        ("shared memory", "501", client.get_cuda_shared_memory_status),
    ):
        with pytest.raises(InferenceServerException, match=part) as raised:
            asked()
        assert raised.value.status() == status
    client.close()


def test_tritonclient_grpc(server: Server) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.edge.triton_grpc_client", str(server.grpc_port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("binary", [False, True])
async def test_clients_of_the_sdk(server: Server, binary: bool) -> None:
    ids = InferInput("input_ids", [1, 3], "INT64")
    ids.set_data_from_numpy(np.array([[1, 2, 3]], "<i8"), binary_data=binary)
    request = InferRequest("sim", [ids], request_id="7")
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    response = await rest.infer(server.url, request, model_name="sim")
    assert response.outputs[0].as_numpy().tolist() == [6]
    assert await rest.is_server_ready(server.url)
    assert await rest.is_model_ready(server.url, "sim")
    over_grpc = InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}")
    response = await over_grpc.infer(request)
    assert (response.id, response.outputs[0].as_numpy().tolist()) == ("7", [6])
    assert await over_grpc.is_model_ready("sim")
    await over_grpc.close()
    await rest.close()


def test_v1_predict(server: Server) -> None:
    path = "/v1/models/sim:predict"
    assert server.post(path, {"instances": [[1, 2], [3]]}) == (
        200,
        {"predictions": [{"checksum": 3}, {"checksum": 3}]},
    )
    charset = {"Content-Type": "application/json; charset=utf-8", "x-headway-tier": "bulk"}
    assert server.post(path, {"instances": [[4]]}, charset)[1] == {"predictions": [{"checksum": 4}]}
    status, answer = server.post("/v1/models/topics:predict", {"instances": ["a", {"text": "b"}]})
    assert status == 200
    expected = {"label": "busy", "score": 0.5, "probabilities": [0.25, 0.5, 0.25]}
    assert answer == {"predictions": [expected] * 2}


def test_errors_of_v1_and_of_the_sdk(server: Server) -> None:
    predict = "/v1/models/sim:predict"
    timeout = {"x-headway-timeout-ms": "soon"}
    cloud_event = {"Content-Type": "application/cloudevents+json", "ce-specversion": "1.0"}
    cloud_event |= {"ce-id": "1", "ce-source": "here", "ce-type": "rows"}
    for expected, (status, body) in (
        (400, server.post(predict, {})),
        (400, server.post(predict, [])),
        (400, server.post(predict, {"instances": 1})),
        (400, server.post(predict, {"instances": ["a"]})),
        (400, server.post(predict, b"{")),
        (400, server.post(predict, b"{", {"Content-Type": "text/plain"})),
        (400, server.post(predict, b"[" * 5000, {"Content-Type": "text/plain"})),
        (400, server.post(predict, {"instances": [[1]]}, timeout)),
        (400, server.post(predict, b"\xff{", cloud_event)),
        (500, server.post(predict, {"instances": [[-1]]})),
        (413, server.post(predict, b" " * ((16 << 20) + 1))),
        (413, server.post("/v2/models/sim/infer", b" " * ((16 << 20) + 1))),
        (404, server.post("/v1/models/nobody:predict", {"instances": [[1]]})),
        (404, server.post("/v2/models/nobody/infer", {})),
        (404, server.get("/v2/models/nobody")),
        (404, server.get("/v2/models/nobody/ready")),
        (404, server.get("/nothing")),
        (501, server.post("/v1/models/sim:explain", {"instances": [[1]]})),
        (501, server.post("/v2/models/sim/generate", {"text_input": "a"})),
        (405, server.get("/v2/models/sim/infer")),
        (405, server.post("/v2/health/live", b"")),
        (400, server.post("/v2/repository/models/sim/unload", b"")),
        (404, server.post("/v2/repository/models/nobody/unload", b"")),
        (400, server.post("/v2/models/sim/versions/1/infer", {"inputs": []})),
        (404, server.post("/v2/models/sim/versions/2/infer", {"inputs": []})),
    ):
        assert status == expected, body
        assert list(body) == ["error"]
    assert server.post("/v2/repository/models/sim/load", b"")[0] == 200
    assert server.get("/v2/health/live") == (200, {"live": True})


def test_grpc_statuses_of_the_sdk(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for expected, method, message in (
            ("NOT_FOUND", stub.ModelMetadata, pb.ModelMetadataRequest(name="nobody")),
            ("NOT_FOUND", stub.ModelReady, pb.ModelReadyRequest(name="nobody")),
            ("NOT_FOUND", stub.RepositoryModelLoad, _named(pb.RepositoryModelLoadRequest)),
            ("NOT_FOUND", stub.RepositoryModelUnload, _named(pb.RepositoryModelUnloadRequest)),
            ("INVALID_ARGUMENT", stub.ModelInfer, pb.ModelInferRequest(model_name="sim")),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                method(message, timeout=START_S)
            assert raised.value.code() is grpc.StatusCode[expected]
        load = pb.RepositoryModelLoadRequest(model_name="sim")
        assert stub.RepositoryModelLoad(load, timeout=START_S).isLoaded


def _named(kind: type) -> object:
    return kind(model_name="nobody")


def _message() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="sim")
    tensor = message.inputs.add(name="input_ids", datatype="INT64", shape=[1, 2])
    tensor.contents.int64_contents.extend([1, 2])
    return message


def test_grpc_cancel_and_deadline_reach_the_queue() -> None:
    with running("--hold") as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            call = stub.ModelInfer.future(_message())
            server.wait_for_line("held None")
            call.cancel()
            server.wait_for_line("cancelled")
            call = stub.ModelInfer.future(_message(), timeout=START_S)
            server.wait_for_line("held with a timeout")
            call.cancel()
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
        connection.request("POST", "/v2/models/sim/infer", json.dumps({"inputs": [ids_input(1)]}))
        server.wait_for_line("held None")
        connection.close()
        server.wait_for_line("cancelled")


def test_a_v1_client_that_hangs_up() -> None:
    with running("--hold") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
        connection.request("POST", "/v1/models/sim:predict", json.dumps({"instances": [[1]]}))
        server.wait_for_line("held")
        connection.close()
        server.wait_for_line("cancelled")
        assert server.get("/v2/models/sim/ready")[0] == 200


def test_sigterm_under_load_answers_what_is_in_flight() -> None:
    with running("--hold") as server, ThreadPoolExecutor(3) as clients:
        body = {"inputs": [ids_input(1, 2)]}
        over_http = clients.submit(server.post, "/v2/models/sim/infer", body)
        over_v1 = clients.submit(server.post, "/v1/models/sim:predict", {"instances": [[4]]})
        idle = httpx.Client(base_url=server.url)
        assert idle.get("/v2/models/sim/ready").status_code == 200
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            over_grpc = stub.ModelInfer.future(_message(), timeout=START_S)
            for _ in range(3):
                server.wait_for_line("held")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("drain")
            with contextlib.suppress(httpx.TransportError):  # refused is as good
                assert idle.post("/v2/models/sim/infer", json=body).status_code == 503
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(_message(), timeout=START_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            server.process.send_signal(signal.SIGUSR1)
            assert over_grpc.result().raw_output_contents or over_grpc.result().outputs
            assert over_http.result()[1]["outputs"][0]["data"] == [3]
            assert over_v1.result() == (200, {"predictions": [{"checksum": 4}]})
        idle.close()
        assert server.process.wait(START_S) == 0


def test_the_grace_period_bounds_the_drain() -> None:
    with running("--hold", "--grace_s", "0.2") as server, ThreadPoolExecutor(1) as clients:
        body = {"inputs": [ids_input(1, 2)]}
        over_http = clients.submit(server.post, "/v2/models/sim/infer", body)
        server.wait_for_line("held")
        assert server.stop() == 0
        assert over_http.result()[0] == 503


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_server(sig: signal.Signals) -> None:
    with running() as server:
        assert server.stop(sig) == 0


def _failing_start(http_port: int, grpc_port: int, *flags: str) -> tuple[int, str]:
    run = subprocess.run(
        command(http_port, grpc_port, *flags),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stderr


@pytest.mark.parametrize("flag", ["--http_port", "--grpc_port"])
def test_a_taken_port_is_an_error(flag: str) -> None:
    http_port, grpc_port = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", http_port if flag == "--http_port" else grpc_port))
        taken.listen()
        code, said = _failing_start(http_port, grpc_port)
    assert code == 2
    assert f"choose another {flag}" in said


def test_a_start_that_fails_says_why() -> None:
    code, said = _failing_start(*free_ports(), "--fail", "startup")
    assert code == 2
    assert "headway: --model_dir: nothing is there" in said
    code, said = _failing_start(*free_ports(), "--fail", "other")
    assert code == 1
    assert "headway: RuntimeError: boom" in said


def test_metrics(server: Server) -> None:
    assert httpx.get(f"{server.url}/metrics").text == "headway_up 1\n"
