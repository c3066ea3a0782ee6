"""Starts a real Prometheus on a free port of this machine, for what has to be read from one."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.servers import HOST, free_ports, stop, wait_until_ready
from predictor.local.prometheus import Target, configuration

READY_LIMIT_S = 60.0
KEPT_FOR = "100y"  # a past that was written for it is not to be thrown away


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
        rule_file = folder / "rules.yml" if rules else None
        if rule_file is not None:
            rule_file.write_text(rules)
        file = folder / "prometheus.yml"
        file.write_text(configuration(targets, every_s=scrape_s, rules=rule_file))
        process = subprocess.Popen(
            [
                *(command, f"--config.file={file}", f"--web.listen-address={HOST}:{port}"),
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
