"""The server that a command tests: one that runs, or one of its own."""

import contextlib
import http.client
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.servers import HOST, ServerCommand, one_model_parameters, running_server
from loadtest.target import LiveParameters, Target, edited_live
from predictor.core.parameters import ModelParameters
from predictor.core.shown import without_secrets

ASK_LIMIT_S = 5.0
READY_LIMIT_S = 300.0  # a model may have to load
DEFAULT_SLO_MS = 200.0
TEXT, SIMULATED = "text", "simulated"
LENGTHS = {TEXT: "mixed", SIMULATED: "lognormal:64:0.8"}


@dataclass(frozen=True, slots=True)
class Served:
    target: Target
    live: LiveParameters


@contextlib.contextmanager
def served(
    *, url: str, model: str, parameters: Path, serve: str | None, server_slo_ms: float | None
) -> Iterator[Served]:
    """The server, ready, and its parameters, which are put back at the end.

    Raises:
        BenchError: it cannot be reached or started, or follows another file.
    """
    if serve is None:
        target = Target(url, model)
        target.check()
        with edited_live(target, parameters) as live:
            yield Served(target, live)
        return
    try:
        flags = tuple(shlex.split(serve))
    except ValueError as error:
        raise BenchError(f"--serve {serve!r} cannot be split into flags: {error}") from None
    command = ServerCommand(
        module="predictor",
        model=model,
        flags=("--host", HOST, *flags),
        parameters=one_model_parameters(
            model, ModelParameters(), server_slo_ms or DEFAULT_SLO_MS, max_queue_size=2000
        ),
        ready_limit_s=READY_LIMIT_S,
    )
    with running_server(command) as server:
        target = Target(f"http://{HOST}:{server.http_port}", model)
        with edited_live(target, server.parameters_file) as live:
            yield Served(target, live)


def task_of(target: Target) -> str:
    """What to send: text, where the model takes it, else ids as the simulated model does."""
    host, port = target.address
    connection = http.client.HTTPConnection(host, port, timeout=ASK_LIMIT_S)
    path = f"/v2/models/{target.model}"
    try:
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        names = {each["name"] for each in answer["inputs"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        raise BenchError(
            f"{without_secrets(target.url)}{path} does not say what the model takes; give --task"
        ) from None
    return TEXT if TEXT in names else SIMULATED
