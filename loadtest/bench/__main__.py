"""`python -m loadtest.bench`: runs the benchmarks and writes their tables into BENCHMARKS.md."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtest.bench.errors import BenchError
from loadtest.bench.report import section_text, this_machine, write_section
from loadtest.bench.scenarios import capacity, edge, low_load, minilm, order, overload
from loadtest.bench.scenarios.context import FULL, QUICK, Context, Result

Scenario = Callable[[Context], Result]

SCENARIOS: Mapping[str, Scenario] = {
    "edge": edge.run,
    "low_load": low_load.run,
    "capacity": capacity.run,
    "overload": overload.run,
    "order": order.run,
    "minilm": minilm.run,
}


def main(arguments: Sequence[str], scenarios: Mapping[str, Scenario] = SCENARIOS) -> int:
    """Exit code 1 if a benchmark could not run; a bound that was missed is in its table."""
    options = _options(arguments, tuple(scenarios))
    command = shlex.join(["python", "-m", "loadtest.bench", *arguments])
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
        bar = progress.add_task("", total=len(options.only))
        context = Context(
            pace=QUICK if options.quick else FULL,
            say=lambda text: progress.update(bar, description=text),
        )
        for name in options.only:
            try:
                result = scenarios[name](context)
            except BenchError as error:
                failures += 1
                console.print(f"{name} could not run: {error}", style="red", markup=False)
            else:
                text = section_text(result.table(), command, datetime.now(UTC), this_machine())
                console.print(Markdown(text))
                write_section(options.output, name, text)
            progress.advance(bar)
    return 1 if failures else 0


def _options(arguments: Sequence[str], names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)

    def chosen(text: str) -> Sequence[str]:
        wanted = [name.strip() for name in text.split(",")]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no benchmark {', '.join(map(repr, unknown))}; use some of {','.join(names)}"
            )
        return wanted

    parser.add_argument(
        "--only",
        type=chosen,
        default=names,
        help=f"benchmarks to run, comma separated; of {','.join(names)} (default: all)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="short runs: is everything wired? not for figures"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("BENCHMARKS.md"),
        help="the file whose sections are replaced (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
