"""A runner that takes a known time: for planning, benchmarks and fault tests, no device needed.

It keeps the time of a device with a queue of its own: a batch begins when the one before it
ends, however late the thread that waits for it is woken.
"""

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from predictor.core.model import ModelSettings, ModelSpec, Task
from predictor.core.rows import Packing
from predictor.runner.ids import decode_rows, encode_results

MAX_TOKENS = 1 << 20

Result = TypeVar("Result")


class SimulatedRunner:
    """Sleeps fixed + per-token time for a batch; a row's result is the sum of its ids.

    The sum is INT64 and wraps. A negative id makes `run` raise ValueError, as a model
    that fails for one input would.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.spec = ModelSpec(
            name=settings.name,
            task=Task.SIMULATED,
            row_datatype="INT64",
            result_datatype="INT64",
            result_width=1,
            max_tokens=MAX_TOKENS,
            packed=settings.simulated_packed,
        )
        self._fixed_s = settings.simulated_fixed_ms / 1e3
        self._token_s = settings.simulated_token_us / 1e6
        self._free_s = 0.0

    def service_s(self, size: int, longest: int, tokens: int, packing: Packing) -> float:
        """Seconds for a batch of `size` rows; padding counts unless the batch is packed."""
        packed = self.spec.packed and packing is Packing.PACKED
        return self._fixed_s + self._token_s * (tokens if packed else size * longest)

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        return self.launch(rows, packing).results()

    def launch(self, rows: Sequence[bytes], packing: Packing) -> "SimulatedBatch[bytes]":
        began_s = time.perf_counter()
        batch = decode_rows(rows)
        if (batch.ids < 0).any():
            raise ValueError("a row has a negative id")
        starts = np.cumsum(batch.lengths) - batch.lengths
        checksums = np.add.reduceat(batch.ids, starts)
        # Made before sleeping: after milliseconds of sleep the caches are cold.
        results = encode_results(checksums[:, None])
        service_s = self.service_s(len(rows), int(batch.lengths.max()), len(batch.ids), packing)
        self._free_s = max(self._free_s, began_s) + service_s
        return SimulatedBatch(results, self._free_s)


class SimulatedBatch(Generic[Result]):
    """On its way through a device that is done with it at `ends_s` of time.perf_counter."""

    def __init__(self, results: Sequence[Result], ends_s: float) -> None:
        self._results = results
        self.ends_s = ends_s

    def results(self) -> Sequence[Result]:
        _sleep_until(self.ends_s)
        return self._results


def _sleep_until(end_s: float) -> None:
    """Return at `end_s` of time.perf_counter or some 0.1 ms later; at once if that has passed.

    The next batch's time runs already, so nothing is lost by being late. A spin would be: it
    asks for the interpreter again and again, which the event loop needs.
    """
    nap_s = end_s - time.perf_counter()
    if nap_s > 0:
        time.sleep(nap_s)
