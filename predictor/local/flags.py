"""What `make up` may be told, and whether its ports can be had."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictor.local.replicas import Replica, replicas
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
    predictor: tuple[str, ...]  # flags of every replica

    @property
    def names_redis(self) -> bool:
        return any(flag.split("=")[0] == "--redis_url" for flag in self.predictor)

    @property
    def fleet(self) -> Sequence[Replica]:
        return replicas(self.replicas, self.host, self.http_port, self.grpc_port)


def parse(arguments: Sequence[str]) -> Flags:
    parser = argparse.ArgumentParser(
        prog="python -m predictor.local",
        description="Serve the default model here. Other flags go to the predictor.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default=LOCALHOST, help="of the predictors")
    parser.add_argument("--http_port", type=int, default=8080, help="the next replica's is 10 more")
    parser.add_argument("--grpc_port", type=int, default=8081, help="the next replica's is 10 more")
    parser.add_argument("--redis_port", type=int, default=8082, help="of the Redis started here")
    parser.add_argument("--prometheus_port", type=int, default=9090, help="0: no Prometheus")
    parser.add_argument("--dashboard_port", type=int, default=8501, help="0: no dashboard")
    parser.add_argument(
        "--replicas", type=int, choices=range(1, MOST_REPLICAS + 1), default=2, metavar="COUNT"
    )
    parser.add_argument("--parameters", type=Path, default=RUN / "parameters.yaml")
    known, others = parser.parse_known_args(arguments)
    return Flags(**vars(known), predictor=tuple(others))


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
