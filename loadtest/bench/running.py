"""Runs benchmarks one after the other: progress for who waits, a section for each result."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Machine, section_text, write_section
from loadtest.bench.scenarios.context import Result

PATH_FLAGS = ("--output", "--rival_sites")

Say = Callable[[str], None]  # tells the person who waits what is being measured
_Context = TypeVar("_Context")


def run_scenarios(
    scenarios: Mapping[str, Callable[[_Context], Result]],
    make_context: Callable[[Say], _Context],
    *,
    command: Sequence[str],
    machine: Machine,
    output: Path,
) -> int:
    """How many could not run. Each result replaces its section of `output` at once."""
    console = Console()
    progress = Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
    )
    failures = 0
    with progress:
        bar = progress.add_task("", total=len(scenarios))

        def say(text: str) -> None:
            progress.update(bar, description=text)
            if not console.is_terminal:  # a log has no bar
                console.print(text, style="dim", markup=False, highlight=False)

        context = make_context(say)
        for name, scenario in scenarios.items():
            try:
                result = scenario(context)
            except BenchError as error:
                failures += 1
                console.print(f"{name} could not run: {error}", style="red", markup=False)
            else:
                text = section_text(result.table(), shlex.join(command), datetime.now(UTC), machine)
                console.print(Markdown(text))
                write_section(output, name, text)
            progress.advance(bar)
    return failures


def command_told(module: str, arguments: Sequence[str]) -> Sequence[str]:
    """The command that measures the same elsewhere: paths of this machine are left out."""
    kept: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument in PATH_FLAGS:
            next(remaining, None)
        elif not argument.startswith(tuple(f"{flag}=" for flag in PATH_FLAGS)):
            kept.append(argument)
    return ["python", "-m", module, *kept]


def names_among(names: Sequence[str]) -> Callable[[str], Sequence[str]]:
    """An argparse type: comma-separated names, each one of `names`."""

    def chosen(text: str) -> Sequence[str]:
        wanted = [name.strip() for name in text.split(",")]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no benchmark {', '.join(map(repr, unknown))}; use some of {','.join(names)}"
            )
        return wanted

    return chosen


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Where the sections go."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("BENCHMARKS.md"),
        help="the file whose sections are replaced (default: %(default)s)",
    )
