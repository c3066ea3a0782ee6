"""Turns the knobs of a server that runs: the way that people would, by its parameter file."""

import time

from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import scrape
from loadtest.bench.servers import RunningServer, parameter_document
from predictor.core.parameters import Parameters
from predictor.metrics import names

TAKES_HOLD_LIMIT_S = 5.0
CHECK_S = 0.05


def put_in_force(server: RunningServer, parameters: Parameters) -> None:
    """Write the document that the server follows, and return once it holds.

    The generation must be above the one in force. Raises BenchError if it does not take hold.
    """
    fresh = server.parameters_file.with_suffix(".new")
    fresh.write_bytes(parameter_document(parameters))
    fresh.replace(server.parameters_file)
    give_up_at = time.monotonic() + TAKES_HOLD_LIMIT_S
    while scrape(server.http_port).total(names.PARAMETERS_GENERATION.name) < parameters.generation:
        if time.monotonic() > give_up_at:
            raise BenchError(f"generation {parameters.generation} did not take hold in time")
        time.sleep(CHECK_S)
