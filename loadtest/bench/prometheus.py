"""Starts a real Prometheus on a free port of this machine, for what has to be read from one."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.servers import HOST, free_ports, stop, wait_until_ready

READY_LIMIT_S = 60.0
KEPT_FOR = "100y"  # a past that was written for it is not to be thrown away


@dataclass(frozen=True, slots=True)
class Target:
    """What is scraped: a host:port, and labels that its series get."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


def program(name: str) -> str:
    """The path of prometheus or promtool. Raises BenchError where it is missing."""
    found = shutil.which(name)
    if found is None:
        raise BenchError(
            f"{name} is missing; install it (Debian, Ubuntu: apt-get install prometheus)"
        )
    return found


@contextlib.contextmanager
def running_prometheus(
    targets: Sequence[Target] = (),
    *,
    scrape_s: int = 1,
    rules: str = "",
    data: Path | None = None,
) -> Iterator[str]:
    """The URL of a Prometheus that has scraped its targets; it is stopped when the block ends.

    `rules`: a rule file. `data`: a folder with blocks that it begins with, else it is empty.

    Raises:
        BenchError: there is no such program, or it was not ready within its limit.
    """
    command = program("prometheus")
    (port,) = free_ports(1)
    with (
        tempfile.TemporaryDirectory(prefix="headway-prometheus-") as name,
        os.fdopen(os.memfd_create("prometheus.log"), "r+b") as log,
    ):
        folder = Path(name)
        configuration = folder / "prometheus.json"  # JSON is YAML too
        configuration.write_text(_configuration(targets, scrape_s, rules, folder))
        process = subprocess.Popen(
            [
                *(command, f"--config.file={configuration}", f"--web.listen-address={HOST}:{port}"),
                *(f"--storage.tsdb.path={data or folder / 'data'}", "--log.level=warn"),
                f"--storage.tsdb.retention.time={KEPT_FOR}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_ready(
                process,
                lambda: _has_scraped(port, len(targets)),
                name="prometheus",
                limit_s=READY_LIMIT_S,
                log=log,
            )
            yield f"http://{HOST}:{port}"
        finally:
            stop(process)


def _configuration(targets: Sequence[Target], scrape_s: int, rules: str, folder: Path) -> str:
    static = [{"targets": [each.address], "labels": dict(each.labels)} for each in targets]
    configuration: dict[str, object] = {
        "global": {"scrape_interval": f"{scrape_s}s", "scrape_timeout": f"{scrape_s}s"},
        "scrape_configs": [{"job_name": "headway", "static_configs": static}],
    }
    if rules:
        (folder / "rules.yml").write_text(rules)
        configuration["rule_files"] = [str(folder / "rules.yml")]
    return json.dumps(configuration)


def _has_scraped(port: int, targets: int) -> bool:
    """Whether it is ready and has had an answer of all its targets."""
    try:
        if not _get(port, "/-/ready"):
            return False
        if not targets:
            return True
        answer = json.loads(_get(port, "/api/v1/query?query=sum(up)") or "{}")
        return [each["value"][1] for each in answer["data"]["result"]] == [str(targets)]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False


def _get(port: int, path: str) -> bytes | None:
    """None where the answer is not OK."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=2.0)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == http.client.OK else None
