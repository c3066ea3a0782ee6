"""The one server of ours that all GPU benchmarks share: started when asked for, kept while it
will do. Loading takes a quarter of a minute; a change of the SLO takes hold in a moment."""

import contextlib
import time
from collections.abc import Sequence

from loadtest.bench.errors import BenchError
from loadtest.bench.running import Say
from loadtest.bench.scrapes import scrape
from loadtest.bench.servers import (
    RunningServer,
    ServerCommand,
    one_model_parameters,
    replace_parameters,
    running_server,
)
from predictor.core.parameters import ModelParameters, Parameters
from predictor.metrics import names

MODEL = "bert"
BATCHING = ModelParameters(max_batch_size=512, max_batch_tokens=16_384)
MAX_QUEUE_SIZE = 100_000
READY_LIMIT_S = 180.0  # captures graphs first
TAKES_HOLD_LIMIT_S = 5.0


class OurServer:
    """At most one is up."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._running: RunningServer | None = None
        self._flags: Sequence[str] = ()
        self._slo_ms = 0.0
        self._generation = 1

    def serve(self, flags: Sequence[str], slo_ms: float, say: Say) -> RunningServer:
        """A server with these flags and that SLO in force. Raises BenchError."""
        if self._running is None or self._flags != flags:
            self.stop()
            say(f"starting the server: {' '.join(flags[-4:])}")
            command = ServerCommand(
                module="predictor",
                model=MODEL,
                flags=tuple(flags),
                parameters=self._parameters(slo_ms),
                ready_limit_s=READY_LIMIT_S,
            )
            self._running = self._stack.enter_context(running_server(command))
            self._flags = flags
        elif self._slo_ms != slo_ms:
            self._generation += 1
            replace_parameters(self._running, self._parameters(slo_ms))
            self._await_generation(self._running.http_port)
        self._slo_ms = slo_ms
        return self._running

    def stop(self) -> None:
        self._running = None
        self._stack.close()

    def _parameters(self, slo_ms: float) -> Parameters:
        return one_model_parameters(
            MODEL,
            BATCHING,
            slo_ms,
            max_queue_size=MAX_QUEUE_SIZE,
            generation=self._generation,
        )

    def _await_generation(self, port: int) -> None:
        give_up_at = time.monotonic() + TAKES_HOLD_LIMIT_S
        while scrape(port).total(names.PARAMETERS_GENERATION.name) < self._generation:
            if time.monotonic() > give_up_at:
                raise BenchError(f"generation {self._generation} did not take hold in time")
            time.sleep(0.05)
