"""What `make up` may be told, and whether its ports can be had."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictor.core.model import ModelSettings, Task
from predictor.local.replicas import GENERATING_MODEL, MODEL, TASK, Replica, replicas
from predictor.local.together import port_problem

LOCALHOST = "127.0.0.1"
MOST_REPLICAS = 8
RUN = Path("run")  # what is kept between two starts


@dataclass(frozen=True)
class Flags:
    """A port of 0 means that there is to be no such service."""

    host: str
    http_port: int
    grpc_port: int
    redis_port: int
    prometheus_port: int
    dashboard_port: int
    replicas: int
    parameters: Path
    model: str  # that is served
    task: str
    generates: bool  # it answers token by token
    predictor: tuple[str, ...]  # more flags of every replica

    @property
    def names_redis(self) -> bool:
        return any(flag.split("=")[0] == "--redis_url" for flag in self.predictor)

    @property
    def fleet(self) -> Sequence[Replica]:
        return replicas(
            self.replicas, self.model, self.task, self.host, self.http_port, self.grpc_port
        )


def parse(arguments: Sequence[str]) -> Flags:
    parser = argparse.ArgumentParser(
        prog="python -m predictor.local",
        description="Serve the default model of a task here. Other flags go to the predictor.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default=LOCALHOST, help="of the predictors")
    parser.add_argument("--http_port", type=int, default=8080, help="the next replica's is 10 more")
    parser.add_argument("--grpc_port", type=int, default=8081, help="the next replica's is 10 more")
    parser.add_argument("--redis_port", type=int, default=8082, help="of the Redis started here")
    parser.add_argument("--prometheus_port", type=int, default=9090, help="0: no Prometheus")
    parser.add_argument("--dashboard_port", type=int, default=8501, help="0: no dashboard")
    parser.add_argument(
        "--replicas",
        type=int,
        choices=range(1, MOST_REPLICAS + 1),
        metavar="COUNT",
        help="default: 2; 1 where the model generates, because one takes all of a small machine",
    )
    parser.add_argument("--task", default=TASK, help="the predictor's; default: topic")
    parser.add_argument("--model_name", help="default: topics; chat where the model generates")
    parser.add_argument(
        "--parameters",
        type=Path,
        help="default: run/parameters.yaml; run/parameters-chat.yaml where the model generates",
    )
    known, others = parser.parse_known_args(arguments)
    generates = _generates(known.task, others)
    return Flags(
        host=known.host,
        http_port=known.http_port,
        grpc_port=known.grpc_port,
        redis_port=known.redis_port,
        prometheus_port=known.prometheus_port,
        dashboard_port=known.dashboard_port,
        replicas=known.replicas or (1 if generates else 2),
        # A document of its own: one that names the other's model would be refused.
        parameters=known.parameters
        or RUN / ("parameters-chat.yaml" if generates else "parameters.yaml"),
        model=known.model_name or (GENERATING_MODEL if generates else MODEL),
        task=known.task,
        generates=generates,
        predictor=tuple(others),
    )


def _generates(task: str, others: Sequence[str]) -> bool:
    """Whether the predictor's model will answer token by token; a wrong flag is its to refuse."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--simulated_output_tokens", type=float, default=0.0)
    try:
        known, _ = parser.parse_known_args(others)
        return ModelSettings(
            name=MODEL,
            task=Task(task),
            simulated_output_tokens=known.simulated_output_tokens,
        ).generates
    except (ValueError, argparse.ArgumentError):
        return False


def ports_problem(flags: Flags, *, redis: bool) -> str:
    """Why a port cannot be had, and what to do; empty where all can. `redis`: it needs one."""
    taken: dict[int, str] = {}
    for variable, whose, host, port in _ports(flags, redis):
        choose = f"choose another: make up {variable}=<port>"
        if port in taken:
            return f"port {port} is wanted by {taken[port]} and by {whose}; {choose}"
        if problem := port_problem(host, port):
            return f"{problem}; stop what uses it, or {choose}"
        taken[port] = whose
    return ""


def _ports(flags: Flags, redis: bool) -> Iterator[tuple[str, str, str, int]]:
    """The variable of `make up`, the service, and where it listens."""
    for replica in flags.fleet:
        yield "HTTP_PORT", f"{replica.name} (HTTP)", flags.host, replica.http_port
        yield "GRPC_PORT", f"{replica.name} (gRPC)", flags.host, replica.grpc_port
    if redis:
        yield "REDIS_PORT", "Redis", LOCALHOST, flags.redis_port
    if flags.prometheus_port:
        yield "PROMETHEUS_PORT", "Prometheus", LOCALHOST, flags.prometheus_port
    if flags.dashboard_port:
        yield "DASHBOARD_PORT", "the dashboard", LOCALHOST, flags.dashboard_port
