"""`python -m predictor`: builds the parts, introduces them to each other, and serves."""

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.facts import Observer, ParametersRejected
from predictor.core.parameters import DEFAULT_PARAMETERS, Parameters
from predictor.settings import Settings, parse_settings

_LOG = logging.getLogger("headway")
_EXIT_STARTUP = 2


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal, and return the exit code: 2 where the settings are wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("headway", "predictor"):
        logging.getLogger(name).setLevel(logging.INFO)
    # The SDK's app answers with a class that FastAPI is giving up; users can do nothing about it.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    try:
        return _serve(parse_settings(arguments))
    except StartupError as error:
        print(f"headway: {error.message}", file=sys.stderr)
        return _EXIT_STARTUP


def _serve(settings: Settings) -> int:
    # Not before the flags are known to be good: importing the SDK makes it read them, too.
    from predictor.edge.server import EdgeSettings, serve
    from predictor.engine.local import LocalEngine
    from predictor.metrics.observer import PrometheusObserver
    from predictor.runner.loading import check_settings, load_runner
    from predictor.stores.file import FileStore

    # The device's thread asks for the interpreter when a batch is done, and the device stands
    # idle until it gets it: Python's own 5 ms would be as long as many a batch.
    sys.setswitchinterval(5e-4)
    for model in settings.models:
        check_settings(model)
    names = tuple(model.name for model in settings.models)
    store = FileStore(Path(settings.parameters_file)) if settings.parameters_file else None
    parameters = store.load() if store else DEFAULT_PARAMETERS
    try:
        parameters.check_models(frozenset(names))
    except ParametersRefused as refusal:
        raise StartupError(f"--parameters {settings.parameters_file}: {refusal.message}") from None

    observer = PrometheusObserver(lambda: engine.snapshot(), names, lambda: tuple(parameters.tiers))
    engine = LocalEngine(
        names,
        parameters,
        observer,
        exposition=observer.exposition,
        batch_timeout_s=settings.batch_timeout_s,
    )

    def put_in_force(edited: Parameters) -> None:
        nonlocal parameters
        engine.set_parameters(edited)
        parameters = edited

    async def load_and_follow() -> None:
        await engine.start({model.name: partial(load_runner, model) for model in settings.models})
        # What was loaded stays for good: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)  # a request leaves nothing behind that needs it sooner
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.failure())
            if store:
                group.create_task(follow(store.watch(), put_in_force, observer, frozenset(names)))

    edge = EdgeSettings(
        model_names=names,
        host=settings.host,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        enable_grpc=settings.enable_grpc,
        max_body_bytes=settings.max_body_bytes,
        max_rows=settings.max_rows,
        grace_s=settings.grace_s,
        timeout_keep_alive_s=settings.timeout_keep_alive,
        max_threads=settings.max_threads,
        max_asyncio_workers=settings.max_asyncio_workers,
        grpc_max_send_bytes=settings.grpc_max_send_message_length,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )
    return serve(engine, edge, background=load_and_follow, on_drain=engine.drain)


async def follow(
    news: AsyncIterator[Parameters | ParametersRefused],
    apply: Callable[[Parameters], None],
    observer: Observer,
    served: frozenset[str],
) -> None:
    """Put each new document in force, or tell why it is not."""
    async for told in news:
        try:
            if isinstance(told, ParametersRefused):
                raise told
            told.check_models(served)
            apply(told)
        except ParametersRefused as refusal:
            observer.observe(ParametersRejected(refusal.message))
            _LOG.warning("parameters refused, the last good ones stay: %s", refusal.message)
        else:
            _LOG.info("parameters of generation %d are in force", told.generation)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
