"""Services of one machine that live and end together, for who sits at the terminal.

Each is a child in a session of its own. Ctrl-C in a terminal therefore reaches only this process,
which asks every child to finish, once. When a child that is needed ends, the others stop too.
"""

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

READY_WITHIN_S = 600.0
PROGRESS_EVERY_S = 5.0
STOPPED_WITHIN_S = 40.0  # the predictor's own grace period, and some


@dataclass(frozen=True)
class Service:
    """A child process, and the URL that answers once it serves: http (with 200) or redis."""

    name: str
    command: Sequence[str]
    ready_url: str
    environment: Mapping[str, str] | None = None  # None: this process's
    needed: bool = True  # False: the others go on without it


@dataclass(frozen=True)
class Child:
    service: Service
    process: asyncio.subprocess.Process


async def run_together(
    stages: Sequence[Sequence[Service]], welcome: str, ready_within_s: float = READY_WITHIN_S
) -> int:
    """Start the services, say `welcome` when all are ready, and wait for a reason to stop.

    All start at once. They stop stage by stage, the last first: what a service needs outlives
    it, so a predictor can return its jobs.

    Returns 0 when asked to stop by a signal, else the exit code of the service that ended,
    or 1 if one was not ready in time.
    """
    running: list[list[Child]] = []
    asked_to_stop = _watch_signals(running)
    try:
        for services in stages:
            running.append([])
            for service in services:
                running[-1].append(await _start(service))
        children = [child for stage in running for child in stage]
        return await _serve(children, asked_to_stop, welcome, ready_within_s)
    finally:
        for stage in reversed(running):
            await asyncio.gather(*map(_stop, stage))


async def _serve(
    children: Sequence[Child], asked_to_stop: asyncio.Event, welcome: str, ready_within_s: float
) -> int:
    asked = asyncio.create_task(asked_to_stop.wait())
    ready = asyncio.create_task(_all_ready(children, ready_within_s))
    ends = {asyncio.create_task(child.process.wait()): child for child in children}
    waiting: set[asyncio.Task[Any]] = {asked, ready, *ends}
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if asked in done:
                say("stopping")
                return 0
            for end, child in ends.items():
                if end in done and (code := _ended(child.service, end.result())):
                    return code
            if ready in done:
                if not ready.result():
                    say(f"not ready within {ready_within_s:g} s; its log is above")
                    return 1
                say(welcome)
    finally:
        for task in (asked, ready, *ends):
            task.cancel()


def _ended(service: Service, code: int) -> int:
    """What to end with; 0: go on."""
    said = f"{service.name} ended with exit code {code}; its log is above"
    if not service.needed:
        say(f"{said}. The rest goes on without it; to have it back, stop all and start again")
        return 0
    say(said)
    return code if code > 0 else 1


def _watch_signals(running: Sequence[Sequence[Child]]) -> asyncio.Event:
    """An event that the first signal sets. The second kills the children at once."""
    asked_to_stop = asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            for child in (each for stage in running for each in stage):
                _signal(child, signal.SIGKILL)
        asked_to_stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return asked_to_stop


async def _start(service: Service) -> Child:
    process = await asyncio.create_subprocess_exec(
        *service.command,
        stdin=asyncio.subprocess.DEVNULL,
        env=service.environment,
        start_new_session=True,
    )
    return Child(service, process)


async def _stop(child: Child) -> None:
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
            await asyncio.gather(*map(_ready, children))
    except TimeoutError:
        return False
    return True


async def _ready(child: Child) -> None:
    """Returns also when it has ended: whoever watches that decides what becomes of it."""
    loop = asyncio.get_running_loop()
    started_s = told_s = loop.time()
    name, url = child.service.name, child.service.ready_url
    say(f"starting {name}")
    while child.process.returncode is None and not await asyncio.to_thread(_answers, url):
        if loop.time() - told_s >= PROGRESS_EVERY_S:
            told_s = loop.time()
            say(f"{name} is loading, {told_s - started_s:.0f} s so far")
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


def say(message: str) -> None:
    print(f"headway: {message}", flush=True)
