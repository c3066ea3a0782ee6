"""The README's snippets for generated text, as written, on a server with default parameters."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.edge.server_process import ROOT, Server, running

README = (ROOT / "README.md").read_text()
SECTION = README[README.index("### Generate text") : README.index("### Jobs")]
# A step takes longer than the whole SLO of models that do not generate.
DEVICE = ("--task", "simulated", "--simulated_fixed_ms", "250", "--simulated_output_tokens", "3")
RUN_LIMIT_S = 60
ADDRESS = "http://127.0.0.1:8080"


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


CURL = next(each for each in snippets("sh") if each.startswith("curl"))
PROGRAMS = [("bash", "-c", CURL), *((sys.executable, "-c", each) for each in snippets("python"))]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    flags = ("--host", "127.0.0.1", "--model_name", "chat", *DEVICE)
    with running(*flags, module="predictor") as started:
        yield started


@pytest.mark.parametrize("command", PROGRAMS, ids=["curl", "whole", "stream"])
def test_a_snippet_does_what_it_says(command: tuple[str, str, str], server: Server) -> None:
    *program, text = command
    assert ADDRESS in text
    done = subprocess.run(
        [*program, text.replace(ADDRESS, server.url)],
        capture_output=True,
        text=True,
        check=True,
        timeout=RUN_LIMIT_S,
    )
    assert re.search(r"completion_tokens\W+[1-9]|\b[1-9]\d* tokens", done.stdout), done.stdout
