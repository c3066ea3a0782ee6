"""The real server as a process, and short ways to ask it things."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.edge.server_process import ROOT, Server, command, free_ports, running

INTERACTIVE = {"priority": 1, "slo_ms": 10_000, "max_queue_size": 1000}
BULK = {"priority": 2, "slo_ms": None}


def document(generation: int = 1, models: Any = None, **tiers: Any) -> str:
    """A parameter document; JSON is YAML."""
    return json.dumps(
        {
            "generation": generation,
            "models": models or {},
            "tiers": {"interactive": INTERACTIVE, "bulk": BULK, **tiers},
        }
    )


@contextmanager
def serving(parameters: Path, *flags: str, models: int = 1) -> Iterator[Server]:
    common = ("--host", "127.0.0.1", "--parameters", str(parameters))
    with running(*common, *flags, module="predictor", models=models) as server:
        yield server


def simulated(name: str, fixed_ms: float) -> tuple[str, ...]:
    return (
        *("--model_name", name, "--task", "simulated"),
        *("--simulated_fixed_ms", str(fixed_ms), "--simulated_token_us", "0"),
    )


def replace(path: Path, text: str) -> None:
    """Edit a file as editors do: in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def ids(*values: int) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "input_ids", "datatype": "INT64", "shape": [1, len(values)], "data": values}
        ]
    }


def grpc_ids(model: str, *values: int, **parameters: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="input_ids", datatype="INT64", shape=[1, len(values)])
    request.inputs[0].contents.int64_contents.extend(values)
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


def metrics(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def counted(server: Server, name: str, value: float) -> bool:
    """Whether a counter ends at `value`.

    What an edge refuses is on its way to the engine when the client is told, and a scrape by
    way of another edge may overtake it.
    """
    while (found := metrics(server).get(name, 0)) < value:
        pass  # each scrape is a round trip
    return found == value


def requests_total(server: Server, model: str, outcome: str, tier: str = "interactive") -> float:
    labels = f'model="{model}",outcome="{outcome}",tier="{tier}"'
    return metrics(server)[f"headway_requests_total{{{labels}}}"]


def failed_start(*flags: str, ports: tuple[int, int] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a server that is expected to end by itself."""
    run = subprocess.run(
        command(*(ports or free_ports()), "--host", "127.0.0.1", *flags, module="predictor"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=dict(os.environ, HF_HUB_OFFLINE="1"),
    )
    return run.returncode, run.stderr
