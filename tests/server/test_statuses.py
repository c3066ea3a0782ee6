"""Every way a request can end, on the real server, over HTTP and gRPC."""

import http.client
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.edge.server_process import Server
from tests.server.process import (
    counted,
    document,
    grpc_ids,
    ids,
    metrics,
    requests_total,
    serving,
)

MODELS = """
- {name: quick, task: simulated, simulated_fixed_ms: 2, simulated_token_us: 0}
- {name: slow, task: simulated, simulated_fixed_ms: 150, simulated_token_us: 0}
- {name: mates, task: simulated, simulated_fixed_ms: 80, simulated_token_us: 0}
- {name: patient, task: simulated, simulated_fixed_ms: 150, simulated_token_us: 0}
"""
INVALID = 'headway_requests_total{model="quick",outcome="invalid",tier="unknown"}'
NAMELESS = 'headway_requests_total{model="unknown",outcome="invalid",tier="unknown"}'


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-edges"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    edges = request.param
    folder = tmp_path_factory.mktemp("statuses")
    parameters, models = folder / "parameters.yaml", folder / "models.yaml"
    models.write_text(MODELS)
    parameters.write_text(
        document(
            models={
                "slow": {"max_batch_size": 1},
                "patient": {"policy": "constant", "max_batch_size": 1},
            },
            narrow={"priority": 3, "slo_ms": 10_000, "max_queue_size": 1},
            hasty={"priority": 4, "slo_ms": 20},
        )
    )
    flags = ("--models", str(models), "--max_body_bytes", "100000", "--workers", str(edges))
    told = 4 if edges == 1 else 4 + edges  # each edge says so when the engine has all
    with serving(parameters, *flags, models=told) as running_server:
        yield running_server


def ask(server: Server, model: str, body: object, **headers: str) -> tuple[int, str, object]:
    """Status, Retry-After and plain body of an infer call."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", f"/v2/models/{model}/infer", content, names)
    response = connection.getresponse()
    plain = json.loads(response.read())
    connection.close()
    return response.status, response.getheader("Retry-After") or "", plain


def ask_grpc(server: Server, model: str, *values: int, **parameters: int) -> grpc.StatusCode:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        try:
            GRPCInferenceServiceStub(channel).ModelInfer(
                grpc_ids(model, *values, **parameters), timeout=60
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def test_answered(server: Server) -> None:
    status, _, body = ask(server, "quick", {**ids(1, 2, 3), "id": "mine"})
    assert status == 200
    assert isinstance(body, dict)
    assert body["id"] == "mine"
    assert body["outputs"][0]["data"] == [6]
    assert set(body["parameters"]) == {"queue_us", "service_us", "batch_size"}
    assert all(type(value) is int for value in body["parameters"].values())
    assert ask_grpc(server, "quick", 1, 2) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        ({"inputs": []}, "inputs"),
        (ids(), "input_ids"),
        ({**ids(1), "parameters": {"priority": 99}}, "priority 99"),
        ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}]}, "input_ids"),
    ],
)
def test_bad_input(server: Server, body: object, problem: str) -> None:
    status, _, plain = ask(server, "quick", body)
    assert status == 400
    assert isinstance(plain, dict)
    assert problem in plain["error"] or problem == "body"


def test_bad_tier(server: Server) -> None:
    assert ask(server, "quick", ids(1), x_headway_tier="express")[0] == 400
    assert ask_grpc(server, "quick", 1, priority=99) is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_model(server: Server) -> None:
    status, _, plain = ask(server, "nobody", ids(1))
    assert status == 404
    assert isinstance(plain, dict)
    assert "nobody" in plain["error"]
    assert ask_grpc(server, "nobody", 1) is grpc.StatusCode.NOT_FOUND


def test_body_over_the_limit(server: Server) -> None:
    assert ask(server, "quick", b" " * 100_001)[0] == 413
    code = ask_grpc(server, "quick", *range(1_000_000, 1_040_000))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_queue_full(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: ask(server, "slow", ids(n), x_headway_tier="narrow"), range(8))
        )
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    assert all(int(after) >= 1 for status, after, _ in answers if status == 429)
    with ThreadPoolExecutor(8) as pool:
        codes = set(pool.map(lambda n: ask_grpc(server, "slow", n, priority=3), range(8)))
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_shed_because_it_would_be_late(server: Server) -> None:
    status, after, plain = ask(server, "slow", ids(1), x_headway_tier="hasty")
    assert status == 429
    assert int(after) >= 1
    assert isinstance(plain, dict)
    assert "deadline" in plain["error"]
    assert ask(server, "slow", ids(1), x_headway_timeout_ms="20")[0] == 429
    assert ask(server, "slow", {**ids(1), "parameters": {"timeout": 20_000}})[0] == 429
    assert ask_grpc(server, "slow", 1, timeout=20_000) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deadline_passed_while_waiting(server: Server) -> None:
    """The constant policy sheds nothing: of four at once, the last waits over its 200 ms."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda n: ask(server, "patient", ids(n), x_headway_timeout_ms="200")[0], range(4)
        )
        assert set(answers) == {200, 504}
        codes = set(pool.map(lambda n: ask_grpc(server, "patient", n, timeout=200_000), range(4)))
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_what_the_edge_refuses_is_counted(server: Server) -> None:
    before = metrics(server)[INVALID]
    assert ask(server, "quick", b"{")[0] == 400
    assert ask_grpc(server, "quick") is grpc.StatusCode.INVALID_ARGUMENT
    predict = "/v1/models/quick:predict"
    assert server.post(predict, {"instances": ["a"]})[0] == 400
    assert server.post(predict, b" " * 100_001)[0] == 413
    assert server.post(predict, b"{", {"Content-Type": "application/json"})[0] == 400
    assert counted(server, INVALID, before + 5)
    nameless = metrics(server).get(NAMELESS, 0)
    for number in range(3):
        assert ask(server, f"nobody{number}", ids(1))[0] == 404
        assert server.post(f"/v1/models/nobody{number}:predict", {"instances": [[1]]})[0] == 404
    assert counted(server, NAMELESS, nameless + 6)
    assert not any("nobody" in name for name in metrics(server))


def test_a_poison_row_hurts_only_itself(server: Server) -> None:
    """The first has the device to itself, so that the others wait and ride together."""
    values = [5, -1, 6, 7, -2, 8, 9, 10]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(server, "mates", ids(n)), values))
        codes = list(pool.map(lambda n: ask_grpc(server, "mates", n), values))
    assert [status for status, _, _ in answers] == [500 if n < 0 else 200 for n in values]
    good = [body for _, _, body in answers if isinstance(body, dict) and "outputs" in body]
    assert [body["outputs"][0]["data"][0] for body in good] == [n for n in values if n > 0]
    assert max(body["parameters"]["batch_size"] for body in good) > 1
    assert codes == [grpc.StatusCode.INTERNAL if n < 0 else grpc.StatusCode.OK for n in values]


def test_clients_that_go_away_take_their_rows_out(server: Server) -> None:
    """They come when others wait, and ask for 50 tokens that are never computed."""
    tokens = 'headway_tokens_total{model="slow",tier="interactive"}'
    cancelled = requests_total(server, "slow", "cancelled")
    offered = 'headway_offered_requests_total{model="slow",tier="interactive"}'
    before, computed = metrics(server)[offered], metrics(server)[tokens]
    busy = [http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60) for _ in range(8)]
    for connection in busy:
        connection.request("POST", "/v2/models/slow/infer", json.dumps(ids(1)).encode())
    assert busy[0].getresponse().status == 200
    gone = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    gone.request("POST", "/v2/models/slow/infer", json.dumps(ids(*range(50))).encode())
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(grpc_ids("slow", *range(50)))
        while metrics(server)[offered] < before + len(busy) + 2:
            pass  # each scrape is a turn of the server's loop
        gone.close()
        call.cancel()
        assert [connection.getresponse().status for connection in busy[1:]] == [200] * 7
    for connection in busy:
        connection.close()
    assert ask(server, "slow", ids(1))[0] == 200  # their turn would have come before
    assert requests_total(server, "slow", "cancelled") == cancelled + 2
    assert metrics(server)[tokens] == computed + len(busy) + 1


def test_garbage_leaves_the_server_alive(server: Server) -> None:
    rng = random.Random(1)
    valid = json.dumps(ids(1, 2, 3)).encode()
    for _ in range(250):
        assert 400 <= ask(server, "quick", rng.randbytes(rng.randint(0, 200)))[0] < 500
        mutated = bytearray(valid)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        status, _, plain = ask(server, "quick", bytes(mutated))
        poison = status == 500 and "negative id" in str(plain)  # as a sign may well be put in
        assert poison or status == 200 or 400 <= status < 500, (bytes(mutated), plain)
    assert ask(server, "quick", ids(1))[0] == 200


def test_two_models_have_their_own_metrics(server: Server) -> None:
    quick, slow = (requests_total(server, model, "ok") for model in ("quick", "slow"))
    ask(server, "quick", ids(1))
    assert requests_total(server, "quick", "ok") == quick + 1
    assert requests_total(server, "slow", "ok") == slow
