"""What goes wrong in a run says so in one sentence."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.errors import BenchError
from loadtest.k6.__main__ import main
from loadtest.k6.result import read_summary
from loadtest.k6.run import find_k6, run_k6
from tests.edge.server_process import Server
from tests.loadtest.k6.conftest import settings_of
from tests.server.process import document, metrics, serving, simulated

LIMIT_S = 60.0


def failure(settings: Mapping[str, str], results: Path, script: str = "steady") -> str:
    with pytest.raises(BenchError) as raised:
        run_k6(script, settings, results=results, limit_s=LIMIT_S)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_k6_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BenchError, match="k6 is missing; run `make env`"):
        find_k6()


def test_the_url_is_wrong(settings: Mapping[str, str], tmp_path: Path) -> None:
    nobody = {**settings, "URL": "http://127.0.0.1:1"}
    assert "does not answer (Connection refused); start the server" in failure(nobody, tmp_path)
    assert "set URL" in failure({**settings, "URL": "nonsense"}, tmp_path)
    assert "answers 404; set MODEL" in failure({**settings, "MODEL": "absent"}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_grpc_address_is_wrong(settings: Mapping[str, str], tmp_path: Path) -> None:
    message = failure({**settings, "GRPC": "127.0.0.1:1"}, tmp_path, "grpc")
    assert "127.0.0.1:1 does not answer" in message
    assert "set GRPC" in message


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("RATE", "fast", "RATE is 'fast'; it must be a number"),
        ("DURATION", "soon", "DURATION is 'soon'; it must be a time"),
        ("LENGTHS", "tall", "LENGTHS is 'tall'; it must be short, mixed"),
        ("SLO_MS", "interactive:quick", "SLO_MS is 'interactive:quick'; it must be a number"),
        ("RATE", "0.01", "no request falls into it"),
    ],
)
def test_a_setting_is_wrong(
    name: str, value: str, complaint: str, settings: Mapping[str, str], tmp_path: Path
) -> None:
    assert complaint in failure({**settings, name: value}, tmp_path)


def test_a_trace_is_missing_or_wrong(settings: Mapping[str, str], tmp_path: Path) -> None:
    assert "TRACE is ''" in failure(settings, tmp_path, "replay")
    absent = {**settings, "TRACE": str(tmp_path / "absent.json")}
    assert "it must be a JSON file that can be read" in failure(absent, tmp_path, "replay")
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps([{"at_s": 2}, {"at_s": 1}]))
    message = failure({**settings, "TRACE": str(trace)}, tmp_path, "replay")
    assert "at_s or tokens of [1] is wrong" in message


def test_a_script_or_a_setting_is_no_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no script 'stead'; use one of burst," in failure({}, tmp_path, "stead")
    assert main(["steady", "RATE"]) == 1
    assert "'RATE' is no setting; write NAME=VALUE" in capsys.readouterr().err


def test_a_run_that_takes_too_long_is_ended(settings: Mapping[str, str], tmp_path: Path) -> None:
    endless = {**settings, "DURATION": "1h", "RATE": "1"}
    with pytest.raises(BenchError, match="k6 did not end within 2 s; shorten DURATION"):
        run_k6("steady", endless, results=tmp_path, limit_s=2.0)


def test_the_server_dies_in_the_middle(tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", 1)) as server, ThreadPoolExecutor(1) as pool:
        settings = {**settings_of(server), "RATE": "100", "DURATION": "60s"}
        message = pool.submit(failure, settings, tmp_path / "results")
        offered = 'headway_offered_requests_total{model="sim",tier="interactive"}'
        while metrics(server).get(offered, 0) < 10:
            pass  # each scrape is a round trip
        server.process.kill()
        assert "the server stopped answering during the run" in message.result()


class WrongServer(BaseHTTPRequestHandler):
    """Ready, and wrong in all it answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows, _ = request["inputs"][0]["shape"]
        sums = [sum(request["inputs"][0]["data"])] * rows
        output = {"name": "checksum", "datatype": "INT64", "shape": [rows], "data": sums}
        answer: dict[str, Any] = {
            "id": request["id"],
            "outputs": [output],
            "parameters": {"queue_us": 1, "service_us": 1, "batch_size": 1},
        }
        kind = int(request["id"].split("-")[1]) % 3
        if kind == 0:
            answer["id"] = "another"
        elif kind == 1:
            output["data"] = [sums[0] + 1]
        else:
            del answer["parameters"]["queue_us"]
        self._answer(answer)

    def _answer(self, plain: object) -> None:
        body = json.dumps(plain).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def wrong_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), WrongServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_wrong_answers_are_failures(server: Server, tmp_path: Path) -> None:
    with wrong_server() as port:
        settings = {**settings_of(server), "URL": f"http://127.0.0.1:{port}"}
        result = run_k6("steady", settings, results=tmp_path, limit_s=LIMIT_S)
    tier = result.tiers["interactive"]
    assert tier.failures == {"wrong": tier.requests}
    assert result.valid
    assert "at most 0.1% failed; seen 100%" in result.missed


def test_a_summary_is_missing_or_another_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(BenchError, match="cannot be read: No such file"):
        read_summary(path)
    path.write_text('{"script": "steady"}')
    with pytest.raises(BenchError, match="is no summary of a run: Object missing"):
        read_summary(path)


def test_no_password_is_kept_or_told(settings: Mapping[str, str], tmp_path: Path) -> None:
    guarded = settings["URL"].replace("http://", "http://reader:s3cret@")
    message = failure({**settings, "URL": guarded}, tmp_path)
    assert "http://***@127.0.0.1" in message
    assert "s3cret" not in message
    result = run_k6(
        "steady",
        settings,
        results=tmp_path,
        limit_s=LIMIT_S,
        prometheus_url="http://reader:s3cret@127.0.0.1:1",
    )
    kept = [path.read_text() for path in result.folder.iterdir()]
    assert len(kept) == 4
    assert "***@127.0.0.1:1" in "".join(kept)
    assert "s3cret" not in "".join(kept)
