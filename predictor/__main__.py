"""`python -m predictor`: builds the parts, introduces them to each other, and serves.

With one edge and one engine all parts are in this process. With more, this process becomes
the supervisor, and starts itself again for each edge and each engine with an order in hand.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.facts import EdgesConnected, Observer, ParametersRejected, ProcessRestarted
from predictor.core.jobs import LineRunner
from predictor.core.parameters import DEFAULT_PARAMETERS, GENERATING_PARAMETERS, Parameters
from predictor.engine.local import LocalEngine
from predictor.engine.port import AnyRunner, Engine, StepRunner
from predictor.exits import report_failure
from predictor.first_steps import GREETING_VARIABLE, base_url, greeting
from predictor.freed_memory import give_back
from predictor.log_lines import escape_log_lines
from predictor.metrics.observer import PrometheusObserver
from predictor.redis_password import with_password
from predictor.settings import Settings, parse_settings
from predictor.supervisor.child import (
    EdgeOrder,
    EngineOrder,
    hold_lifeline,
    keep_pulse,
    take_order,
)

if TYPE_CHECKING:
    from predictor.edge.server import EdgeSettings, JobKeeping

_LOG = logging.getLogger("headway")

LEAST_HELD_LINES = 128  # of a model by one edge: two batches of the default size


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal, and return the exit code: 2 where the settings are wrong."""
    escape_log_lines()
    order = take_order(os.environ)
    who = f"{order.name}: " if order is not None else ""
    logging.basicConfig(format=f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s")
    for name in ("headway", "predictor"):
        logging.getLogger(name).setLevel(logging.INFO)
    # The SDK's app answers with a class that FastAPI is giving up; users can do nothing about it.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    try:
        match order:
            case EngineOrder():
                return _serve_engine(order)
            case EdgeOrder():
                return _serve_edge(order)
            case None:
                return _serve(parse_settings(arguments), arguments)
    except StartupError as error:
        return report_failure(error)


def _serve(settings: Settings, arguments: Sequence[str]) -> int:
    if not settings.in_one_process:
        from predictor.supervisor.supervisor import supervise

        return supervise(settings, arguments, partial(_greet, settings))

    # Not before the flags are known to be good: importing the SDK makes it read them, too.
    from predictor.edge.server import serve

    parts = _EngineParts(settings)
    parts.observer.observe(EdgesConnected(1))
    return serve(
        parts.engine,
        _edge_settings(settings),
        background=partial(parts.load_and_follow, partial(_greet, settings)),
        on_drain=parts.engine.drain,
        on_end=parts.engine.abandon,
        jobs=_job_keeping(settings, parts.engine),
    )


def _greet(settings: Settings) -> None:
    """Say where models are served, and what to try, unless whoever started this does."""
    if os.environ.get(GREETING_VARIABLE) == "no":
        return
    tls = settings.ssl_certfile is not None
    for line in greeting(settings.models, base_url(settings.host, settings.http_port, tls=tls)):
        _LOG.info("%s", line)


def _serve_engine(order: EngineOrder) -> int:
    from predictor.engine.host import serve

    settings = order.settings
    parts = _EngineParts(settings)
    observer = parts.observer
    observer.observe(ProcessRestarted("engine", order.restarts))
    observer.observe(ProcessRestarted("edge", order.edge_restarts))

    def edge_restarted(times: int) -> None:
        observer.observe(ProcessRestarted("edge", times))

    def ready() -> None:
        if order.died_s is not None:
            away_s = time.monotonic() - order.died_s
            _LOG.info("all models are back, %.1f s after this engine died", away_s)

    async def background() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(hold_lifeline(order, edge_restarted))
            group.create_task(keep_pulse(order, lambda: not parts.engine.status().loading))
            group.create_task(parts.load_and_follow(ready))

    listener = socket.socket(fileno=order.listener_fd)
    return serve(
        parts.engine,
        observer,
        listener,
        background=background,
        grace_s=settings.grace_s,
        edges=settings.workers,
    )


def _serve_edge(order: EdgeOrder) -> int:
    from predictor.edge.engines import EngineGroup
    from predictor.edge.remote import RemoteEngine
    from predictor.edge.server import serve
    from predictor.metrics.merging import merged

    names = _names(order.settings)
    engines = [RemoteEngine(index, path, names) for index, path in enumerate(order.engine_paths)]
    group = EngineGroup(engines, merged) if len(engines) > 1 else engines[0]

    async def background() -> None:
        _collect_garbage_rarely()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hold_lifeline(order))
            tasks.create_task(keep_pulse(order, lambda: True))
            for engine in engines:
                tasks.create_task(engine.stay_connected())

    return serve(
        group,
        _edge_settings(order.settings, shared_ports=True),
        background=background,
        on_drain=group.drain,
        on_end=group.abandon,
        jobs=_job_keeping(order.settings, group, order.replica),
    )


class _EngineParts:
    """An engine with its observer and its parameters, not loaded yet."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartupError where the settings of a model or the parameters are wrong."""
        from predictor.runner.loading import check_settings
        from predictor.stores.choice import last_good_of, store_of

        # The device's thread asks for the interpreter when a batch is done, and the device stands
        # idle until it gets it: Python's own 5 ms would be as long as many a batch.
        sys.setswitchinterval(5e-4)
        for model in settings.models:
            check_settings(model)
        self._settings = settings
        self._names = _names(settings)
        self._store = store_of(settings.parameters, settings.parameters_fallback)
        self._last_good = last_good_of(settings.parameters) if self._store else None
        self._parameters, refused = self._first_parameters()
        self.observer = PrometheusObserver(
            lambda: self.engine.snapshot(), self._names, lambda: self._parameters.tiers
        )
        self.engine = LocalEngine(
            self._names,
            self._parameters,
            self.observer,
            exposition=self.observer.exposition,
            batch_timeout_s=settings.batch_timeout_s,
            warmed_up=self._traced,
            # In one process its edge has counted them.
            max_queued_bytes=None if settings.in_one_process else settings.max_decoded_bytes,
        )
        if refused:
            self.observer.observe(ParametersRejected(refused))
        elif self._last_good:
            self._last_good.keep(self._parameters)

    def _first_parameters(self) -> tuple[Parameters, str]:
        """What to start with; and why the document in place is refused, if it is.

        Raises StartupError where it is, and no other has taken hold before.
        """
        if self._store is None or self._last_good is None:
            generates = any(model.generates for model in self._settings.models)
            return GENERATING_PARAMETERS if generates else DEFAULT_PARAMETERS, ""
        served = frozenset(self._names)
        try:
            parameters = self._store.load()
            parameters.check_models(served)
            return parameters, ""
        except ParametersRefused as refusal:
            refused = f"--parameters {self._settings.parameters}: {refusal.message}"
        except StartupError as error:
            refused = error.message
        kept = self._last_good.read()
        try:
            if kept is None:
                raise StartupError(refused)
            kept.check_models(served)
        except ParametersRefused:
            raise StartupError(refused) from None
        _LOG.error(
            "%s; started with generation %d, the last that was in force, kept in %s",
            refused,
            kept.generation,
            self._last_good.path,
        )
        return kept, refused

    def _traced(self, runner: AnyRunner) -> AnyRunner:
        batches = self._settings.profile_batches
        if not batches:
            return runner
        if isinstance(runner, StepRunner):
            raise StartupError(
                "--profile_batches: models that generate are not traced; leave it out"
            )
        from predictor.runner.profiling import traced

        return traced(runner, batches, Path(self._settings.profile_dir))

    async def load_and_follow(self, ready: Callable[[], None] = lambda: None) -> None:
        """Load the models, say that they are ready, then follow the parameters."""
        from predictor.runner.loading import load_model

        await self.engine.start(
            {model.name: partial(load_model, model) for model in self._settings.models}
        )
        _collect_garbage_rarely()
        ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.failure())
            if self._store:
                served = frozenset(self._names)
                news = self._store.watch()
                group.create_task(follow(news, self._put_in_force, self.observer, served))

    async def _put_in_force(self, edited: Parameters) -> None:
        before = self._parameters
        if edited.generation <= before.generation and edited != before:
            _LOG.warning(
                "parameters were edited under generation %d, and generation %d was in force: they"
                " are taken, but nobody can tell by the number who has them; raise it with each"
                " edit, or edit in the dashboard",
                edited.generation,
                before.generation,
            )
        self.engine.set_parameters(edited)
        self._parameters = edited
        if self._last_good:
            await asyncio.to_thread(self._last_good.keep, edited)


def _names(settings: Settings) -> tuple[str, ...]:
    return tuple(model.name for model in settings.models)


def _collect_garbage_rarely() -> None:
    # What was loaded stays for good: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # a request leaves nothing behind that needs it sooner
    give_back()


def _edge_settings(settings: Settings, *, shared_ports: bool = False) -> "EdgeSettings":
    from predictor.edge.server import EdgeSettings

    return EdgeSettings(
        model_names=_names(settings),
        host=settings.host,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        enable_grpc=settings.enable_grpc,
        shared_ports=shared_ports,
        max_body_bytes=settings.max_body_bytes,
        body_idle_s=settings.body_idle_s,
        max_rows=settings.max_rows,
        max_decoded_bytes=settings.max_decoded_bytes,
        grace_s=settings.grace_s,
        timeout_keep_alive_s=settings.timeout_keep_alive,
        header_timeout_s=settings.header_timeout_s,
        max_connections=settings.max_connections,
        max_connections_per_client=settings.max_connections_per_client,
        grpc_keepalive=settings.grpc_keepalive,
        max_threads=settings.max_threads,
        max_asyncio_workers=settings.max_asyncio_workers,
        grpc_max_send_bytes=settings.grpc_max_send_message_length,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        job_owner_header=settings.job_owner_header,
    )


def _job_keeping(
    settings: Settings, engine: Engine, replica: str | None = None
) -> "JobKeeping | None":
    """Jobs in Redis. Raises StartupError where its URL is none."""
    if not settings.redis_url:
        return None
    from predictor.edge.server import JobKeeping
    from predictor.jobs.connection import Connection
    from predictor.jobs.store import RedisJobs
    from predictor.jobs.worker import Worker

    connection = Connection(with_password(settings.redis_url, os.environ))

    def worker(runner: LineRunner) -> Worker:
        return Worker(
            connection,
            runner,
            _names(settings),
            least_held=LEAST_HELD_LINES,
            seen=engine.report,
            replica=replica,
            lease_s=settings.job_lease_s,
        )

    return JobKeeping(RedisJobs(connection, keep_s=settings.job_keep_s), worker)


async def follow(
    news: AsyncIterator[Parameters | ParametersRefused],
    apply: Callable[[Parameters], Awaitable[None]],
    observer: Observer,
    served: frozenset[str],
) -> None:
    """Put each new document in force, or tell why it is not."""
    async for told in news:
        try:
            if isinstance(told, ParametersRefused):
                raise told
            told.check_models(served)
            await apply(told)
        except ParametersRefused as refusal:
            observer.observe(ParametersRejected(refusal.message))
            _LOG.warning("parameters refused, the last good ones stay: %s", refusal.message)
        else:
            _LOG.info("parameters of generation %d are in force", told.generation)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
