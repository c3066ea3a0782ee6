"""The ports of `make up`, looked at before anything is installed or started.

`python -m predictor.local.ports` needs nothing but Python: `make up` asks it before there is a
`.venv`, so that a port that is taken is known at once and not after minutes of installing.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from predictor.local.together import port_problem, say

LOCALHOST = "127.0.0.1"
PORTS_APART = 10
MOST_REPLICAS = 8
GENERATES = ("--simulated_output_tokens", "--models")  # flags that may make a model do so


@dataclass(frozen=True)
class Port:
    """`variable` is that of `make up`, `whose` the service that listens there."""

    variable: str
    whose: str
    host: str
    number: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What says where all listens. A port of 0 means that there is to be no such service."""
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


def default_replicas(*, generates: bool) -> int:
    return 1 if generates else 2


def replica_name(number: int) -> str:
    return f"predictor {number + 1}"


def ports(named: argparse.Namespace, replicas: int, *, redis: bool) -> Iterator[Port]:
    """Of `add_arguments`' namespace, in the order of a start. `redis`: one is started."""
    for number in range(replicas):
        apart, name = number * PORTS_APART, replica_name(number)
        yield Port("HTTP_PORT", f"{name} (HTTP)", named.host, named.http_port + apart)
        yield Port("GRPC_PORT", f"{name} (gRPC)", named.host, named.grpc_port + apart)
    if redis:
        yield Port("REDIS_PORT", "Redis", LOCALHOST, named.redis_port)
    if named.prometheus_port:
        yield Port("PROMETHEUS_PORT", "Prometheus", LOCALHOST, named.prometheus_port)
    if named.dashboard_port:
        yield Port("DASHBOARD_PORT", "the dashboard", LOCALHOST, named.dashboard_port)


def ports_problem(wanted: Iterable[Port]) -> str:
    """Why a port cannot be had, and what to do; empty where all can."""
    taken: dict[int, str] = {}
    for port in wanted:
        choose = f"choose another: make up {port.variable}=<port>"
        if port.number in taken:
            owner = taken[port.number]
            return f"port {port.number} is wanted by {owner} and by {port.whose}; {choose}"
        if problem := port_problem(port.host, port.number):
            return f"{problem}; stop what uses it, or {choose}"
        taken[port.number] = port.whose
    return ""


def main(arguments: Sequence[str]) -> int:
    """0, or 2 where a port that is surely wanted cannot be had."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    parser.add_argument("--task", default="")
    named, others = parser.parse_known_args(arguments)
    names = {flag.partition("=")[0] for flag in others}
    generates = named.task == "text-generation" or not names.isdisjoint(GENERATES)
    replicas = named.replicas or default_replicas(generates=generates)
    problem = ports_problem(ports(named, replicas, redis="--redis_url" not in names))
    if problem:
        say(problem)
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
