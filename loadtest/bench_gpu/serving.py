"""The one server of ours that all GPU benchmarks share: started when asked for, kept while it
will do. Loading takes a quarter of a minute; a change of the SLO takes hold in a moment."""

import contextlib
from collections.abc import Sequence

import msgspec

from loadtest.bench.running import Say
from loadtest.bench.servers import (
    RunningServer,
    ServerCommand,
    one_model_parameters,
    running_server,
)
from loadtest.bench.tuning import put_in_force
from predictor.core.parameters import DEFAULT_PARAMETERS, ModelParameters, Parameters

MODEL = "bert"
BATCHING = ModelParameters(max_batch_size=512, max_batch_tokens=16_384)
MAX_QUEUE_SIZE = 100_000
READY_LIMIT_S = 180.0  # captures graphs first


class OurServer:
    """At most one is up."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._running: RunningServer | None = None
        self._flags: Sequence[str] = ()
        self._tiers: tuple[float, float | None] = (0.0, None)
        self._generation = 1

    def serve(
        self, flags: Sequence[str], slo_ms: float, say: Say, max_slice_ms: float | None = None
    ) -> RunningServer:
        """A server with these flags, that SLO and that slice in force. Raises BenchError."""
        tiers = (slo_ms, max_slice_ms)
        if self._running is None or self._flags != flags:
            self.stop()
            say(f"starting the server: {' '.join(flags[-4:])}")
            command = ServerCommand(
                module="predictor",
                model=MODEL,
                flags=tuple(flags),
                parameters=self._parameters(*tiers),
                ready_limit_s=READY_LIMIT_S,
            )
            self._running = self._stack.enter_context(running_server(command))
            self._flags = flags
        elif self._tiers != tiers:
            self._generation += 1
            put_in_force(self._running, self._parameters(*tiers))
        self._tiers = tiers
        return self._running

    def stop(self) -> None:
        self._running = None
        self._stack.close()

    def _parameters(self, slo_ms: float, max_slice_ms: float | None) -> Parameters:
        bulk = DEFAULT_PARAMETERS.tiers["bulk"]
        return one_model_parameters(
            MODEL,
            BATCHING,
            slo_ms,
            max_queue_size=MAX_QUEUE_SIZE,
            bulk=msgspec.structs.replace(bulk, max_slice_ms=max_slice_ms),
            generation=self._generation,
        )
