"""Start, clients that nobody here wrote, edits while serving, drain, and bad starts."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from tritonclient import http as triton

from tests.edge.server_process import START_S, Server
from tests.server.process import document, failed_start, ids, metrics, replace, serving, simulated

GENERATION = "headway_parameters_generation"
REFUSED = "headway_parameters_refused_total"


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("topics") / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, "--model_name", "topics", "--task", "topic") as server:
        yield server


TEXTS = ["The striker scored twice in the final", "Shares fell as the bank raised rates"]
LABELS = ["sports", "business"]


@pytest.mark.parametrize("binary", [False, True])
def test_tritonclient_http(topics: Server, binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{topics.http_port}")
    text = triton.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(TEXTS, object), binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "score")]
    result = client.infer("topics", [text], outputs=wanted, priority=1, timeout=30_000_000)
    labels = result.as_numpy("label")
    assert [each.decode() if isinstance(each, bytes) else each for each in labels] == LABELS
    assert result.as_numpy("score").shape == (2,)
    client.close()


TRITON_GRPC = """
import sys
import numpy as np
import tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
text = triton.InferInput("text", [1], "BYTES")
text.set_data_from_numpy(np.array([sys.argv[2].encode()], object))
answer = client.infer("topics", [text], priority=1, client_timeout=30)
print(answer.as_numpy("label")[0].decode(), answer.as_numpy("probabilities").shape)
"""


def test_tritonclient_grpc(topics: Server) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TRITON_GRPC, f"127.0.0.1:{topics.grpc_port}", TEXTS[0]],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=True,
    )
    assert run.stdout == "sports (1, 8)\n"


async def test_clients_of_the_sdk(topics: Server) -> None:
    text = InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(TEXTS, object), binary_data=False)
    request = InferRequest("topics", [text], request_id="7")
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    response = await rest.infer(topics.url, request, model_name="topics")
    assert response.outputs[0].data == LABELS
    client = InferenceGRPCClient(url=f"127.0.0.1:{topics.grpc_port}")
    raw = InferInput("text", [2], "BYTES")
    raw.set_data_from_numpy(np.array([each.encode() for each in TEXTS], object))
    answer = await client.infer(InferRequest("topics", [raw]))
    assert answer.outputs[0].as_numpy().tolist() == [each.encode() for each in LABELS]
    await client.close()


def test_v1_and_metadata(topics: Server) -> None:
    status, body = topics.post("/v1/models/topics:predict", {"instances": TEXTS})
    assert status == 200
    assert [each["label"] for each in body["predictions"]] == LABELS
    status, body = topics.get("/v2/models/topics")
    assert [each["name"] for each in body["outputs"]] == ["label", "score", "probabilities"]


def test_edits_are_in_force_at_once_and_lose_nothing(tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document())
    body = json.dumps(ids(1, 2)).encode()
    with serving(parameters, *simulated("sim", 2)) as server, ThreadPoolExecutor(4) as pool:
        assert metrics(server)[GENERATION] == 1

        def load(_: int) -> set[int]:
            connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
            statuses = set()
            for _ in range(100):
                connection.request("POST", "/v2/models/sim/infer", body)
                response = connection.getresponse()
                response.read()
                statuses.add(response.status)
            connection.close()
            return statuses

        under_load = pool.map(load, range(4))
        for generation in range(2, 6):
            replace(parameters, document(generation, {"sim": {"max_batch_size": generation}}))
            server.wait_for_line(f"parameters of generation {generation} are in force")
            assert metrics(server)[GENERATION] == generation
        replace(parameters, document(6, {"sim": {"max_batch_size": "many"}}))
        server.wait_for_line("models.sim.max_batch_size")
        replace(parameters, document(7, {"sam": {}}))
        server.wait_for_line("models.sam")
        told = metrics(server)
        assert told[GENERATION] == 5
        assert told[REFUSED] == 2
        assert set().union(*under_load) == {200}


def test_sigterm_under_load(tmp_path: Path) -> None:
    """What is in flight is answered, what comes later is refused, and the exit code is 0."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document(models={"sim": {"max_batch_size": 1}}))
    with serving(parameters, *simulated("sim", 100)) as server:
        address = ("127.0.0.1", server.http_port)
        connections = [http.client.HTTPConnection(*address, timeout=60) for _ in range(8)]
        idle = http.client.HTTPConnection(*address, timeout=60)
        idle.request("GET", "/v2/models/sim/ready")
        idle.getresponse().read()
        for number, connection in enumerate(connections):
            connection.request("POST", "/v2/models/sim/infer", json.dumps(ids(number)).encode())
        offered = 'headway_offered_requests_total{model="sim",tier="interactive"}'
        while metrics(server)[offered] < len(connections):
            pass  # each scrape is a turn of the server's loop
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("draining")
        new = http.client.HTTPConnection(*address, timeout=60)
        for connection in (idle, new):  # refused at the door, or told so
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/v2/models/sim/infer", json.dumps(ids(1)).encode())
                assert connection.getresponse().status == 503
        answers = [connection.getresponse() for connection in connections]
        assert [answer.status for answer in answers] == [200] * 8
        sums = [json.loads(answer.read())["outputs"][0]["data"][0] for answer in answers]
        assert sums == list(range(8))
        assert server.process.wait(60) == 0


def test_starts_that_cannot_work_say_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    (corrupt / "config.json").write_text('{"model_type": "bert"')
    classify = ("--task", "text-classification", "--model_dir")
    broken = tmp_path / "parameters.yaml"
    broken.write_text("tiers: [")
    for flags, part in (
        ((*classify, str(tmp_path / "missing")), "missing"),
        ((*classify, str(empty)), "config.json"),
        ((*classify, str(corrupt)), "config.json"),
        (("--task", "dancing"), "dancing"),
        (("--parameters", str(broken), *simulated("sim", 1)), "parameters.yaml"),
        (("--parameters", str(tmp_path / "none.yaml"), *simulated("sim", 1)), "none.yaml"),
    ):
        code, stderr = failed_start(*flags)
        assert code == 2, (flags, stderr)
        assert part in stderr
        assert "Traceback" not in stderr
