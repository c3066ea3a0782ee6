"""The default model on headlines, with the weights that come as a package."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.loading import load_runner
from predictor.runner.topics import DEFAULT_LABELS

HEADLINES = Path(__file__).parents[1] / "data" / "headlines.jsonl"


class Headline(msgspec.Struct):
    text: str
    label: str


def best_labels(runner: Runner, texts: list[str]) -> list[str]:
    tokenizer = Tokenizer.from_file(runner.spec.tokenizer_file)
    rows = [np.array(tokenizer.encode(text).ids, dtype=np.int64).tobytes() for text in texts]
    results = runner.run(rows, Packing.PADDED)
    probabilities = np.stack([np.frombuffer(result, np.float32) for result in results])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-5)
    return [runner.spec.labels[index] for index in probabilities.argmax(axis=1)]


@pytest.fixture(scope="module")
def default_model() -> Runner:
    return load_runner(ModelSettings(name="topics", device="cpu"))


def test_at_least_four_in_five_headlines_are_right(default_model: Runner) -> None:
    headlines = msgspec.json.Decoder(Headline).decode_lines(HEADLINES.read_bytes())
    assert len(headlines) == 40
    assert {headline.label for headline in headlines} == set(DEFAULT_LABELS)
    found = best_labels(default_model, [headline.text for headline in headlines])
    right = [label == line.label for label, line in zip(found, headlines, strict=True)]
    assert sum(right) >= 32


def test_the_default_model_describes_itself(default_model: Runner) -> None:
    spec = default_model.spec
    assert spec.task is Task.TOPIC
    assert spec.labels == DEFAULT_LABELS
    assert (spec.max_tokens, spec.vocabulary_size) == (256, 30522)
    assert spec.result_width == len(DEFAULT_LABELS)


def test_labels_can_be_chosen() -> None:
    labels = ("cooking", "travel", "gardening")
    runner = load_runner(ModelSettings(name="hobbies", labels=labels, device="cpu"))
    texts = [
        "Simmer the lentils until soft, then stir in the garlic",
        "The night train to the coast leaves from platform two",
        "Prune the roses before the first buds open",
    ]
    assert best_labels(runner, texts) == list(labels)
