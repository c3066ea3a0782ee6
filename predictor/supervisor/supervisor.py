"""Starts the engines and the edges, starts again what dies, and stops all of them together.

It owns what must outlive a child: the engines' listening sockets, in which connects wait
while an engine is started again; the ports; and the folder for temporary files. Children
are in sessions of their own, so that Ctrl-C in a terminal reaches only this process. A child that
is silent, because it is stopped or its event loop is stuck, is killed, and so started again.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predictor.core.errors import StartupError
from predictor.core.restarts import Restarts
from predictor.devices import VISIBLE, nvml_uuids, visible_devices
from predictor.engine.pulse import BEAT_S, DEAD_LOADING_S, DEAD_S, Pulse
from predictor.exits import EXIT_FAILED, EXIT_STARTUP
from predictor.listeners import bound_socket
from predictor.settings import Settings
from predictor.supervisor.child import (
    EDGE_RESTARTED,
    ORDER_VARIABLE,
    SERVING,
    ChildOrder,
    EdgeOrder,
    EngineOrder,
    write_order,
)

_LOG = logging.getLogger("headway.supervisor")

LATE_S = 5.0  # what children have beyond the grace period
MAX_SOCKET_PATH_BYTES = 107  # of the kernel
BACKLOG = 128


@dataclass(eq=False)
class _Child:
    """A process to keep alive. `pid` is 0 while it does not run."""

    name: str
    index: int
    listener: socket.socket | None = None  # an engine's
    environment: Mapping[str, str] = field(default_factory=dict)
    pid: int = 0
    lifeline: int = -1  # our end of it
    restarts: int = 0
    died_s: float | None = None
    pulse: Pulse = field(default_factory=lambda: Pulse(time.monotonic()))
    is_loading: bool = True

    @property
    def is_edge(self) -> bool:
        return self.listener is None

    def said(self, data: bytes, now_s: float) -> None:
        """Take what came through its pulse."""
        self.pulse.heard(now_s)
        self.is_loading = not data.endswith(SERVING)

    def is_dead(self, now_s: float) -> bool:
        """Whether it has been silent for longer than one that runs can be. Asked each `BEAT_S`."""
        dead_s = DEAD_LOADING_S if self.is_loading else DEAD_S
        return bool(self.pid) and self.pulse.silent_s(now_s) >= dead_s


class _PulseReader(asyncio.Protocol):
    def __init__(self, child: _Child, heard: Callable[[], None]) -> None:
        self._child = child
        self._heard = heard

    def data_received(self, data: bytes) -> None:
        self._child.said(data, time.monotonic())
        self._heard()


def supervise(
    settings: Settings, arguments: Sequence[str], serving: Callable[[], None] = lambda: None
) -> int:
    """Serve by child processes until a signal, and return the exit code.

    `arguments` are the command line, which the children get too. `serving` is called once, when
    all of them serve. Raises StartupError if a port cannot be had.
    """
    with contextlib.ExitStack() as owned:
        _reserve_ports(settings, owned)
        folder = Path(tempfile.mkdtemp(prefix="headway-"))  # only this user may enter
        owned.callback(shutil.rmtree, folder, ignore_errors=True)
        return asyncio.run(Supervisor(settings, arguments, folder, serving).run())


def _reserve_ports(settings: Settings, owned: contextlib.ExitStack) -> None:
    ports = [(settings.http_port, "--http_port")]
    if settings.enable_grpc:
        ports.append((settings.grpc_port, "--grpc_port"))
    for port, flag in ports:
        bound_socket(settings.host, port, flag).close()  # sharing would hide that it is taken
        owned.enter_context(bound_socket(settings.host, port, flag, shared=True))


class Supervisor:
    """`engines` and `edges` are kept running until `run` returns."""

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        folder: Path,
        serving: Callable[[], None] = lambda: None,
    ) -> None:
        """`folder` is private, and the place for sockets and temporary files.

        `serving` is called when all children serve for the first time.
        """
        self._settings = settings
        self._command = (sys.executable, "-m", "predictor", *arguments)
        self._folder = folder
        self._replica = f"{socket.gethostname()}:{folder.name}"  # the folder's name is random
        # A single engine chooses by --device.
        devices = visible_devices(os.environ, nvml_uuids()) if settings.engines > 1 else ()
        self.engines = [
            _Child(f"engine {index}", index, _listen(self._path_of(index)), _sees(devices, index))
            for index in range(settings.engines)
        ]
        self.edges = [_Child(f"edge {index}", index) for index in range(settings.workers)]
        self._serving: Callable[[], None] | None = serving
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Keep the children running until a signal or a failure; returns the exit code."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(sig, self._on_signal)
        listening = loop.create_task(self._listen_for_pulses())
        try:
            async with asyncio.TaskGroup() as group:
                for child in (*self.engines, *self.edges):
                    group.create_task(self._keep(child))
        finally:
            listening.cancel()
            for engine in self.engines:
                assert engine.listener is not None
                engine.listener.close()
        return self._exit_code

    def _on_signal(self) -> None:
        """The first lets the children drain; each further one ends them at once."""
        if self._stopping.is_set():
            self._signal_all(signal.SIGTERM)
        self._stop(0)

    def _stop(self, exit_code: int) -> None:
        if self._stopping.is_set():
            return
        self._exit_code = exit_code
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        late_s = self._settings.grace_s + LATE_S
        asyncio.get_running_loop().call_later(late_s, self._kill_the_late)

    def _signal_all(self, sig: signal.Signals) -> None:
        for child in (*self.engines, *self.edges):
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, sig)

    def _kill_the_late(self) -> None:
        late = ", ".join(child.name for child in (*self.engines, *self.edges) if child.pid)
        _LOG.error("killing %s, which did not end in time", late)
        self._signal_all(signal.SIGKILL)

    def _heard(self) -> None:
        children = (*self.engines, *self.edges)
        if self._serving is not None and not any(child.is_loading for child in children):
            self._serving()
            self._serving = None

    async def _listen_for_pulses(self) -> None:
        """Kill who is silent. Each second, because one that says nothing makes no event."""
        while True:
            await asyncio.sleep(BEAT_S)
            now_s = time.monotonic()
            for child in (*self.engines, *self.edges):
                if child.is_dead(now_s):
                    _LOG.error("%s is silent, though it runs; killing it", child.name)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)

    async def _keep(self, child: _Child) -> None:
        restarts = Restarts()
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                code = await self._run(child)
            except OSError as error:
                _LOG.error("%s cannot be started: %s", child.name, error)
                code = EXIT_FAILED
            if self._stopping.is_set():
                return
            if code == EXIT_STARTUP:  # it said why, and would say so again
                self._stop(EXIT_STARTUP)
                return
            child.died_s = time.monotonic()
            delay_s = restarts.delay_s(started_s, child.died_s)
            if delay_s is None:
                _LOG.critical("%s ended (%s), too often in a minute", child.name, _cause(code))
                self._stop(EXIT_FAILED)
                return
            _LOG.error(
                "%s ended unexpectedly (%s); starting it again%s",
                child.name,
                _cause(code),
                f" in {delay_s:g} s" if delay_s else "",
            )
            child.restarts += 1
            if child.is_edge:
                self._tell_first_engine()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()

    async def _run(self, child: _Child) -> int:
        """Start a child and wait for its end; returns its exit code, negative for a signal."""
        lifeline, child.lifeline = os.pipe()
        os.set_blocking(child.lifeline, False)
        heard, pulse = os.pipe()
        reader, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _PulseReader(child, self._heard), os.fdopen(heard, "rb", buffering=0)
        )
        order = self._order(child, lifeline, pulse)
        path = self._folder / f"{child.name.replace(' ', '-')}.json"
        write_order(order, path)
        inherited = [lifeline, pulse]
        if child.listener is not None:
            inherited.append(child.listener.fileno())
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env={
                    **os.environ,
                    **child.environment,
                    "TMPDIR": str(self._folder),  # what a killed child leaves there goes with us
                    ORDER_VARIABLE: str(path),
                },
                pass_fds=inherited,
                start_new_session=True,
            )
            child.pid = process.pid
            child.pulse, child.is_loading = Pulse(time.monotonic()), True
            _LOG.info("%s is process %d", child.name, child.pid)
            if self._stopping.is_set():  # a signal came while it was started
                process.terminate()
            return await process.wait()
        finally:
            child.pid = 0
            reader.close()
            os.close(pulse)
            os.close(lifeline)
            os.close(child.lifeline)
            child.lifeline = -1

    def _order(self, child: _Child, lifeline_fd: int, pulse_fd: int) -> ChildOrder:
        if child.listener is None:
            return EdgeOrder(
                index=child.index,
                settings=self._settings,
                folder=str(self._folder),
                lifeline_fd=lifeline_fd,
                pulse_fd=pulse_fd,
                engine_paths=tuple(self._path_of(engine.index) for engine in self.engines),
                replica=self._replica,
            )
        return EngineOrder(
            index=child.index,
            settings=self._settings,
            folder=str(self._folder),
            lifeline_fd=lifeline_fd,
            pulse_fd=pulse_fd,
            listener_fd=child.listener.fileno(),
            restarts=child.restarts,
            edge_restarts=0 if child.index else sum(edge.restarts for edge in self.edges),
            died_s=child.died_s,
        )

    def _tell_first_engine(self) -> None:
        lifeline = self.engines[0].lifeline
        if lifeline >= 0:
            with contextlib.suppress(OSError):  # it has just died, and its order will tell it
                os.write(lifeline, EDGE_RESTARTED)

    def _path_of(self, engine: int) -> str:
        return str(self._folder / f"engine-{engine}.sock")


def _listen(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise StartupError(f"the path {path} is too long for a socket; set TMPDIR to a shorter one")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(BACKLOG)
    return listener


def _sees(devices: Sequence[str], engine: int) -> Mapping[str, str]:
    """Each engine its own device; if they are more than devices, some share."""
    return {VISIBLE: devices[engine % len(devices)]} if devices else {}


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
