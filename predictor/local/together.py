"""Services of one machine that live and end together, for who sits at the terminal.

Each is a child in a session of its own. Ctrl-C in a terminal therefore reaches only this process,
which asks every child to finish, once. A child that ends before it was ever ready had a wrong
start, and so has the whole if it is needed. One that ends later is started again.
"""

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from predictor.core.restarts import Restarts

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
    log: Path | None = None  # None: what it says goes to the terminal


@dataclass(eq=False)
class Child:
    """A service, and the process that it is at the moment."""

    service: Service
    process: asyncio.subprocess.Process | None = None
    was_ready: bool = False
    given_up: bool = False  # it has ended, and is not started again

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """To all of its session. It may have ended and left children of its own."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return  # nobody of that session is left


@dataclass
class Together:
    """What runs, stage by stage, and whether it is to stop."""

    stages: Sequence[Sequence[Child]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def children(self) -> Sequence[Child]:
        return [child for stage in self.stages for child in stage]

    def on_signal(self) -> None:
        """The first asks to stop. The second kills the children at once."""
        if self.stopping.is_set():
            for child in self.children:
                child.signal(signal.SIGKILL)
        self.stopping.set()

    def goes_on_without(self, child: Child) -> bool:
        """What was ready and is needed may go as long as its stage has another of the kind."""
        if not child.service.needed:
            return True
        (stage,) = [stage for stage in self.stages if child in stage]
        others = [other for other in stage if other.service.needed and not other.given_up]
        return child.was_ready and any(other.was_ready for other in others)


async def run_together(
    stages: Sequence[Sequence[Service]], welcome: str, ready_within_s: float = READY_WITHIN_S
) -> int:
    """Start the services, say `welcome` when all are ready, and wait for a reason to stop.

    All start at once. They stop stage by stage, the last first: what a service needs outlives
    it, so a predictor can return its jobs. One that ends is started again, unless it ends too
    often.

    Returns 0 when asked to stop by a signal, else the exit code of the service that the others
    cannot go on without, or 1 if one was not ready in time.
    """
    together = Together([[Child(service) for service in services] for services in stages])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, together.on_signal)
    kept: dict[asyncio.Task[int], Child] = {}
    try:
        for child in together.children:
            await _start(child)
            kept[asyncio.create_task(_keep(child, together.stopping))] = child
        return await _serve(together, kept, welcome, ready_within_s)
    finally:
        together.stopping.set()
        tasks = {child: task for task, child in kept.items()}
        for stage in reversed(together.stages):
            await asyncio.gather(*(_stop(child, tasks[child]) for child in stage if child in tasks))


async def _serve(
    together: Together,
    kept: Mapping[asyncio.Task[int], Child],
    welcome: str,
    ready_within_s: float,
) -> int:
    asked = asyncio.create_task(together.stopping.wait())
    ready = asyncio.create_task(_all_ready(together.children, ready_within_s))
    waiting: set[asyncio.Task[Any]] = {asked, ready, *kept}
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if asked in done:
                say("stopping")
                return 0
            for task, child in kept.items():
                if task in done and (code := _given_up(together, child, task.result())):
                    return code
            if ready in done:
                if not ready.result():
                    say(f"not ready within {ready_within_s:g} s; its log is above")
                    return 1
                say(welcome)
    finally:
        for task in (asked, ready):
            task.cancel()


def _given_up(together: Together, child: Child, code: int) -> int:
    """What to end with; 0: go on."""
    child.given_up = True
    said = f"{child.service.name} ended {_cause(code)}"
    if child.was_ready:
        said += ", too often in a minute"
    said += f"; its log is {child.service.log or 'above'}"
    if together.goes_on_without(child):
        say(f"{said}. The rest goes on without it; to have it back, stop all and start again")
        return 0
    say(said)
    return code if code > 0 else 1


def _cause(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


async def _keep(child: Child, stopping: asyncio.Event) -> int:
    """Start it again whenever it ends; the exit code with which that is given up."""
    loop = asyncio.get_running_loop()
    restarts = Restarts()
    coming: asyncio.Task[None] | None = None
    while True:
        assert child.process is not None
        started_s = loop.time()
        code = await child.process.wait()
        if coming is not None:
            coming.cancel()
        if stopping.is_set() or not child.was_ready:
            return code
        child.signal(signal.SIGKILL)  # what it left would hold its ports
        delay_s = restarts.delay_s(started_s, loop.time())
        if delay_s is None:
            return code
        say(f"{child.service.name} ended {_cause(code)}; starting it again")
        try:
            async with asyncio.timeout(delay_s):
                await stopping.wait()
            return code
        except TimeoutError:
            await _start(child)
        coming = asyncio.create_task(_again(child))


async def _again(child: Child) -> None:
    if await _ready(child):
        say(f"{child.service.name} is ready again")


async def _start(child: Child) -> None:
    service = child.service
    log = None if service.log is None else service.log.open("ab")
    try:
        child.process = await asyncio.create_subprocess_exec(
            *service.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=service.environment,
            start_new_session=True,
        )
    finally:
        if log is not None:
            log.close()


async def _stop(child: Child, kept: asyncio.Task[int]) -> None:
    if child.runs:
        assert child.process is not None
        child.process.terminate()
    _, late = await asyncio.wait({kept}, timeout=STOPPED_WITHIN_S)
    child.signal(signal.SIGKILL)
    if late:
        await kept


async def _all_ready(children: Sequence[Child], within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await asyncio.gather(*map(_ready, children))
    except TimeoutError:
        return False
    return True


async def _ready(child: Child) -> bool:
    """False when it has ended: whoever watches that decides what becomes of it."""
    loop = asyncio.get_running_loop()
    started_s = told_s = loop.time()
    name, url = child.service.name, child.service.ready_url
    process = child.process
    assert process is not None
    say(f"starting {name}")
    while process.returncode is None:
        if await asyncio.to_thread(_answers, url):
            child.was_ready = True
            return True
        if loop.time() - told_s >= PROGRESS_EVERY_S:
            told_s = loop.time()
            say(f"{name} is loading, {told_s - started_s:.0f} s so far")
        await asyncio.sleep(0.2)  # readiness is asked for over HTTP, nobody tells us
    return False


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
