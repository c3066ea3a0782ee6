"""The rivals: how each is started, in which settings it is tried, how it is asked."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.plan import Dialect
from loadtest.bench.servers import HOST, free_ports, stop, wait_until_ready

READY_LIMIT_S = 90.0
VERSION_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class RivalSettings:
    """Flags of loadtest.bench.rivals.flags; `edges` is 1 where HTTP and model share a process."""

    batch_size: int
    wait_ms: float
    workers: int
    edges: int = 1

    def __str__(self) -> str:
        parts = [f"batch {self.batch_size}", f"wait {self.wait_ms:g} ms", f"workers {self.workers}"]
        return ", ".join([*parts, *([f"HTTP processes {self.edges}"] if self.edges > 1 else [])])


@dataclass(frozen=True, slots=True)
class Rival:
    """`package` is its name on PyPI; the first settings are the best guess."""

    label: str
    package: str
    module: str
    dialect: Dialect
    settings: Sequence[RivalSettings]

    @property
    def ready_request(self) -> tuple[str, Mapping[str, object]]:
        """Path and body of a request that only a ready server answers well."""
        match self.dialect:
            case Dialect.PLAIN:
                return "/predict", {"text": ["the world"]}
            case Dialect.INFINITY:
                return "/classify", {"model": "bert", "input": ["the world"]}
            case Dialect.V2:
                text = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["the world"]}
                return "/v2/models/bert/infer", {"inputs": [text]}


RIVALS: Mapping[str, Rival] = {
    "litserve": Rival(
        "LitServe",
        "litserve",
        "loadtest.bench.rivals.litserve_server",
        Dialect.PLAIN,
        (
            RivalSettings(64, 5, workers=2, edges=4),
            RivalSettings(64, 5, workers=4, edges=4),
            RivalSettings(32, 2, workers=4, edges=4),
            RivalSettings(64, 10, workers=2, edges=2),
        ),
    ),
    "bentoml": Rival(
        "BentoML",
        "bentoml",
        "loadtest.bench.rivals.bentoml_server",
        Dialect.PLAIN,
        (
            RivalSettings(64, 100, workers=4),
            RivalSettings(64, 1000, workers=4),
            RivalSettings(64, 40, workers=8),
            RivalSettings(32, 1000, workers=8),
        ),
    ),
    "infinity": Rival(
        "Infinity",
        "infinity-emb",
        "loadtest.bench.rivals.infinity_server",
        Dialect.INFINITY,
        (
            RivalSettings(64, 0, workers=1),
            RivalSettings(32, 0, workers=1),
            RivalSettings(64, 0, workers=2),
            RivalSettings(128, 0, workers=1),
        ),
    ),
    "triton": Rival(
        "Triton",
        "nvidia-pytriton",
        "loadtest.bench.rivals.triton_server",
        Dialect.V2,
        (
            RivalSettings(64, 5, workers=2),
            RivalSettings(64, 5, workers=1),
            RivalSettings(32, 2, workers=2),
            RivalSettings(64, 10, workers=4),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rival is installed: an interpreter, and the environment to start it in."""

    python: str
    environment: Mapping[str, str]


def place_of(name: str, sites: Path | None) -> Place:
    """`sites`/`name` if it is there, a virtual environment or a folder of packages; else here."""
    site = None if sites is None else (sites / name).absolute()
    if site is None or not site.is_dir():
        return Place(sys.executable, os.environ)
    python = site / "bin" / "python"
    if python.exists():
        # Packages of this environment would come before the rival's own.
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return Place(str(python), own)
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Place(sys.executable, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


def installed_version(rival: Rival, place: Place) -> str:
    """Raises BenchError if the rival is not installed."""
    ask = f"import importlib.metadata as m; print(m.version({rival.package!r}))"
    done = subprocess.run(
        [place.python, "-c", ask],
        env=dict(place.environment),
        capture_output=True,
        text=True,
        timeout=VERSION_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        file = rival.module.replace(".", "/")
        raise BenchError(f"{rival.package} is not installed; {file}.py says how")
    return done.stdout.strip()


@contextlib.contextmanager
def running_rival(
    rival: Rival,
    settings: RivalSettings,
    *,
    model_dir: Path,
    device: str,
    place: Place,
) -> Iterator[int]:
    """The port of the ready server. It and its children are ended with the block.

    Raises:
        BenchError: it ended or was not ready within READY_LIMIT_S; holds the end of its log.
    """
    (port,) = free_ports(1)
    command = [
        *(place.python, "-m", rival.module, "--model_dir", str(model_dir), "--port", str(port)),
        *("--device", device, "--batch_size", str(settings.batch_size)),
        *("--wait_ms", f"{settings.wait_ms:g}", "--workers", str(settings.workers)),
        *("--edges", str(settings.edges)),
    ]
    with os.fdopen(os.memfd_create("rival.log"), "r+b") as log:
        process = subprocess.Popen(
            command,
            env=dict(place.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its children must end with it
        )
        try:
            wait_until_ready(
                process,
                lambda: _answers(rival, port),
                name=rival.label,
                limit_s=READY_LIMIT_S,
                log=log,
            )
            yield port
        finally:
            _stop_all(process)


def _answers(rival: Rival, port: int) -> bool:
    path, body = rival.ready_request
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop_all(process: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started, which shares its session."""
    stop(process)
    with contextlib.suppress(ProcessLookupError):  # none is left
        os.killpg(process.pid, signal.SIGKILL)
