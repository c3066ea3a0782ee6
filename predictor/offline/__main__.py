"""`python -m predictor.offline profile`: what the way of batching is worth on your clips."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.engine.port import StepRunner
from predictor.offline.clips import find_clips, read_windows
from predictor.offline.profile import Measured, Profile
from predictor.offline.report import table_of, write_page
from predictor.runner.loading import load_runner

_EXIT_STARTUP = 2
_LIMITS = {"batch_size": (1, 4096), "max_batch_tokens": (1, 1 << 20)}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2 where a flag, a clip or the model is wrong."""
    try:
        options = _options(arguments)
        console = Console()
        measured = _profile(options, console)
        console.print(table_of(measured))
        write_page(options.output, measured, f"{options.clips} on {options.model_dir}")
        console.print(f"Charts: {options.output}", markup=False)
    except StartupError as error:
        Console(stderr=True).print(
            f"headway: {error.message}", markup=False, highlight=False, soft_wrap=True
        )
        return _EXIT_STARTUP
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m predictor.offline")
    commands = parser.add_subparsers(required=True)
    profile = commands.add_parser(
        "profile",
        help="compare ways of batching on a folder of clips",
        description="Run a CTC model over a folder of WAV or FLAC clips in three ways: batches in"
        " the order of names (FIFO), sorted by length, and split by dynamic programming (DP).",
    )
    profile.add_argument("--clips", type=Path, required=True, help="folder with WAV or FLAC files")
    profile.add_argument("--model_dir", required=True, help="folder with a CTC checkpoint")
    profile.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    profile.add_argument("--dtype", default="auto", help="auto (default), float32, bfloat16, …")
    profile.add_argument("--batch_size", type=int, default=64, help="most rows; default 64")
    profile.add_argument(
        "--max_batch_tokens",
        type=int,
        default=16_384,
        help="most tokens (frames of 20 ms), padding included; default 16384",
    )
    profile.add_argument("--output", type=Path, default=Path("profile.html"), help="page to write")
    options = parser.parse_args(arguments)
    for name, (least, most) in _LIMITS.items():
        if not least <= getattr(options, name) <= most:
            raise StartupError(
                f"--{name} is {getattr(options, name)}; it must be from {least} to {most}"
            )
    folder = options.output.absolute().parent  # looked at now: a run may take long
    if options.output.is_dir() or not os.access(folder, os.W_OK):
        raise StartupError(f"--output {options.output} cannot be written; give a path that can")
    return options


def _profile(options: argparse.Namespace, console: Console) -> list[Measured]:
    paths = find_clips(options.clips)
    runner = load_runner(
        ModelSettings(
            name="profile",
            task=Task.SPEECH_RECOGNITION,
            model_dir=options.model_dir,
            device=options.device,
            dtype=options.dtype,
        )
    )
    speech = runner.spec.speech
    assert speech is not None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        reading = progress.add_task("reading", total=len(paths))
        windows = read_windows(paths, speech, lambda: progress.advance(reading))
        running = progress.add_task("running", total=None)

        def ran(way: str) -> None:
            progress.update(running, advance=1, description=way)

        assert not isinstance(runner, StepRunner)  # its task is speech
        return Profile(
            runner,
            windows,
            max_batch_size=options.batch_size,
            max_batch_tokens=options.max_batch_tokens,
            ran=ran,
        ).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
