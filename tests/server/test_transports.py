"""Clients that nobody here wrote, against the real server: curl, and gRPC that pings or lies.

The rest of them, which take longer, are in tests/proofs/test_transports.py.
"""

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.edge.server_process import Server
from tests.server.process import document, grpc_ids, ids, serving, simulated

CALL_S = 2.0
PING_MS = 300
SERVICE = "/inference.GRPCInferenceService/"
FORGED = "x\n2026-01-01 ERROR forged"
SUM = 6
CURL = shutil.which("curl") or ""
needs_curl = pytest.mark.skipif(not CURL, reason="curl is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("transports")
    parameters = folder / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", CALL_S * 1e3)) as running_server:
        yield running_server
        running_server.stop()
        said = running_server.stderr.read()
    # Whatever the clients below did, it is no fault of the server, and stays in its line.
    assert "Traceback" not in said
    assert not any(line.startswith("2026-01-01 ERROR forged") for line in said.splitlines())


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("quick") / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", 1)) as running_server:
        yield running_server


def curl(server: Server, path: str, *flags: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and body."""
    sending = [] if body is None else ["--data-binary", "@-"]
    ended = subprocess.run(
        [CURL, "-sS", "-m", "30", "-w", "\n%{http_code}", *flags, *sending, server.url + path],
        input=body,
        capture_output=True,
        check=True,
    )
    text, _, status = ended.stdout.decode().rpartition("\n")
    return int(status), text


BODY = json.dumps(ids(1, 2, 3)).encode()
VARIANTS: dict[str, tuple[Sequence[str], bytes]] = {
    "plain": ((), BODY),
    "http2": (("--http2",), BODY),
    "http2, the body later": (("--http2", "-H", "Expect: 100-continue"), BODY),
    "http2, chunked": (("--http2", "-H", "Transfer-Encoding: chunked"), BODY),
    "http1.0": (("--http1.0",), BODY),
    "http1.0, to stay": (("--http1.0", "-H", "Connection: keep-alive"), BODY),
    "chunked": (("-H", "Transfer-Encoding: chunked"), BODY),
    "expect": (("-H", "Expect: 100-continue"), BODY),
    "gzip": (("-H", "Content-Encoding: gzip"), gzip.compress(BODY)),
    "slow": (("--limit-rate", "200"), BODY),
    "behind a proxy": (("-H", "X-Forwarded-Proto: https", "-H", "Forwarded: for=y"), BODY),
    "a byte order mark": ((), b"\xef\xbb\xbf" + BODY),
    "a slash": (("--path-as-is", "-L"), BODY),
}


@needs_curl
@pytest.mark.parametrize("variant", VARIANTS)
def test_curl(quick: Server, variant: str) -> None:
    flags, body = VARIANTS[variant]
    path = "/v2/models/sim/infer" + ("/" if variant == "a slash" else "")
    status, text = curl(quick, path, *flags, body=body)
    assert (status, json.loads(text)["outputs"][0]["data"]) == (200, [SUM]), text


@needs_curl
@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics", "/v2"])
def test_head_with_curl(quick: Server, path: str) -> None:
    status, text = curl(quick, path, "--head")
    assert (status, "content-length" in text.lower()) == (200, True)


@needs_curl
def test_no_redirect_for_a_slash(quick: Server) -> None:
    for path in ("/v2/", "/v2/models/sim/", "/docs/", "/v2/health/ready/"):
        status, text = curl(quick, path, "-i", "-H", "X-Forwarded-Proto: https")
        assert status in {200, 404}
        assert "location:" not in text.lower()


@needs_curl
@pytest.mark.parametrize(
    ("flags", "body", "status"),
    [
        (("-H", "Content-Encoding: br"), BODY, 415),
        (("-H", "Content-Encoding: gzip"), gzip.compress(bytes(64 << 20)), 413),
        (("-H", "X-Long: " + "y" * 20_000), BODY, 431),
        (("-H", "Transfer-Encoding: gzip"), BODY, 501),
    ],
)
def test_refusals_that_curl_reads(
    quick: Server, flags: Sequence[str], body: bytes, status: int
) -> None:
    found, text = curl(quick, "/v2/models/sim/infer", *flags, body=body)
    assert found == status
    assert list(json.loads(text)) == ["error"]


def test_pings_beside_a_long_call_are_taken(server: Server) -> None:
    options = [
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        infer = channel.unary_unary(
            f"{SERVICE}ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        for _ in range(2):
            answer = infer(grpc_ids("sim", 1, 2, 3), timeout=60)
            assert answer.outputs[0].contents.int64_contents == [SUM]


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata"])
def test_messages_that_cannot_be_read(server: Server, method: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(SERVICE + method)
        for sent in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", bytes(range(256))):
            with pytest.raises(grpc.RpcError) as raised:
                call(sent, timeout=60)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "cannot be read as" in raised.value.details()


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "RepositoryIndex"])
def test_what_is_quoted_over_grpc_is_one_line(server: Server, method: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        named = pb.ModelReadyRequest(name=FORGED).SerializeToString()
        broken = b"\x0a\xff" if method == "RepositoryIndex" else named
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(SERVICE + method)(broken, timeout=60)
        assert raised.value.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}
        assert raised.value.details().isprintable()


@pytest.mark.parametrize("length", [10_000, 1 << 20])
def test_long_names_over_grpc(server: Server, length: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            f"{SERVICE}ModelInfer", request_serializer=pb.ModelInferRequest.SerializeToString
        )
        renamed = grpc_ids("sim", 1)
        renamed.inputs[0].name = FORGED + "é" * length
        for request, code in (
            (grpc_ids(FORGED + "n" * length, 1), grpc.StatusCode.NOT_FOUND),
            (renamed, grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                infer(request, timeout=60)
            assert raised.value.code() is code


def test_names_in_http_stay_in_their_line(server: Server) -> None:
    path = "/v2/models/x%0A2026-01-01%20ERROR%20forged/infer"
    status, plain = server.post(path, ids(1))
    assert (status, list(plain)) == (404, ["error"])
