"""Turns the knobs of a server that runs: the way that people would, by its parameter file."""

import time
from collections.abc import Callable

from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import Scrape, scrape
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
    if not in_force(
        lambda: scrape(server.http_port), parameters.generation, within_s=TAKES_HOLD_LIMIT_S
    ):
        raise BenchError(f"generation {parameters.generation} did not take hold in time")


def in_force(look: Callable[[], Scrape], generation: int, *, within_s: float) -> bool:
    """Whether every engine says that it goes by that generation; looks for it that long."""
    give_up_at = time.monotonic() + within_s
    while set(look().values(names.PARAMETERS_GENERATION.name).values()) != {float(generation)}:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(CHECK_S)
    return True
