"""Jobs on real servers and a real Redis: from the terminal to the results, and outages."""

import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from predictor.jobs.__main__ import main
from predictor.jobs.client import JobsClient, JobsFailed
from tests.edge.server_process import ROOT, STOP_S, Server
from tests.jobs.conftest import own_redis, redis  # noqa: F401 - fixtures
from tests.jobs.redis_process import RedisProcess
from tests.server.jobs import (
    answered,
    assert_complete,
    ended,
    line,
    lines,
    peak_bytes,
    raw,
    replica,
    results_of,
    say,
    submitted,
    submitted_once_possible,
)
from tests.server.process import document, ids, metrics, serving, simulated

INFER = "/v2/models/sim/infer"
MANY = 20_000
PADDING = 5000  # bytes, so that the job is some 100 MB, and its results as much
MOST_GROWTH = 64 << 20


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    redis: RedisProcess,  # noqa: F811
) -> Iterator[Server]:
    with replica(tmp_path_factory.mktemp("server"), redis, fixed_ms=1) as server:
        yield server


def jobs(server: Server, *arguments: str) -> int:
    return main([*arguments, "--url", server.url])


def test_a_large_job_from_the_terminal(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submitted, followed and fetched; memory stays what it was."""
    source, target = tmp_path / "lines.ndjson", tmp_path / "results.ndjson"
    with source.open("wb") as file:
        file.writelines(lines(MANY, PADDING))
    assert jobs(server, "submit", "sim", str(line_file(tmp_path, 1000)), "--wait") == 0
    before = peak_bytes(server.process.pid)
    output = f"--output={target}"
    assert jobs(server, "submit", "sim", str(source), "--wait", output) == 0
    growth = peak_bytes(server.process.pid) - before
    told = capsys.readouterr()
    assert f"{MANY} lines" in told.err
    job_id = told.out.splitlines()[-1]
    with target.open("rb") as file:
        assert_complete(file, MANY)
    say(
        capsys,
        f"{source.stat().st_size / 1e6:.0f} MB sent, the server grew by {growth / 1e6:.0f} MB",
    )
    assert growth < MOST_GROWTH
    assert jobs(server, "status", job_id) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["done"], status["progress"]) == ("done", MANY, 1.0)
    assert metrics(server)['headway_replicas{model="sim"}'] == 1


def line_file(folder: Path, count: int) -> Path:
    path = folder / "few.ndjson"
    path.write_bytes(b"".join(lines(count)))
    return path


def test_results_are_what_infer_answers(server: Server) -> None:
    job_id = submitted(server, 20)
    ended(server, job_id)
    for number, each in enumerate(results_of(server, job_id)):
        result = json.loads(each)
        status, answer = server.post(INFER, line(number))
        assert status == 200
        assert result.pop("index") == number
        assert result.keys() == answer.keys()
        for field in ("id", "model_name", "outputs"):
            assert result[field] == answer[field]


def test_from_stdin_as_a_process(server: Server) -> None:
    command = [sys.executable, "-m", "predictor.jobs", "submit", "sim", "--url", server.url]
    run = subprocess.run(
        [*command, "--wait"], input=b"".join(lines(50)), cwd=ROOT, capture_output=True, check=True
    )
    assert_complete(run.stdout.splitlines(), 50)
    assert b"Traceback" not in run.stderr


def test_what_goes_wrong_at_the_terminal(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.ndjson"
    broken.write_bytes(b"".join(lines(6)) + b"{}\n" + line(8))
    good = str(line_file(tmp_path, 3))
    for arguments, code, problem in (
        (("submit", "sim", str(broken)), 1, "line 7: "),
        (("submit", "nobody", good), 1, "'nobody' is not served"),
        (("submit", "sim", good, "--tier", "express"), 1, "'express' is unknown"),
        (("submit", "sim", str(tmp_path / "none")), 2, "No such file"),
        (("submit", "sim", good, "--wait", f"--output={tmp_path}/no/where"), 2, "No such file"),
        (("status", "nobody"), 1, "no job nobody"),
        (("results", "nobody"), 1, "no job nobody"),
        (("cancel", "../metrics"), 1, "no such job"),
    ):
        assert jobs(server, *arguments) == code
        assert problem in " ".join(capsys.readouterr().err.split())
    assert main(["status", "x", "--url", "http://127.0.0.1:1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_a_client_that_sends_on_hears_of_the_broken_line(server: Server) -> None:
    """What comes after it is read and dropped: a reset would take the answer with it."""
    blank = b"\n" * (1 << 20)
    body = itertools.chain(lines(6), [b"{}\n"], itertools.repeat(blank, 50))
    with JobsClient(server.url) as client, pytest.raises(JobsFailed, match="line 7: "):
        client.submit("sim", body)


def test_a_line_that_makes_the_model_fail_is_parked(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here: one that no batch can hold, which only the engine knows."""
    long = tmp_path / "long.ndjson"
    long.write_bytes(line(0) + json.dumps(ids(*range(20_000))).encode() + b"\n" + line(2))
    assert jobs(server, "submit", "sim", str(long), "--wait") == 3
    told = capsys.readouterr()
    first, second, third = map(json.loads, told.out.splitlines())
    assert second.keys() == {"index", "error"}
    assert (first["index"], second["index"], third["index"]) == (0, 1, 2)
    assert "1 lines kept failing" in told.err


def test_two_clients_cancel_at_once(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> None:
    with replica(tmp_path, own_redis, fixed_ms=50) as server, ThreadPoolExecutor(2) as pool:
        job_id = submitted(server, MANY)
        answered(server, job_id, 1)
        urls = [server.url] * 2
        both = list(pool.map(lambda url: JobsClient(url).cancel(job_id), urls))
        assert {status.state for status in both} == {"cancelled"}
        assert jobs(server, "cancel", job_id) == 0
        kept = len(results_of(server, job_id))
        assert 0 < kept < MANY
        assert jobs(server, "status", job_id, "--wait") == 3


def test_edges_of_one_server_are_one_replica(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> None:
    with replica(tmp_path, own_redis, edges=2) as server:
        job_id = submitted(server, 5000)
        ended(server, job_id)
        assert_complete(results_of(server, job_id), 5000)
        found = metrics(server)
        assert found['headway_replicas{model="sim"}'] == 1
        assert found['headway_requests_total{model="sim",outcome="ok",tier="bulk"}'] >= 5000
        assert server.stop() == 0


def test_a_drain_gives_lines_back(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> None:
    """The next server goes on at once, without waiting for a lease to run out."""
    flags = ("--job_lease_s", "3600")
    with replica(tmp_path, own_redis, *flags, fixed_ms=20) as first:
        job_id = submitted(first, 3000)
        answered(first, job_id, 100)
        assert first.stop() == 0
    with replica(tmp_path, own_redis, *flags, fixed_ms=1) as second:
        ended(second, job_id)
        assert_complete(results_of(second, job_id), 3000)


def test_redis_away_at_the_start_and_later(
    tmp_path: Path,
    own_redis: RedisProcess,  # noqa: F811
) -> None:
    own_redis.stop()
    with replica(tmp_path, own_redis, fixed_ms=5) as server:
        assert_only_jobs_are_away(server)
        own_redis.start()
        job_id = submitted_once_possible(server, MANY)
        done = answered(server, job_id, 500)
        own_redis.stop()
        assert_only_jobs_are_away(server, job_id)
        own_redis.start()
        assert done < MANY
        with JobsClient(server.url) as client:  # from here on an outage is waited out
            *_, last = client.follow(job_id)
        assert last.done == MANY
        assert_complete(results_of(server, job_id), MANY)
        assert server.stop() == 0


def assert_only_jobs_are_away(server: Server, job_id: str = "0" * 24) -> None:
    for method, path, body in (
        ("POST", "/v2/models/sim/jobs", line(1)),
        ("GET", f"/v2/jobs/{job_id}", b""),
        ("GET", f"/v2/jobs/{job_id}/results", b""),
        ("DELETE", f"/v2/jobs/{job_id}", b""),
    ):
        answer = raw(server, method, path, body)
        assert answer.status == 503
        assert answer.getheader("Retry-After")
        assert "does not answer" in json.loads(answer.read())["error"]
    assert server.post(INFER, ids(1, 2))[0] == 200
    assert server.get("/v2/health/ready") == (200, {"ready": True})
    assert server.get("/v2/models/sim/ready")[0] == 200


def test_a_client_that_hangs_up_while_it_submits_leaves_nothing(
    server: Server,
    redis: RedisProcess,  # noqa: F811
) -> None:
    head = b"POST /v2/models/sim/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n"
    with redis.client() as client:
        before = {*client.keys()}
        with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
            connection.sendall(head + b"".join(lines(5000)))
            while not (staged := {*client.keys()} - before):
                pass  # each look is a round trip
        while staged & {*client.keys()}:
            pass


def test_no_redis_no_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(document())
    with serving(parameters, *simulated("sim", 1)) as server:
        assert jobs(server, "submit", "sim", str(line_file(tmp_path, 3)), "--wait") == 1
        assert "start it with --redis_url" in " ".join(capsys.readouterr().err.split())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_S) == 0


def test_patience_has_an_end() -> None:
    client = JobsClient("http://127.0.0.1:1", patience_s=0)
    with pytest.raises(JobsFailed, match="cannot be reached"):
        list(client.follow("x", sleep=lambda _: None))
