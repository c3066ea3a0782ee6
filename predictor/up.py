"""`make up`: start what Headway needs on this machine, and stop all of it together.

Each service is a child in a session of its own. Ctrl-C in a terminal therefore reaches only
this process, which asks every child to finish, once. When one child ends, the others stop too.
"""

import argparse
import asyncio
import os
import shlex
import signal
import socket
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_DOCUMENT, parse_plain
from predictor.redis_server import find_redis_server, redis_command

MODEL = "topics"
PARAMETERS_FILE = Path("run/parameters.yaml")
REDIS_FOLDER = Path("run/redis")  # jobs survive a restart
READY_WITHIN_S = 600.0
PROGRESS_EVERY_S = 5.0
STOPPED_WITHIN_S = 40.0  # the predictor's own grace period, and some
EXAMPLE = (
    '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data":'
    ' ["The striker scored twice in the final", "Shares fell as the bank raised rates"]}]}'
)


@dataclass(frozen=True)
class Service:
    """A child process, and the URL that answers once it serves: http (with 200) or redis."""

    name: str
    command: Sequence[str]
    ready_url: str


@dataclass(frozen=True)
class Child:
    service: Service
    process: asyncio.subprocess.Process


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C (0), until a service ends (its exit code), or refuse to start (2)."""
    flags, predictor_flags = _parse(arguments)
    redis_program = None if _names_redis(predictor_flags) else find_redis_server()
    ports = [
        ("HTTP_PORT", flags.host, flags.http_port),
        ("GRPC_PORT", flags.host, flags.grpc_port),
    ]
    if redis_program:
        ports.append(("REDIS_PORT", "127.0.0.1", flags.redis_port))
    for flag, host, port in ports:
        problem = port_problem(host, port)
        if problem:
            say(f"{problem}; stop what uses it, or choose another: make up {flag}=<port>")
            return 2
    try:
        create_parameters_file(PARAMETERS_FILE)
        REDIS_FOLDER.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        say(f"{error.filename} cannot be written: {error.strerror}; check the folder's permissions")
        return 2
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
        "Try it:\n"
        f"  curl -s {url}/v2/models/{MODEL}/infer -H 'Content-Type: application/json'"
        f" -d {shlex.quote(EXAMPLE)}\n"
    )
    return asyncio.run(run_together([*services, predictor], welcome))


async def run_together(
    services: Sequence[Service], welcome: str, ready_within_s: float = READY_WITHIN_S
) -> int:
    """Start the services, say `welcome` when all are ready, and wait for a reason to stop.

    Returns 0 when asked to stop by a signal, else the exit code of the service that ended,
    or 1 if one was not ready in time.
    """
    children: list[Child] = []
    asked_to_stop = _watch_signals(children)
    try:
        for service in services:
            await _start(service, children)
        return await _serve(children, asked_to_stop, welcome, ready_within_s)
    finally:
        await _stop(children)


async def _serve(
    children: Sequence[Child], asked_to_stop: asyncio.Event, welcome: str, ready_within_s: float
) -> int:
    asked = asyncio.create_task(asked_to_stop.wait())
    ready = asyncio.create_task(_all_ready(children, ready_within_s))
    ends = {asyncio.create_task(child.process.wait()): child for child in children}
    try:
        await asyncio.wait({asked, ready, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not asked.done() and not any(end.done() for end in ends):
            if not ready.result():
                say(f"not ready within {ready_within_s:g} s; its log is above")
                return 1
            say(welcome)
            await asyncio.wait({asked, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            say("stopping")
            return 0
        ended, child = next((end, child) for end, child in ends.items() if end.done())
        say(f"{child.service.name} ended with exit code {ended.result()}; its log is above")
        return ended.result() if ended.result() > 0 else 1
    finally:
        for task in (asked, ready, *ends):
            task.cancel()


def _watch_signals(children: Sequence[Child]) -> asyncio.Event:
    """An event that the first signal sets. The second kills the children at once."""
    asked_to_stop = asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            for child in children:
                _signal(child, signal.SIGKILL)
        asked_to_stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return asked_to_stop


async def _start(service: Service, children: list[Child]) -> None:
    process = await asyncio.create_subprocess_exec(
        *service.command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    children.append(Child(service, process))


async def _stop(children: Sequence[Child]) -> None:
    """The last first: what a service needs outlives it, so a predictor can return its jobs."""
    for child in reversed(children):
        if child.process.returncode is None:
            child.process.terminate()
        end = asyncio.create_task(child.process.wait())
        _, late = await asyncio.wait({end}, timeout=STOPPED_WITHIN_S)
        # Also where the child has ended: it may have left children of its own.
        _signal(child, signal.SIGKILL)
        if late:
            await end


def _signal(child: Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return  # nobody of that session is left


async def _all_ready(children: Sequence[Child], within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(_ready(child.service) for child in children))
    except TimeoutError:
        return False
    return True


async def _ready(service: Service) -> None:
    loop = asyncio.get_running_loop()
    started_s = told_s = loop.time()
    say(f"starting {service.name}")
    while not await asyncio.to_thread(_answers, service.ready_url):
        if loop.time() - told_s >= PROGRESS_EVERY_S:
            told_s = loop.time()
            say(f"{service.name} is loading, {told_s - started_s:.0f} s so far")
        await asyncio.sleep(0.2)  # readiness is asked for over HTTP, nobody tells us


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        if address.scheme == "redis":
            with socket.create_connection((address.hostname, address.port), timeout=2) as redis:
                redis.sendall(b"PING\r\n")
                return redis.recv(5) == b"+PONG"  # else it still loads what it kept
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False


def redis_service(program: str, folder: Path, port: int) -> Service:
    """A Redis on 127.0.0.1 that keeps the jobs in `folder`."""
    command = redis_command(program, folder, "--port", str(port))
    return Service("redis", command, f"redis://127.0.0.1:{port}")


def _names_redis(predictor_flags: Sequence[str]) -> bool:
    return any(flag.split("=")[0] == "--redis_url" for flag in predictor_flags)


def port_problem(host: str, port: int) -> str:
    """Why nothing can listen there; empty if something can."""
    with socket.socket() as probe:
        # Connections that just ended do not count as taken; a listener still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"cannot listen on {host}:{port}: {reason}"
    return ""


def create_parameters_file(path: Path) -> None:
    """Write the default parameters, explained, unless there is such a file already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(
            commented_document(parse_plain({**DEFAULT_DOCUMENT, "models": {MODEL: {}}}))
        )


def say(message: str) -> None:
    print(f"headway: {message}", flush=True)


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
    return parser.parse_known_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
