"""The first batches of a model: they warm the device up and seed the service-time model."""

import logging
import time
from array import array
from collections.abc import Callable

from predictor.core.errors import StartupError
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted, Runner
from predictor.policy.service_time import ServiceTimeModel, Work

_LOG = logging.getLogger("headway.engine")

GRID = ((1, 16), (1, 16), (8, 16), (1, 128), (4, 64), (16, 32), (8, 128), (32, 64), (2, 512))
BUDGET_S = 3.0
ITEM_CODES = {"INT64": "q", "FP32": "f"}


def warm_up(
    runner: Runner, packing: Packing, clock: Callable[[], float] = time.monotonic
) -> ServiceTimeModel:
    """Run a small grid of batches within a time budget; returns what their times teach.

    Raises StartupError if the model fails on a plain batch.
    """
    spec = runner.spec
    model = ServiceTimeModel(packing)
    began_s = clock()
    for position, (rows, tokens) in enumerate(GRID):
        length = min(tokens, spec.max_tokens)
        work = Work.alike(rows, length)
        if clock() - began_s + model.predict_s(work) > BUDGET_S and position > 1:
            continue
        payload = array(ITEM_CODES[spec.row_datatype], [1]) * (length * spec.items_per_token)
        started_s = clock()
        try:
            runner.run([payload.tobytes()] * rows, packing)
        except DeviceMemoryExhausted:
            _LOG.warning("%s: %d x %d tokens do not fit into memory", spec.name, rows, length)
            continue
        except Exception as error:
            raise StartupError(
                f"model {spec.name!r} fails on a batch of {rows} x {length} tokens: {error}"
            ) from None
        if position:  # the very first batch pays for lazy initialisation
            model.learn(work, clock() - started_s)
    return model
