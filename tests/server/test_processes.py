"""Edges and engines as processes: spread, killed, drained, and orphaned."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.supervisor.child import ORDER_VARIABLE
from tests.edge.server_process import ROOT, START_S, STOP_S, Server, command, free_ports
from tests.server.process import (
    document,
    failed_start,
    grpc_ids,
    ids,
    metrics,
    replace,
    requests_total,
    serving,
    simulated,
)

CONNECTIONS = 32  # that all of them meet one of two edges is a matter of 1 in 2^31
SLOW = 16_000  # tokens: 3.2 s at 200 us each
TWO_EDGES = ("--workers", "2")
READY = "/v2/models/sim/ready"
INFER = "/v2/models/sim/infer"


@contextmanager
def several(folder: Path, *flags: str, engines: int = 1) -> Iterator[Server]:
    """Two edges, each of which has heard from each engine that it is ready."""
    parameters = folder / "parameters.yaml"
    parameters.write_text(document(interactive={"priority": 1, "slo_ms": None}))
    flags = (*TWO_EDGES, "--engines", str(engines), *flags)
    with serving(parameters, *flags, models=engines + 2 * engines) as server:
        yield server


def slow() -> tuple[str, ...]:
    return (*simulated("sim", 0)[:-1], "200")


def orders(server: Server) -> dict[Path, int]:
    """Process ids of the children by the file with their order."""
    pid = server.process.pid
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        order = next(each for each in variables if each.startswith(ORDER_VARIABLE))
        found[Path(order.partition("=")[2])] = int(child)
    return found


def children(server: Server) -> dict[str, int]:
    """Process ids by name, such as engine-0."""
    return {order.stem: pid for order, pid in orders(server).items()}


def connections_of(pid: int, port: int) -> int:
    """How many established TCP connections to a local port a process holds."""
    own = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    tables = [Path(f"/proc/{pid}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sum(
        row[3] == "01" and row[1].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in own
        for row in rows
    )


class Client:
    """One HTTP connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)

    def send(self, *values: int) -> None:
        self.connection.request("POST", INFER, json.dumps(ids(*values)).encode())

    def receive(self) -> tuple[int, Any, str | None]:
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.getheader("Retry-After")

    def outcome(self) -> int:
        """The status; 0 where the connection ended without one."""
        try:
            return self.receive()[0]
        except (OSError, http.client.HTTPException):
            return 0

    def outcome_of(self, path: str) -> int:
        try:
            self.connection.request("GET", path)
        except (OSError, http.client.HTTPException):
            return 0
        return self.outcome()

    def infer(self, *values: int) -> int:
        self.send(*values)
        return self.receive()[0]

    def is_ready(self) -> bool:
        self.connection.request("GET", READY)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status == 200


def offered(server: Server) -> float:
    found = metrics(server)
    return sum(found[name] for name in found if name.startswith("headway_offered_requests_total"))


def all_wait(server: Server, count: int) -> None:
    while offered(server) < count:
        pass  # each scrape is a round trip through the engine


def ends(pid: int) -> int:
    """A descriptor that becomes readable when the process ends, also where it is no child."""
    return os.pidfd_open(pid)


def test_both_edges_answer_and_the_engine_counts_once(tmp_path: Path) -> None:
    with several(tmp_path, *simulated("sim", 1)) as server, ExitStack() as stack:
        processes = children(server)
        assert set(processes) == {"engine-0", "edge-0", "edge-1"}
        edges = [processes["edge-0"], processes["edge-1"]]
        clients = [Client(server) for _ in range(CONNECTIONS)]
        assert [client.infer(1, 2) for client in clients] == [200] * CONNECTIONS
        assert min(connections_of(edge, server.http_port) for edge in edges) > 0
        own = [("grpc.use_local_subchannel_pool", 1)]
        for number in range(CONNECTIONS):
            channel = stack.enter_context(
                grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", own)
            )
            answer = GRPCInferenceServiceStub(channel).ModelInfer(grpc_ids("sim", number))
            assert answer.outputs[0].contents.int64_contents[0] == number
        assert min(connections_of(edge, server.grpc_port) for edge in edges) > 0
        for client in clients[:8]:
            client.connection.close()
        for _ in range(8):  # from whichever edge
            assert requests_total(server, "sim", "ok") == 2 * CONNECTIONS
        assert metrics(server)["headway_edges"] == 2
        assert server.stop() == 0


def test_an_edge_imports_no_torch_and_the_engine_no_server(tmp_path: Path) -> None:
    with several(tmp_path, "--model_name", "topics", "--task", "topic") as server:
        text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["The striker scored"]}
        status, body = server.post("/v2/models/topics/infer", {"inputs": [text]})
        assert (status, body["outputs"][0]["data"]) == (200, ["sports"])
        mapped = {
            name: Path(f"/proc/{pid}/maps").read_text() for name, pid in children(server).items()
        }
        assert "libtorch" in mapped["engine-0"]
        assert "cygrpc" not in mapped["engine-0"]
        assert "libtorch" not in mapped["edge-0"]
        assert "cygrpc" in mapped["edge-0"]


def test_an_edge_that_is_killed(tmp_path: Path) -> None:
    """Its clients lose their connections; the others notice nothing; it comes back."""
    with several(tmp_path, *slow()) as server:
        victim = children(server)["edge-0"]
        clients = [Client(server) for _ in range(CONNECTIONS)]
        for client in clients:
            client.send(*range(100))
        all_wait(server, CONNECTIONS)
        os.kill(victim, signal.SIGKILL)
        server.wait_for_line("edge 0 ended unexpectedly (signal SIGKILL)")
        assert {client.outcome() for client in clients} == {0, 200}
        server.wait_for_line("is ready")
        assert children(server)["edge-0"] != victim
        found = metrics(server)
        assert found['headway_process_restarts_total{process="edge"}'] == 1
        assert found['headway_process_restarts_total{process="engine"}'] == 0
        assert found["headway_edges"] == 2
        assert server.stop() == 0


def test_an_edge_is_missing(tmp_path: Path) -> None:
    """The replica is not ready, whoever is asked, until the edge can serve; the others serve on."""
    with several(tmp_path, *simulated("sim", 1)) as server:
        clients = [Client(server) for _ in range(CONNECTIONS)]
        assert [client.infer(0) for client in clients] == [200] * CONNECTIONS
        os.kill(children(server)["edge-0"], signal.SIGKILL)
        server.wait_for_line("edge 0 ended unexpectedly")
        for client in clients:
            client.connection.auto_open = False  # who loses its edge gets no other
        left = [client for client in clients if client.outcome_of(READY)]
        assert 0 < len(left) < CONNECTIONS
        while left[0].is_ready():
            pass  # the engine has yet to notice: each look is a round trip
        looks = 1
        while not left[0].is_ready():
            assert left[0].infer(looks) == 200
            looks += 1
        assert looks > 1
        fresh = [Client(server) for _ in range(CONNECTIONS)]
        assert [client.infer(1) for client in fresh] == [200] * CONNECTIONS
        assert metrics(server)["headway_edges"] == 2
        assert server.stop() == 0


def test_an_engine_that_is_killed(tmp_path: Path) -> None:
    """Who waits gets 503 at once, readiness is false until the models are back."""
    with several(tmp_path, *slow()) as server:
        clients = [Client(server) for _ in range(8)]
        for client in clients:
            client.send(*range(SLOW))
        all_wait(server, len(clients))
        os.kill(children(server)["engine-0"], signal.SIGKILL)
        for client in clients:
            status, body, retry_after = client.receive()
            assert (status, retry_after) == (503, "1"), body
            assert not client.is_ready()
            assert client.infer(1) == 503
        server.wait_for_line("engine 0 ended unexpectedly (signal SIGKILL)")
        server.wait_for_line("all models are back", *["engine 0 is ready for sim"] * 2)
        for client in clients:
            assert client.is_ready()
            assert client.infer(1) == 200
        found = metrics(server)
        assert found['headway_process_restarts_total{process="engine"}'] == 1
        assert found["headway_edges"] == 2
        assert requests_total(server, "sim", "unavailable", "unknown") == 16
        assert server.stop() == 0


def test_two_engines_behind_the_same_edges(tmp_path: Path) -> None:
    """Both work, and while one is away the other serves."""
    with several(tmp_path, *slow(), engines=2) as server:
        clients = [Client(server) for _ in range(8)]
        assert [client.infer(1) for client in clients] == [200] * 8
        found = metrics(server)
        labels = 'model="sim",outcome="ok",tier="interactive"'
        served = [found[f'headway_requests_total{{engine="{n}",{labels}}}'] for n in (0, 1)]
        assert sum(served) == 8
        assert min(served) > 0
        for client in clients:
            client.send(*range(SLOW // 4))
        all_wait(server, 16)
        os.kill(children(server)["engine-1"], signal.SIGKILL)
        answers = [client.receive()[0] for client in clients]
        assert set(answers) == {200, 503}
        for client in clients:
            assert client.is_ready()
            assert client.infer(1) == 200
        server.wait_for_line(*["engine 1 is ready for sim"] * 2)
        edited = document(2, interactive={"priority": 1, "slo_ms": None})
        replace(tmp_path / "parameters.yaml", edited)
        server.wait_for_line(*["parameters of generation 2 are in force"] * 2)
        found = metrics(server)
        for engine in (0, 1):
            assert found[f'headway_parameters_generation{{engine="{engine}"}}'] == 2
        assert found['headway_process_restarts_total{engine="0",process="engine"}'] == 0
        assert found['headway_process_restarts_total{engine="1",process="engine"}'] == 1
        assert server.stop() == 0


def test_a_drain_answers_what_is_in_flight(tmp_path: Path) -> None:
    with several(tmp_path, *slow()) as server:
        clients = [Client(server) for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(*range(1000 + number))
        all_wait(server, len(clients))
        pids = list(children(server).values())
        server.process.send_signal(signal.SIGTERM)
        answers = [client.receive() for client in clients]
        assert [status for status, _, _ in answers] == [200] * 8
        assert server.process.wait(STOP_S) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with several(tmp_path, *slow()) as server, ThreadPoolExecutor(1) as pool:
        client = Client(server)
        client.send(*range(SLOW))
        all_wait(server, 1)
        outcome = pool.submit(client.outcome)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line(*["draining"] * 3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_S) == 0
        assert outcome.result() in (0, 503)


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with several(tmp_path, *simulated("sim", 1)) as server:
        waiting = {ends(pid) for pid in children(server).values()}
        folder = next(iter(orders(server))).parent
        server.process.kill()
        while waiting:
            ended, _, _ = select.select(waiting, [], [], STOP_S)
            assert ended, "a child lives on"
            for descriptor in ended:
                waiting.remove(descriptor)
                os.close(descriptor)
        assert not folder.exists()


def test_starts_that_cannot_work_say_why(tmp_path: Path) -> None:
    classify = ("--task", "text-classification", "--model_dir")
    code, stderr = failed_start(*TWO_EDGES, *classify, str(tmp_path / "missing"))
    assert code == 2
    assert "missing" in stderr
    assert "Traceback" not in stderr
    for position, flag in ((0, "--http_port"), (1, "--grpc_port")):
        with socket.socket() as taken:
            ports = free_ports()
            taken.bind(("127.0.0.1", ports[position]))
            taken.listen()
            code, stderr = failed_start(*TWO_EDGES, *simulated("sim", 1), ports=ports)
        assert code == 2
        assert f"choose another {flag}" in stderr
        assert stderr.count("\n") == 1


def test_a_signal_ends_it_while_it_loads(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("- {name: endless, task: simulated, simulated_fixed_ms: 60000}")
    flags = ("--host", "127.0.0.1", *TWO_EDGES, "--models", str(models))
    with subprocess.Popen(
        command(*free_ports(), *flags, module="predictor"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "edge 1 is process" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
