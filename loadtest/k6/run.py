"""Runs a k6 script, within a time, and keeps what it measured in a folder of its own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Machine, this_machine
from loadtest.k6.result import K6Result, read_summary
from loadtest.k6.server import check_ready, parameter_generation
from predictor.core.shown import without_secrets

PROGRAM = "k6"
SCRIPTS = Path(__file__).resolve().parents[1]
# As in lib/settings.js.
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_MODEL = "topics"
RESULTS = Path("results")  # where runs are kept, unless told otherwise
SUMMARY = "summary.json"
TEXT = "k6.txt"
LOG = "k6.log"
ENDS_WITHIN_S = 20.0  # once it was asked to; it writes a summary then
LOG_TAIL_CHARS = 400
# Exit codes of k6: all well, and thresholds missed.
_HAS_SUMMARY = (0, 99)


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was, beside its figures: run.json."""

    script: str
    settings: Mapping[str, str]
    started: datetime
    generation: int | None  # of the parameters in force; None where the server does not say
    revision: str | None  # of the repository, `-dirty` where files were changed; None: no git
    machine: Machine


def find_k6() -> str:
    """The path of k6: the one on PATH, else that of the package beside the interpreter.

    Raises:
        BenchError: there is none.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(beside))
    if found is None:
        raise BenchError(
            "k6 is missing; run `make env`, which installs it into .venv,"
            " or put k6 1.0 or later on PATH"
        )
    return found


def run_k6(
    script: str,
    settings: Mapping[str, str],
    *,
    results: Path,
    limit_s: float,
    prometheus_url: str | None = None,
) -> K6Result:
    """Run loadtest/<script>.js with `settings` and read what it measured.

    Thresholds that are missed are part of the result, and so are dropped iterations. The
    settings are those of lib/settings.js and nothing else is taken from the environment.
    `prometheus_url` is that of a Prometheus which takes k6's series by remote write.

    Raises:
        BenchError: one sentence. k6 or the script is missing, the server does not answer or
            dies, k6 fails or takes more than `limit_s`.
    """
    program = find_k6()
    path = SCRIPTS / f"{script}.js"
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in SCRIPTS.glob("*.js")))
        raise BenchError(f"there is no script {script!r}; use one of {names}")
    url = settings.get("URL", DEFAULT_URL).rstrip("/")
    model = settings.get("MODEL", DEFAULT_MODEL)
    check_ready(url, model)
    folder = _new_folder(results, script)
    record = RunRecord(
        script=script,
        settings={name: without_secrets(value) for name, value in settings.items()},
        started=datetime.now(UTC),
        generation=parameter_generation(url),
        revision=_revision(),
        machine=this_machine(),
    )
    (folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    given = {**settings, "SUMMARY": str((folder / SUMMARY).resolve())}
    options = [option for name, value in given.items() for option in ("--env", f"{name}={value}")]
    environment = dict(os.environ)
    if prometheus_url is not None:
        options += ["--out", "experimental-prometheus-rw", "--tag", f"testid={folder.name}"]
        environment["K6_PROMETHEUS_RW_SERVER_URL"] = f"{prometheus_url.rstrip('/')}/api/v1/write"
        environment.setdefault("K6_PROMETHEUS_RW_TREND_STATS", "p(50),p(95),p(99),avg,max")
    command = [program, "run", "--quiet", "--no-usage-report", "--address", ""]
    command += ["--include-system-env-vars=false", *options, str(path)]
    try:
        code = _run(command, environment, folder, limit_s)
    finally:
        _hide_secrets(folder)
    if code not in _HAS_SUMMARY:
        raise BenchError(f"k6 failed with code {code}: {_complaint(folder / LOG)}")
    result = read_summary(folder / SUMMARY)
    _check_alive(result, url, model)
    return result


def _hide_secrets(folder: Path) -> None:
    """In what k6 wrote: where it sent requests and series to may name a password."""
    for path in (folder / TEXT, folder / LOG, folder / SUMMARY):
        if path.is_file():
            text = path.read_bytes().decode(errors="surrogateescape")
            hidden = without_secrets(text)
            if hidden != text:
                path.write_bytes(hidden.encode(errors="surrogateescape"))


def as_settings(pairs: Sequence[str]) -> Mapping[str, str]:
    """Raises BenchError for what is not NAME=VALUE."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise BenchError(f"{wrong[0]!r} is no setting; write NAME=VALUE, as RATE=50")
    return dict(pair.split("=", 1) for pair in pairs)


def _new_folder(results: Path, script: str) -> Path:
    """Runs of the same second get numbers."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{script}"
    for number in range(1, 1000):
        folder = results / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BenchError(
                f"{folder} cannot be made: {error.strerror}; name another folder for results"
            ) from None
        return folder
    raise BenchError(f"{results / name} and its like are taken; try again in a second")


def _run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, limit_s: float
) -> int:
    """The exit code of k6, whose output goes to `folder`. However this ends, k6 has ended."""
    with (folder / TEXT).open("wb") as text, (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=text,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches this process, which asks k6 to end, once
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise BenchError(
                f"k6 did not end within {limit_s:g} s; shorten DURATION or allow it more time"
            ) from None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def _complaint(log: Path) -> str:
    """What k6 said last as an error, without its decoration."""
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if "level=error" in line] or lines[-1:]
    text = errors[-1] if errors else f"it said nothing; see {log}"
    message = re.search(r'msg="((?:[^"\\]|\\.)*)"', text)
    first = (message.group(1) if message else text).split("\\n")[0]
    return first.removeprefix("Error: ").replace('\\"', '"')[:LOG_TAIL_CHARS]


def _check_alive(result: K6Result, url: str, model: str) -> None:
    lost = sum(tier.failures.get("transport", 0) for tier in result.tiers.values())
    if not lost:
        return
    try:
        check_ready(url, model)
    except BenchError as error:
        raise BenchError(
            f"the server stopped answering during the run, {lost} requests got no answer: {error}"
        ) from None


def _revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return described.stdout.strip() or None
