"""Jobs for a server whose model `sim` sums ids, and what is known of their results."""

import http.client
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from predictor.jobs.client import JobsClient, JobsFailed
from tests.edge.server_process import Server
from tests.jobs.redis_process import RedisProcess
from tests.server.process import document, ids, serving, simulated

BEAT = 3  # ids beside its number, that a line has


def line(number: int, padding: int = 0) -> bytes:
    request = {"id": f"{number}{'.' * padding}", **ids(number, *range(BEAT))}
    return json.dumps(request).encode() + b"\n"


def lines(count: int, padding: int = 0) -> Iterator[bytes]:
    return (line(number, padding) for number in range(count))


def checksum(number: int) -> int:
    return number + sum(range(BEAT))


def assert_complete(results: Iterable[bytes], count: int) -> None:
    """Every line has exactly one result, in order, and the right one."""
    following = 0
    for each in results:
        result: dict[str, Any] = json.loads(each)
        assert result["index"] == following, "a result is missing, or there twice"
        assert result["outputs"][0]["data"] == [checksum(following)]
        following += 1
    assert following == count


def results_of(server: Server, job_id: str) -> list[bytes]:
    with JobsClient(server.url) as client, client.results(job_id) as (_, blocks):
        return b"".join(blocks).splitlines()


def submitted(server: Server, count: int, tier: str | None = None) -> str:
    with JobsClient(server.url) as client:
        return client.submit("sim", lines(count), tier).id


def submitted_once_possible(server: Server, count: int) -> str:
    """Where Redis is on its way back. Each try is a round trip."""
    while True:
        try:
            return submitted(server, count)
        except JobsFailed as failure:
            if not failure.passing:
                raise


def answered(server: Server, job_id: str, at_least: int) -> int:
    """How many lines have an answer, once they are so many."""
    with JobsClient(server.url) as client:
        while (status := client.status(job_id)).done < at_least:
            pass  # each look is a round trip
        return status.done


def ended(server: Server, job_id: str) -> None:
    with JobsClient(server.url) as client:
        *_, last = client.follow(job_id)
    assert (last.done, last.parked) == (last.total, 0)


def raw(server: Server, method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request(method, path, body)
    return connection.getresponse()


def forget_peak(pid: int) -> None:
    """Have `peak_bytes` begin again: what a process had while it loaded is given back by then."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that a process had so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


@contextmanager
def replica(
    folder: Path, redis: RedisProcess, *flags: str, fixed_ms: float = 5, edges: int = 1
) -> Iterator[Server]:
    parameters = folder / "parameters.yaml"
    if not parameters.exists():
        parameters.write_text(document())
    own = ("--redis_url", redis.url, "--workers", str(edges))
    ready = 1 if edges == 1 else edges + 1  # each edge says so, too
    model = simulated("sim", fixed_ms)
    with serving(parameters, *model, *own, *flags, models=ready) as server:
        yield server


def say(capsys: pytest.CaptureFixture[str], message: str) -> None:
    """Print a figure, although pytest keeps what is printed to itself."""
    with capsys.disabled():
        sys.stdout.write(f"\n{message}\n")
