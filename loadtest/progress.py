"""How far a command is: a bar on a terminal, a line for each step where the output is piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Say = Callable[[str], None]


@contextmanager
def progress(console: Console, total: int | None = None, completed: int = 0) -> Iterator[Say]:
    """`total`: steps, None where nobody knows. Each call says what the step was."""
    if not console.is_terminal:
        yield _lines(total, completed)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total, completed=completed)
        yield lambda text: bar.update(task, description=text, advance=1)


def _lines(total: int | None, completed: int) -> Say:
    """On stderr, so that what is piped is the result alone."""
    began_s = time.monotonic()
    done = completed

    def say(text: str) -> None:
        nonlocal done
        done += 1
        steps = "" if total is None else f"{done}/{total}, "
        print(f"[{steps}{time.monotonic() - began_s:.0f} s] {text}", file=sys.stderr, flush=True)

    return say
