"""HTTP and gRPC clients of other languages, as they come: Java's, node's, and grpc-js.

None of them knows this server. Java's client offers h2c with its first request by default.
"""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.edge.server_process import Server
from tests.server.process import document, ids, serving, simulated

pytestmark = [pytest.mark.proof, pytest.mark.timeout(180)]

CLIENTS = Path(__file__).parent / "clients"
BODY = json.dumps(ids(1, 2, 3))
SUM = 6
CALL_S = 2.0
MANY = 50
LONGEST_S = 120
NPM = ("@grpc/grpc-js@1.14", "@grpc/proto-loader@0.8")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install default-jdk-headless nodejs npm)")
    return found


def said(*command: str | Path, cwd: Path | None = None) -> list[str]:
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=LONGEST_S, check=False, cwd=cwd
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("transports") / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", 1)) as running_server:
        yield running_server


def check(lines: list[str], *names: str) -> None:
    """Each line is an answer: a name, a status and a body, of which HEAD has none."""
    answers = [line.split("\t") for line in lines]
    assert Counter(name for name, _, _ in answers) == {**dict.fromkeys(names, 1), "many": MANY}
    for name, status, body in answers:
        assert status == "200", (name, status, body)
        if name == "head":
            assert body == ""
        else:
            assert json.loads(body)["outputs"][0]["data"] == [SUM]


def test_java(server: Server, tmp_path: Path) -> None:
    said(program("javac"), "-d", tmp_path, CLIENTS / "Default.java")
    lines = said(program("java"), "-cp", tmp_path, "Default", server.url, BODY)
    check(lines, "first", "again", "chunked", "expect", "head")


def test_node(server: Server) -> None:
    lines = said(program("node"), CLIENTS / "fetch.mjs", server.url, BODY)
    check(lines, "first", "chunked", "gzip", "head")


def test_grpc_of_node_that_pings(tmp_path: Path) -> None:
    node, npm = program("node"), program("npm")
    said(npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *NPM, cwd=tmp_path)
    descriptors = descriptor_pb2.FileDescriptorSet()
    pb.DESCRIPTOR.CopyToProto(descriptors.file.add())
    service = tmp_path / "service.pb"
    service.write_bytes(descriptors.SerializeToString())
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", CALL_S * 1e3)) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        assert said(node, CLIENTS / "keepalive.cjs", tmp_path, service, address) == [str(SUM)] * 2
