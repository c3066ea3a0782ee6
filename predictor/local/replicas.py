"""The predictors of `make up`: the first stands for on-demand nodes, the others for spot.

Nothing but labels tells them apart. They share the parameter file and Redis, as replicas do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictor.first_steps import GREETING_VARIABLE, base_url
from predictor.local.ports import PORTS_APART, replica_name
from predictor.local.together import Service

MODEL, TASK = "topics", "topic"
GENERATING_MODEL = "chat"
ON_DEMAND, SPOT = "on-demand", "spot"


@dataclass(frozen=True)
class Replica:
    """`labels` are what a cluster's scrape would say of its node."""

    name: str
    model: str  # that it serves
    host: str
    http_port: int
    grpc_port: int
    labels: Mapping[str, str]
    task: str = TASK

    @property
    def url(self) -> str:
        return base_url(self.host, self.http_port)

    @property
    def ready_url(self) -> str:
        return f"{self.url}/v2/models/{self.model}/ready"

    @property
    def pool(self) -> str:
        return self.labels["capacity_type"]


def replicas(
    count: int, model: str, task: str, host: str, http_port: int, grpc_port: int
) -> Sequence[Replica]:
    return [
        Replica(
            name=replica_name(number),
            model=model,
            task=task,
            host=host,
            http_port=http_port + number * PORTS_APART,
            grpc_port=grpc_port + number * PORTS_APART,
            labels={
                "capacity_type": SPOT if number else ON_DEMAND,
                "instance_type": "this machine",
                "node": f"this machine {number + 1}",
            },
        )
        for number in range(count)
    ]


def predictor_service(
    replica: Replica,
    parameters: Path,
    flags: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> Service:
    """`environment`: None is this process's own. What to try first is for all of them together."""
    return Service(
        name=replica.name,
        command=(
            *(sys.executable, "-m", "predictor"),
            *(f"--task={replica.task}", f"--model_name={replica.model}"),
            f"--parameters={parameters}",
            *(f"--host={replica.host}", f"--http_port={replica.http_port}"),
            *(f"--grpc_port={replica.grpc_port}", *flags),
        ),
        ready_url=replica.ready_url,
        environment={
            **(os.environ if environment is None else environment),
            GREETING_VARIABLE: "no",
        },
    )
