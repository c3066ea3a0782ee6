"""`make up`: start what Headway needs on this machine, and stop all of it together."""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_DOCUMENT, parse_plain
from predictor.prometheus_server import (
    obtain_prometheus,
    prometheus_command,
    takes_remote_write,
)
from predictor.redis_server import find_redis_server, redis_command
from predictor.together import Service, port_problem, run_together, say

MODEL = "topics"
PARAMETERS_FILE = Path("run/parameters.yaml")
REDIS_FOLDER = Path("run/redis")  # jobs survive a restart
PROMETHEUS_FOLDER = Path("run/prometheus")
LOCALHOST = "127.0.0.1"
EXAMPLE = (
    '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data":'
    ' ["The striker scored twice in the final", "Shares fell as the bank raised rates"]}]}'
)


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C (0), until a service ends (its exit code), or refuse to start (2)."""
    flags, predictor_flags = _parse(arguments)
    redis_program = None if _names_redis(predictor_flags) else find_redis_server()
    ports = [
        ("HTTP_PORT", flags.host, flags.http_port),
        ("GRPC_PORT", flags.host, flags.grpc_port),
    ]
    if redis_program:
        ports.append(("REDIS_PORT", LOCALHOST, flags.redis_port))
    if flags.prometheus_port:
        ports.append(("PROMETHEUS_PORT", LOCALHOST, flags.prometheus_port))
    for flag, host, port in ports:
        problem = port_problem(host, port)
        if problem:
            say(f"{problem}; stop what uses it, or choose another: make up {flag}=<port>")
            return 2
    try:
        create_parameters_file(PARAMETERS_FILE)
        REDIS_FOLDER.mkdir(parents=True, exist_ok=True)
        prometheus = _prometheus(flags)
    except OSError as error:
        say(f"{error.filename} cannot be written: {error.strerror}; check the folder's permissions")
        return 2
    except KeyboardInterrupt:
        say("stopping")
        return 0
    services = []
    if redis_program:
        services.append(redis_service(redis_program, REDIS_FOLDER, flags.redis_port))
        predictor_flags.append(f"--redis_url={services[0].ready_url}")
    elif not _names_redis(predictor_flags):
        say("no redis-server here, so no jobs; install Redis, or add FLAGS=--redis_url=redis://…")
    url = f"http://{flags.host}:{flags.http_port}"
    predictor = Service(
        name="predictor",
        command=(
            *(sys.executable, "-m", "predictor"),
            *("--task=topic", f"--model_name={MODEL}", f"--parameters={PARAMETERS_FILE}"),
            *(f"--host={flags.host}", f"--http_port={flags.http_port}"),
            *(f"--grpc_port={flags.grpc_port}", *predictor_flags),
        ),
        ready_url=f"{url}/v2/models/{MODEL}/ready",
    )
    welcome = (
        "ready. Ctrl-C stops it.\n"
        f"  model       {url}/v2/models/{MODEL}\n"
        f"  gRPC        {flags.host}:{flags.grpc_port}\n"
        f"  metrics     {url}/metrics\n"
        f"  parameters  {PARAMETERS_FILE} (edit and save)\n"
        + (f"  Prometheus  {_prometheus_url(flags)}\n" if prometheus else "")
        + "Try it:\n"
        f"  curl -s {url}/v2/models/{MODEL}/infer -H 'Content-Type: application/json'"
        f" -d {shlex.quote(EXAMPLE)}\n"
    )
    services.append(predictor)
    if prometheus is not None:
        services.append(prometheus)
    return asyncio.run(run_together(services, welcome))


def _prometheus(flags: argparse.Namespace) -> Service | None:
    """None where there is to be none, or none can be had."""
    if not flags.prometheus_port:
        return None
    program = obtain_prometheus(say)
    if program is None:
        return None
    remote_write = takes_remote_write(program)
    if not remote_write:
        say(f"{program} is older than 2.33; it scrapes, but does not take k6's series")
    scraped = LOCALHOST if flags.host == "0.0.0.0" else flags.host
    command = prometheus_command(
        program,
        PROMETHEUS_FOLDER,
        f"{LOCALHOST}:{flags.prometheus_port}",
        f"{scraped}:{flags.http_port}",
        remote_write=remote_write,
    )
    return Service("prometheus", command, f"{_prometheus_url(flags)}/-/ready")


def _prometheus_url(flags: argparse.Namespace) -> str:
    return f"http://{LOCALHOST}:{flags.prometheus_port}"


def redis_service(program: str, folder: Path, port: int) -> Service:
    """A Redis on 127.0.0.1 that keeps the jobs in `folder`."""
    command = redis_command(program, folder, "--port", str(port))
    return Service("redis", command, f"redis://127.0.0.1:{port}")


def _names_redis(predictor_flags: Sequence[str]) -> bool:
    return any(flag.split("=")[0] == "--redis_url" for flag in predictor_flags)


def create_parameters_file(path: Path) -> None:
    """Write the default parameters, explained, unless there is such a file already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(
            commented_document(parse_plain({**DEFAULT_DOCUMENT, "models": {MODEL: {}}}))
        )


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m predictor.up",
        description="Serve the default model here. Other flags go to the predictor.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http_port", type=int, default=8080)
    parser.add_argument("--grpc_port", type=int, default=8081)
    parser.add_argument("--redis_port", type=int, default=8082, help="of the Redis started here")
    parser.add_argument("--prometheus_port", type=int, default=9090, help="0: no Prometheus")
    return parser.parse_known_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
