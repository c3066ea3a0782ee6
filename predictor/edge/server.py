"""Starts and stops an edge: the SDK's ModelServer around our servers.

One signal drains: the engine refuses new work at once, HTTP and gRPC stop accepting, and
both let what is in flight end, side by side, within the grace period. A second signal ends it:
what waits for the engine is answered with 503, and what is left a moment later is cut off.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from time import monotonic
from typing import Any, Protocol

import kserve.model_server
import msgspec
import uvloop
from kserve import ModelRepository, ModelServer

from predictor.connection_flags import GrpcKeepalive
from predictor.core.errors import StartupError
from predictor.core.facts import EdgeRefused
from predictor.core.jobs import Jobs, LineRunner
from predictor.core.rows import Outcome
from predictor.edge.bodies import IDLE_S
from predictor.edge.budget import DEFAULT_BYTES
from predictor.edge.connections import Connections, connection_limits
from predictor.edge.front import is_probe
from predictor.edge.grpc import EdgeGrpcServer, EdgeServicer
from predictor.edge.grpc_options import server_options
from predictor.edge.http import EdgeApp
from predictor.edge.http_rim import HttpRim, HttpTimeouts
from predictor.edge.job_lines import EdgeLineRunner
from predictor.edge.model import EdgeDataPlane, ServedModel
from predictor.edge.repository import FixedRepository
from predictor.edge.rest import EdgeRestServer
from predictor.edge.service import InferService
from predictor.engine.port import Engine
from predictor.exits import report_failure
from predictor.listeners import bound_socket

_LOG = logging.getLogger("headway.edge")
_LAST_ANSWERS_S = 1.0
_UNREAD_IDLES = 1.5  # who reads a body gives it up himself, and first; this is for the others
UNNAMED = ""  # what is refused below ASGI was not read far enough to know its model
_JOBS_SHARE_OF_GRACE = 0.8  # what is left is for giving lines back


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how an edge serves."""

    model_names: tuple[str, ...]
    host: str = "0.0.0.0"  # noqa: S104 - a pod serves on all its addresses
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    shared_ports: bool = False  # with other edges, whose supervisor found them free
    max_body_bytes: int = 16 << 20
    body_idle_s: float = IDLE_S  # a body of which nothing came for so long is given up
    max_rows: int = 1024
    max_decoded_bytes: int = DEFAULT_BYTES  # of all requests together
    grace_s: float = 30.0
    timeout_keep_alive_s: float = 65
    header_timeout_s: float = 10.0
    max_connections: int | None = None
    max_connections_per_client: int | None = None
    max_threads: int = 4
    max_asyncio_workers: int | None = None
    grpc_max_send_bytes: int = 64 << 20
    grpc_keepalive: GrpcKeepalive = GrpcKeepalive()
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    job_owner_header: str = ""  # empty: who knows a job's id may ask for it


class JobWorker(Protocol):
    """Works off jobs, beside the edge's own requests."""

    async def run(self) -> None:
        """Until drained. An outage of the store is no reason to raise."""
        ...

    async def drain(self, within_s: float) -> None:
        """Claim no more, wait that long for the lines that run, and give back the rest."""
        ...


class JobKeeping(msgspec.Struct, frozen=True):
    """Where jobs are kept, and what works them off here with the edge's runner of lines."""

    jobs: Jobs
    worker: Callable[[LineRunner], JobWorker]


def serve(
    engine: Engine,
    settings: EdgeSettings,
    *,
    background: Callable[[], Coroutine[Any, Any, None]],
    on_drain: Callable[[], None],
    on_end: Callable[[], None] = lambda: None,
    jobs: JobKeeping | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code.

    `background` runs as a task once the loop runs; it loads the models, and is cancelled at
    the end if it still runs. A StartupError from it, or a port that cannot be had, gives a
    message and 2; any other error a message and 1. `on_drain` is called once, as the
    first thing that a signal or a failure does; `on_end` by the second, and fails what waits for
    the engine. `jobs` is None where none are kept.
    """
    server = EdgeServer(engine, settings, background, on_drain, on_end, jobs)
    try:
        server.start([ServedModel(name, server.service) for name in settings.model_names])
    except StartupError as error:
        server.failed(error)
    return server.exit_code


class EdgeServer(ModelServer):
    """The SDK's ModelServer with our HTTP and gRPC servers and one way to stop."""

    def __init__(
        self,
        engine: Engine,
        settings: EdgeSettings,
        background: Callable[[], Coroutine[Any, Any, None]],
        on_drain: Callable[[], None],
        on_end: Callable[[], None],
        jobs: JobKeeping | None,
    ) -> None:
        super().__init__(
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            workers=1,
            max_threads=settings.max_threads,
            max_asyncio_workers=settings.max_asyncio_workers,
            registered_models=ModelRepository(),
            enable_grpc=settings.enable_grpc,
            enable_latency_logging=False,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )
        self.exit_code = 0
        self.service = InferService(
            engine,
            settings.model_names,
            settings.max_rows,
            max_decoded_bytes=settings.max_decoded_bytes,
        )
        self.dataplane = EdgeDataPlane(self.service, self.registered_models)
        self.model_repository_extension = FixedRepository(self.service, self.registered_models)
        self._settings = settings
        self._background = background
        self._on_drain = on_drain
        self._on_end = on_end
        self._draining = self._ending = False
        self._worker = None if jobs is None else jobs.worker(EdgeLineRunner(self.service))
        self._draining_worker: asyncio.Task[None] | None = None
        self._limits = connection_limits(
            settings.max_connections, settings.max_connections_per_client
        )
        self._rest = self._make_rest(None if jobs is None else jobs.jobs)
        self._grpc = self._make_grpc() if settings.enable_grpc else None
        self._stopping_grpc: set[asyncio.Task[None]] = set()

    def start(self, models: list[ServedModel]) -> None:
        """Serve until stopped. Raises StartupError if a port cannot be had."""
        self._register_and_check_atleast_one_model_is_ready(models)
        host = self._settings.host
        shared = self._settings.shared_ports
        http_socket = bound_socket(host, self.http_port, "--http_port", shared=shared)
        http_socket.listen()  # early clients wait for the loop instead of being refused
        if self._grpc is not None and not shared:
            # gRPC would share a taken port without a word.
            bound_socket(host, self.grpc_port, "--grpc_port").close()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_on(http_socket))

    def stop(self, sig: int) -> None:
        """Drain; if that is under way already, end at once: a moment is left for answers."""
        if not self._draining:
            self._draining = True
            _LOG.info("draining for at most %g s", self._settings.grace_s)
            self._on_drain()
            if self._worker is not None:
                within_s = _JOBS_SHARE_OF_GRACE * self._settings.grace_s
                self._draining_worker = asyncio.ensure_future(self._worker.drain(within_s))
        elif not self._ending:
            self._ending = True
            if self._draining_worker is not None:
                self._draining_worker.cancel()  # its lines go to others when the leases run out
            self._on_end()
            asyncio.get_running_loop().call_later(_LAST_ANSWERS_S, self.stop, sig)
            return
        self._rest.stop()
        if self._grpc is not None:
            self._stopping_grpc.add(asyncio.ensure_future(self._grpc.stop(sig)))

    def failed(self, error: BaseException) -> None:
        """Say in one line why the server cannot go on, and remember the exit code."""
        self.exit_code = report_failure(error)

    async def _serve_on(self, http_socket: socket.socket) -> None:
        self.setup_event_loop()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(sig, self.stop, sig)
        servers = {loop.create_task(self._rest.start([http_socket]))}
        if self._grpc is not None:
            servers.add(loop.create_task(self._grpc.start(self.max_threads)))
        background = loop.create_task(self._background())
        for task in (*servers, background):
            task.add_done_callback(self._ended)
        working = loop.create_task(self._work_off_jobs())
        await asyncio.wait(servers)
        if self._draining_worker is not None:
            await asyncio.wait([self._draining_worker])
        working.cancel()
        background.cancel()
        await asyncio.wait((background, *self._stopping_grpc))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if not self.exit_code:
                self.failed(error)
            self.stop(signal.SIGTERM)

    async def _work_off_jobs(self) -> None:
        if self._worker is None:
            return
        try:
            await self._worker.run()
        except Exception:  # requests must not suffer for it
            _LOG.exception("this edge works off no more jobs; restart it")

    def _make_rest(self, jobs: Jobs | None) -> EdgeRestServer:
        settings = self._settings
        app = EdgeApp(
            self.service,
            kserve.model_server.app,
            settings.max_body_bytes,
            jobs,
            settings.body_idle_s,
            settings.job_owner_header,
        )
        return EdgeRestServer(
            app,
            self.dataplane,
            self.model_repository_extension,
            grace_s=settings.grace_s,
            rim=HttpRim(
                connections=Connections(self._limits, monotonic),
                timeouts=HttpTimeouts(
                    head_s=settings.header_timeout_s,
                    body_idle_s=_UNREAD_IDLES * settings.body_idle_s,
                    keep_alive_s=settings.timeout_keep_alive_s,
                ),
                is_probe=is_probe,
                on_refusal=self._count_refusal,
            ),
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )

    def _count_refusal(self, status: HTTPStatus) -> None:
        busy = status is HTTPStatus.SERVICE_UNAVAILABLE
        outcome = Outcome.UNAVAILABLE if busy else Outcome.INVALID
        self.service.engine.report(EdgeRefused(UNNAMED, "http", outcome))

    def _make_grpc(self) -> EdgeGrpcServer:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return EdgeGrpcServer(
            EdgeServicer(self.service, self.dataplane, self.model_repository_extension),
            f"{host}:{settings.grpc_port}",
            options=server_options(
                settings.grpc_keepalive,
                max_receive_bytes=settings.max_body_bytes,
                max_send_bytes=settings.grpc_max_send_bytes,
                max_connections=self._limits.most_grpc,
            ),
            read_idle_s=settings.body_idle_s,
            grace_s=settings.grace_s,
        )
