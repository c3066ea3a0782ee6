"""Every snippet of the README: most are run as written, in the page's order, the others are named.

What differs from a reader's machine is put in: ports, checkpoints small enough to be made here,
and timeouts, because a machine that runs tests is busy.
"""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from loadtest.options import parsed
from tests.edge.server_process import ROOT, START_S, STOP_S, Server, free_ports, running
from tests.jobs.redis_process import RedisProcess
from tests.runner.checkpoints import Family, write_classifier, write_encoder
from tests.runner.speech_checkpoints import Kind, write_speech
from tests.server.process import document, serving

README = (ROOT / "README.md").read_text()
RUN_LIMIT_S = 120
HTTP, GRPC = "127.0.0.1:8080", "127.0.0.1:8081"
EARS = "/mnt/models/ears", "models/ears"
CLONED = ("Makefile", "predictor", "loadtest", "dashboard", "manifests", "pyproject.toml")
# A step takes longer than the whole SLO of models that do not generate.
CHAT = ("--task", "simulated", "--simulated_fixed_ms", "250", "--simulated_output_tokens", "3")
# Why a snippet of commands is not run here, by its first line. All others are.
NOT_RUN: Mapping[str, str] = {
    "make up     #": "installs and stays; tests/local and tests/browser start all of it",
    "make up TASK=text-generation": "the same",
    "make load  ": "tests/loadtest/k6 runs k6, for less than minutes",
    ".venv/bin/python -m loadtest capacity": "takes minutes; its parts are tried below",
    "kubectl create namespace": "needs a cluster",
    "docker build": "needs docker; tests/test_images.py reads the Dockerfile",
    "HEADWAY_EDIT=yes": "stays; tests/dashboard/test_wiring.py starts it",
}


class Snippet(NamedTuple):
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]

    @property
    def serves(self) -> bool:
        """It starts a server, and stays."""
        return self.first.startswith(".venv/bin/python -m predictor ")


SNIPPETS = [Snippet(*found) for found in re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)]


def _why_not(snippet: Snippet) -> str | None:
    found = (why for start, why in NOT_RUN.items() if snippet.text.startswith(start))
    return next(found, None)


def _section(title: str, until: str) -> Sequence[Snippet]:
    part = README[README.index(f"# {title}\n") : README.index(f"# {until}\n")]
    return [each for each in SNIPPETS if each.text in part and _why_not(each) is None]


CALL = _section("Call it", "Generate text")
CHATS = _section("Generate text", "Jobs")
JOBS = _section("Jobs", "Tasks")
OWN = _section("Serve my own model", "Text generation: checkpoints")
SPEECH = _section("Speech", "Statuses")
OFFLINE = _section("Without a server", "On a GPU")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone in which `make env` has run: what snippets write stays out of this one."""
    folder = tmp_path_factory.mktemp("clone")
    for name in CLONED:
        (folder / name).symlink_to(ROOT / name)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def models(clone: Path) -> None:
    """Checkpoints, in the folders that the README names."""
    write_classifier(clone / "models" / "sentiment", Family.BERT)
    write_encoder(clone / "models" / "topics", Family.BERT)
    write_speech(clone / "models" / "ears", Kind.GROUP_NORM)


@pytest.fixture(scope="module")
def topics(clone: Path, models: None) -> Iterator[Server]:
    redis = RedisProcess(clone).start()
    parameters = clone / "parameters.yaml"
    parameters.write_text(document())
    model = ("--model_name", "topics", "--model_dir", str(clone / "models" / "topics"))
    try:
        with serving(parameters, *model, "--redis_url", redis.url) as server:
            yield server
    finally:
        redis.stop()


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    flags = ("--host", "127.0.0.1", "--model_name", "chat", *CHAT)
    with running(*flags, module="predictor") as started:
        yield started


def run(snippet: Snippet, clone: Path, server: Server | None = None) -> str:
    """What it prints. It must end well, within a time."""
    text = snippet.text.replace("150_000", "60_000_000")
    if server is not None:
        text = text.replace(HTTP, f"127.0.0.1:{server.http_port}").replace(
            GRPC, f"127.0.0.1:{server.grpc_port}"
        )
        for command in ("predictor.jobs", "loadtest"):
            text = text.replace(f"-m {command} ", f"-m {command} --url {server.url} ")
    text = text.replace(*EARS)
    program = ["/bin/sh", "-e", "-c"] if snippet.language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(
        [*program, text],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_LIMIT_S,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ids(snippets: Sequence[Snippet]) -> Sequence[str]:
    return [each.first[:40] for each in snippets]


@pytest.mark.parametrize("snippet", CALL, ids=ids(CALL))
def test_a_call_is_answered(snippet: Snippet, clone: Path, topics: Server) -> None:
    said = run(snippet, clone, topics)
    assert "label" in said or "b'" in said, said


@pytest.mark.parametrize("snippet", CHATS, ids=ids(CHATS))
def test_a_text_is_generated(snippet: Snippet, clone: Path, chat: Server) -> None:
    assert HTTP in snippet.text
    said = run(snippet, clone, chat)
    assert re.search(r"completion_tokens\W+[1-9]|\b[1-9]\d* tokens", said), said


@pytest.mark.parametrize("snippet", JOBS, ids=ids(JOBS))
def test_a_job_is_submitted_followed_read_and_cancelled(
    snippet: Snippet, clone: Path, topics: Server
) -> None:
    said = run(snippet, clone, topics)
    assert '"state": "done"' in said
    answers = (clone / "answers.ndjson").read_text().splitlines()
    assert len(answers) == 2
    assert all('"label"' in line for line in answers)


@contextmanager
def started(snippet: Snippet, clone: Path) -> Iterator[Server]:
    """By the README's own command, with ports and an SLO of ours."""
    http_port, grpc_port = free_ports()
    (clone / "patient.yaml").write_text(document())
    flags = f"--parameters patient.yaml --http_port {http_port} --grpc_port {grpc_port}"
    text = snippet.text.strip().replace(*EARS)
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {text} {flags}"], cwd=clone, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    server = Server(process, process.stderr, http_port, grpc_port)
    try:
        server.wait_for_line("try it: ")
        yield server
        assert server.stop(signal.SIGTERM) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_S)
        process.stderr.close()


@pytest.mark.parametrize(
    ("section", "has"), [(OWN, '"label"'), (SPEECH, '"text"')], ids=["own model", "speech"]
)
def test_a_model_of_ones_own_is_served_and_called(
    section: Sequence[Snippet], has: str, clone: Path, models: None
) -> None:
    (serves,) = [each for each in section if each.serves]
    with started(serves, clone) as server:
        said = [run(each, clone, server) for each in section if not each.serves]
    assert any(has in each for each in said)


@pytest.mark.parametrize("snippet", OFFLINE, ids=ids(OFFLINE))
def test_batches_are_made_without_a_server(snippet: Snippet, clone: Path, models: None) -> None:
    assert run(snippet, clone)


def test_a_trace_is_replayed(clone: Path, topics: Server) -> None:
    (snippet,) = [each for each in SNIPPETS if "loadtest replay" in each.text]
    lines = [line for line in snippet.text.splitlines() if "yesterday.csv" in line]
    assert len(lines) == 2
    assert "Replay" in run(Snippet("sh", "\n".join(lines).replace("200", "9000")), clone, topics)


def test_every_snippet_is_run_or_named() -> None:
    tried = [*CALL, *CHATS, *JOBS, *OWN, *SPEECH, *OFFLINE]
    left = [each for each in SNIPPETS if each not in tried and _why_not(each) is None]
    assert left == []
    for start in NOT_RUN:
        assert any(each.text.startswith(start) for each in SNIPPETS), start


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_commands_that_are_not_run_are_well_formed(clone: Path) -> None:
    commands = [
        line.partition(" #")[0]
        for each in SNIPPETS
        if each.language == "sh" and _why_not(each)
        for line in each.text.replace("\\\n", " ").splitlines()
    ]
    make = [each for each in commands if each.startswith("make ")]
    assert len(make) > 8
    for command in make:
        done = subprocess.run(
            ["/usr/bin/env", "make", "--dry-run", *shlex.split(command)[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )
        assert done.returncode == 0, done.stderr
    loads = [shlex.split(each)[3:] for each in commands if " -m loadtest " in each]
    assert loads
    assert all(parsed(words).command == words[0] for words in loads)


def test_python_has_one_name() -> None:
    """Where a shell is to run it; in a sentence it may be named shortly."""
    wrong = re.compile(r"(?<![\w/.])(python3?|pip|k6) -?\w")
    for snippet in SNIPPETS:
        if snippet.language == "sh":
            for line in snippet.text.splitlines():
                assert not wrong.search(line.partition("#")[0]), line
