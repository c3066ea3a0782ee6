"""What a server says when it serves: its address, and a line for a shell that it answers."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predictor.core.model import ModelSettings, Task
from predictor.first_steps import base_url, curl, greeting
from tests.edge.server_process import ROOT, STOP_S, command, free_ports
from tests.runner.checkpoints import Family, write_classifier, write_encoder
from tests.runner.decoders import edit_json, write_decoder
from tests.runner.speech_checkpoints import Kind, write_speech

SIMULATED = ("--task=simulated", "--simulated_fixed_ms=1")
RUN_LIMIT_S = 60

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")


def models(folder: Path) -> Mapping[str, ModelSettings]:
    """One for each body that is offered, small enough to be loaded together."""
    encoder = str(write_encoder(folder / "encoder", Family.BERT))
    classifier = str(write_classifier(folder / "classifier", Family.BERT))
    ears = str(write_speech(folder / "ears", Kind.GROUP_NORM))
    # What is drawn from random weights may end at once; what is likeliest does not.
    decoder = str(
        edit_json(
            write_decoder(folder / "decoder", "llama"),
            "generation_config.json",
            do_sample=False,
        )
    )
    made = [
        ModelSettings(name="topics", task=Task.TOPIC, model_dir=encoder),
        ModelSettings(name="embedding", task=Task.TEXT_EMBEDDING, model_dir=encoder),
        ModelSettings(name="sentiment", task=Task.TEXT_CLASSIFICATION, model_dir=classifier),
        ModelSettings(name="ears", task=Task.SPEECH_RECOGNITION, model_dir=ears),
        ModelSettings(name="words", task=Task.TEXT_GENERATION, model_dir=decoder),
        ModelSettings(name="sim", task=Task.SIMULATED, simulated_fixed_ms=1),
        ModelSettings(name="chat", task=Task.SIMULATED, simulated_output_tokens=3),
    ]
    return {each.name: each for each in made}


NAMES = {
    "topics": "outputs",
    "embedding": "outputs",
    "sentiment": "outputs",
    "ears": "outputs",
    "words": "text_output",
    "sim": "outputs",
    "chat": "choices",
}


@contextmanager
def said(*flags: str) -> Iterator[tuple[int, str]]:
    """The HTTP port of a server, and the line that it offers to try."""
    ports = free_ports()
    process = subprocess.Popen(
        command(*ports, "--host=127.0.0.1", *flags, module="predictor"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        log = ""
        for line in process.stderr:
            log += line
            if "try it: " in line:
                break
        else:
            raise AssertionError(log)
        yield ports[0], line.partition("try it: ")[2]
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


def answer(line: str) -> Any:
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace("curl -s", "curl -sS --fail-with-body")],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Mapping[str, ModelSettings]]]:
    folder = tmp_path_factory.mktemp("models")
    made = models(folder)
    plain = [
        {
            field: value
            for field, value in msgspec.to_builtins(each).items()
            if value != getattr(ModelSettings(name=""), field)
        }
        for each in made.values()
    ]
    (folder / "models.yaml").write_text(json.dumps(plain))
    with said(f"--models={folder / 'models.yaml'}") as (port, _):
        yield base_url("127.0.0.1", port), made


@needs_curl
@pytest.mark.parametrize("name", NAMES)
def test_what_is_offered_fits_the_task(
    name: str, served: tuple[str, Mapping[str, ModelSettings]]
) -> None:
    url, made = served
    assert {each.task for each in made.values()} == set(Task)
    assert answer(curl(made[name], url))[NAMES[name]]


@needs_curl
@pytest.mark.parametrize("processes", ["--workers=1", "--workers=2"])
def test_a_server_says_where_it_serves_and_what_to_try(processes: str) -> None:
    with said("--model_name=m", *SIMULATED, processes) as (port, line):
        assert f"http://127.0.0.1:{port}/v2/models/m/infer" in line
        assert answer(line)["outputs"][0]["data"] == [14]


def test_each_model_has_its_address() -> None:
    models = [ModelSettings(name="a"), ModelSettings(name="b", task=Task.SIMULATED)]
    url = base_url("0.0.0.0", 8080)
    assert greeting(models, url) == [
        "a is served at http://127.0.0.1:8080/v2/models/a",
        "b is served at http://127.0.0.1:8080/v2/models/b",
        f"try it: {curl(models[0], url)}",
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("::", "http://[::1]:1"),
        ("fe80::1", "http://[fe80::1]:1"),
        ("example.org", "http://example.org:1"),
    ],
)
def test_an_address_is_one_that_can_be_called(host: str, url: str) -> None:
    assert base_url(host, 1) == url
    assert base_url(host, 1, tls=True) == url.replace("http:", "https:")
