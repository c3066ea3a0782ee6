"""The first batches of a model: they warm the device up and seed the service-time model."""

import logging
import time
from array import array
from collections.abc import Callable

from predictor.core.errors import StartupError
from predictor.core.rows import Packing
from predictor.engine.isolation import said_by
from predictor.engine.port import AnyRunner, DeviceMemoryExhausted, Runner, StepRunner
from predictor.engine.step_warmup import warm_up_steps
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import SteppedServiceTime

_LOG = logging.getLogger("headway.engine")

GRID = (
    *((1, 16), (8, 16), (1, 128), (4, 64), (16, 32), (8, 128), (32, 64), (2, 512)),
    *((64, 128), (128, 128)),
)
BUDGET_S = 3.0
ITEM_CODES = {"INT64": "q", "FP32": "f"}


def service_times(runner: AnyRunner) -> list[ServiceTimeModel]:
    """What the first batches, or steps, of a model teach: a service-time model for each packing.

    Raises as `warm_up` does.
    """
    if isinstance(runner, StepRunner):
        model = ServiceTimeModel(Packing.PAGED)
        for timed in warm_up_steps(runner):
            model.learn(timed.work, timed.seconds)
        return [model]
    packings = [Packing.PADDED, *([Packing.PACKED] if runner.spec.packed else [])]
    return [warm_up(runner, packing) for packing in packings]


def warm_up(
    runner: Runner, packing: Packing, clock: Callable[[], float] = time.monotonic
) -> ServiceTimeModel:
    """Run a small grid of batches within a time budget; returns what their times teach.

    Where the runner runs in steps, each step is run full instead. Raises StartupError if the
    model fails on a plain batch.
    """
    spec = runner.spec
    if packing is Packing.PACKED and spec.steps:
        stepped = SteppedServiceTime(spec.steps)
        for step in spec.steps:
            rows = max(step.rows, -(-step.tokens // spec.max_tokens))
            work = Work.alike(rows, step.tokens // rows)
            _timed(runner, work, packing, clock)  # the first replay of a graph is slower
            stepped.learn(work, _timed(runner, work, packing, clock))
        return stepped
    model = ServiceTimeModel(packing)
    began_s = clock()
    for rows, tokens in GRID:
        work = Work.alike(rows, min(tokens, spec.max_tokens))
        if model.batches and clock() - began_s + model.predict_s(work) > BUDGET_S:
            continue
        try:
            took_s = _timed(runner, work, packing, clock)
            if clock() - began_s + took_s <= BUDGET_S:  # the first of a size sets libraries up
                took_s = min(took_s, _timed(runner, work, packing, clock))
        except DeviceMemoryExhausted:
            _LOG.warning("%s: %d x %d tokens do not fit into memory", spec.name, rows, work.longest)
            continue
        model.learn(work, took_s)
    return model


def _timed(runner: Runner, work: Work, packing: Packing, clock: Callable[[], float]) -> float:
    """Seconds for a batch of rows that are all alike."""
    spec = runner.spec
    payload = array(ITEM_CODES[spec.row_datatype], [1]) * (work.longest * spec.items_per_token)
    started_s = clock()
    try:
        runner.run([payload.tobytes()] * work.rows, packing)
    except DeviceMemoryExhausted:
        raise
    except BaseException as error:  # sys.exit() in a model is no way to end a server
        raise StartupError(
            f"model {spec.name!r} fails on a batch of {work.rows} x {work.longest} tokens:"
            f" {said_by(error)}"
        ) from None
    return clock() - started_s
