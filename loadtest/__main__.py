"""`python -m loadtest`: prove a capacity, sweep the batching, replay a trace."""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console

from loadtest import options
from loadtest.bench.errors import BenchError
from loadtest.commands import run_capacity, run_replay, run_sweep
from loadtest.driving import RunK6
from loadtest.k6.run import run_k6

EXIT_WRONG, EXIT_STOPPED = 2, 130
WIDTH_OF_FILES = 120


class Command(Protocol):
    def __call__(
        self, options: argparse.Namespace, folder: Path, run_k6: RunK6, console: Console
    ) -> int: ...


COMMANDS: Mapping[str, Command] = {
    "capacity": run_capacity,
    "sweep": run_sweep,
    "replay": run_replay,
}


def main(arguments: Sequence[str], run: RunK6 = run_k6) -> int:
    """1: what was asked for was not met; 2: it could not be tried; 130: stopped by Ctrl-C."""
    given = options.parsed(arguments)
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    folder = given.results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{given.command}"
    try:
        return COMMANDS[given.command](given, folder, run, console)
    except BenchError as error:
        Console(stderr=True).print(
            f"loadtest: {error}", markup=False, highlight=False, soft_wrap=True
        )
        return EXIT_WRONG
    except KeyboardInterrupt:
        Console(stderr=True).print("loadtest: stopped", markup=False)
        return EXIT_STOPPED


if __name__ == "__main__":
    # As Ctrl-C: parameters are put back, servers and k6 are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
