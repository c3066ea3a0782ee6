"""`python -m predictor.jobs submit|status|results|cancel`: jobs from a terminal or a script.

What was asked for goes to stdout, or to --output; progress and errors go to stderr.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from predictor.core.jobs import JobState, JobStatus
from predictor.jobs.client import BLOCK_BYTES, JobsClient, JobsFailed

EXIT_FAILED = 1
EXIT_USAGE = 2  # as argparse has it
EXIT_INCOMPLETE = 3  # lines were parked, or the job was cancelled
EXIT_INTERRUPTED = 130

_URL = "http://127.0.0.1:8080"
_CONSOLE = Console(stderr=True)


def main(arguments: Sequence[str]) -> int:
    """The exit code, as the README lists them."""
    options = _parser().parse_args(arguments)
    try:
        with JobsClient(options.url) as client:
            act: Callable[[JobsClient, argparse.Namespace], int] = options.act
            return act(client, options)
    except JobsFailed as failure:
        _say(str(failure))
        return EXIT_FAILED
    except BrokenPipeError:  # whoever read our stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        _say(f"{error.filename or 'stdin or stdout'}: {error.strerror or error}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _submit(client: JobsClient, options: argparse.Namespace) -> int:
    with _opened(options.file) as file, _bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task("sending", total=_size(file))

        def blocks() -> Iterator[bytes]:
            while block := file.read(BLOCK_BYTES):
                yield block
                bar.advance(task, len(block))

        submitted = client.submit(options.model, blocks(), options.tier)
    to_stdout = options.wait and options.output is None
    _say(f"job {submitted.id}: {submitted.total} lines")
    if not to_stdout:
        print(submitted.id, flush=True)
    return _end(client, submitted.id, options.output) if options.wait else 0


def _status(client: JobsClient, options: argparse.Namespace) -> int:
    status = _follow(client, options.job) if options.wait else client.status(options.job)
    shown = {**msgspec.structs.asdict(status), "progress": status.progress}
    print(msgspec.json.format(msgspec.json.encode(shown)).decode(), flush=True)
    return _exit_code(status) if options.wait else 0


def _results(client: JobsClient, options: argparse.Namespace) -> int:
    state = _fetch(client, options.job, options.output)
    if state not in (JobState.DONE, JobState.CANCELLED):
        _say(f"job {options.job} is {state}; these are the results so far")
    return 0


def _cancel(client: JobsClient, options: argparse.Namespace) -> int:
    status = client.cancel(options.job)
    _say(f"job {status.id} is {status.state}; {status.done} of {status.total} lines were answered")
    return 0


def _end(client: JobsClient, job_id: str, output: Path | None) -> int:
    """Follow the job, then fetch its results."""
    status = _follow(client, job_id)
    _fetch(client, job_id, output)
    if status.parked:
        _say(f"{status.parked} lines kept failing; their results hold the error")
    return _exit_code(status)


def _follow(client: JobsClient, job_id: str) -> JobStatus:
    columns = (MofNCompleteColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with _bar(*columns) as bar:
        task = bar.add_task("waiting")
        problem = None
        for status in client.follow(job_id):
            ended = status.done + status.parked
            parked = f", {status.parked} parked" if status.parked else ""
            description = f"{status.state}{parked}"
            if status.problem is not None and status.problem != problem:
                _say(f"job {job_id} stalls: {status.problem}")
            problem = status.problem
            bar.update(task, description=description, total=status.total, completed=ended)
    return status


def _fetch(client: JobsClient, job_id: str, output: Path | None) -> JobState:
    with client.results(job_id) as (state, blocks):
        if output is None:
            sys.stdout.buffer.writelines(blocks)
            sys.stdout.buffer.flush()
            return state
        # A name that is there stands for a whole file.
        partial = output.with_name(f"{output.name}.part")
        with partial.open("wb") as file:
            file.writelines(blocks)
        partial.replace(output)
    return state


def _exit_code(status: JobStatus) -> int:
    return 0 if status.state is JobState.DONE and not status.parked else EXIT_INCOMPLETE


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
    else:
        with Path(path).open("rb") as file:
            yield file


def _size(file: IO[bytes]) -> int | None:
    """None where nobody knows: a pipe."""
    return os.fstat(file.fileno()).st_size or None


def _bar(*columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        console=_CONSOLE,
    )


def _say(message: str) -> None:
    _CONSOLE.print(f"headway: {message}", markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    url = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    url.add_argument("--url", default=_URL, help=f"of the server; default {_URL}")
    # After the command it may stand, too, and does not undo what stood before.
    common = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    common.add_argument("--url", help=f"of the server; default {_URL}")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--output", type=Path, help="file for the results; default: stdout")
    job = argparse.ArgumentParser(add_help=False)
    job.add_argument("job", help="the id that submit printed")
    parser = argparse.ArgumentParser(
        prog="python -m predictor.jobs",
        parents=[url],
        description="Work that is to be done some time, and not lost.",
        epilog="Exit codes: 0 done, 1 refused or not reachable, 2 wrong usage, 3 the job ended with"
        " parked lines or was cancelled (with --wait).",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    submit = commands.add_parser(
        "submit", parents=[common, output], help="send a file, print the job's id"
    )
    submit.add_argument("model", help="the model's name, as in its URL")
    submit.add_argument(
        "file", nargs="?", default="-", help="NDJSON, one v2 infer request a line; -: stdin"
    )
    submit.add_argument("--tier", help="default: the least urgent one without an SLO")
    submit.add_argument("--wait", action="store_true", help="follow it, then give the results")
    submit.set_defaults(act=_submit)
    status = commands.add_parser("status", parents=[common, job], help="how far it is, as JSON")
    status.add_argument("--wait", action="store_true", help="follow it to its end first")
    status.set_defaults(act=_status)
    results = commands.add_parser(
        "results", parents=[common, output, job], help="what has ended so far, in input order"
    )
    results.set_defaults(act=_results)
    cancel = commands.add_parser("cancel", parents=[common, job], help="begin no further line")
    cancel.set_defaults(act=_cancel)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
