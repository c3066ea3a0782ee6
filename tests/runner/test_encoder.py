"""Answers are those of transformers itself, and do not depend on who shares the batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from predictor.core.model import Task
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted, Runner
from predictor.runner.encoder import EncoderRunner
from predictor.runner.networks import PaddedTokens, Tokens
from tests.runner.checkpoints import (
    HIDDEN,
    LABELS,
    POSITIONS,
    VOCABULARY,
    Family,
    add_sentence_files,
    write_classifier,
    write_encoder,
    write_masked_language_model,
    write_vocabulary,
)
from tests.runner.rows import load, run

TOLERANCE = 1e-5  # absolute, FP32 on the CPU; values are of the order of 1
MOST = POSITIONS - 2  # what RoBERTa leaves of its positions
TEXT_IDS = st.lists(st.integers(4, VOCABULARY - 1), min_size=1, max_size=MOST)
BATCHES = st.lists(TEXT_IDS, min_size=1, max_size=12)


@pytest.fixture(scope="module", params=list(Family))
def classifier_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier"), request.param)


@pytest.fixture(scope="module", params=list(Family))
def encoder_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), request.param)


@settings(max_examples=30, deadline=None)
@given(rows=BATCHES)
def test_batched_probabilities_equal_unbatched(
    classifier: Runner, rows: Sequence[Sequence[int]]
) -> None:
    together = run(classifier, rows)
    alone = np.concatenate([run(classifier, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=0, atol=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(rows=BATCHES)
def test_batched_embeddings_equal_unbatched(
    embedder: Runner, rows: Sequence[Sequence[int]]
) -> None:
    together = run(embedder, rows)
    alone = np.concatenate([run(embedder, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


def direct(auto: Any, folder: Path, row: Sequence[int]) -> Any:
    model = auto.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([row]))


ROW = (2, 9, 30, 11, 3)


def test_probabilities_are_those_of_the_checkpoint(
    classifier: Runner, classifier_folder: Path
) -> None:
    logits = direct(AutoModelForSequenceClassification, classifier_folder, ROW).logits
    np.testing.assert_allclose(
        run(classifier, [ROW]), logits.softmax(-1).numpy(), rtol=0, atol=TOLERANCE
    )
    assert classifier.spec.labels == tuple(LABELS.values())
    assert classifier.spec.result_datatype == "FP32"


def test_labels_that_do_not_exclude_each_other_get_independent_probabilities(
    tmp_path: Path,
) -> None:
    folder = write_classifier(tmp_path, Family.BERT, "multi_label_classification")
    logits = direct(AutoModelForSequenceClassification, folder, ROW).logits
    np.testing.assert_allclose(
        run(load(folder, Task.TEXT_CLASSIFICATION), [ROW]),
        logits.sigmoid().numpy(),
        rtol=0,
        atol=TOLERANCE,
    )


def test_embedding_is_the_mean_by_default(embedder: Runner, encoder_folder: Path) -> None:
    tokens = direct(AutoModel, encoder_folder, ROW).last_hidden_state
    np.testing.assert_allclose(run(embedder, [ROW]), tokens.mean(1).numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ["cls"]),
        ({"pooling_mode_max_tokens": True}, ["max"]),
        ({"pooling_mode": "mean"}, ["mean"]),
        ({"pooling_mode": ["cls", "mean"]}, ["cls", "mean"]),
    ],
)
def test_sentence_files_are_followed(
    tmp_path: Path, config: dict[str, object], modes: list[str]
) -> None:
    folder = add_sentence_files(write_encoder(tmp_path, Family.BERT), config, normalise=True)
    runner = load(folder, Task.TEXT_EMBEDDING)
    tokens = direct(AutoModel, folder, ROW).last_hidden_state[0]
    pooled = {"cls": tokens[0], "max": tokens.amax(0), "mean": tokens.mean(0)}
    expected = torch.cat([pooled[mode] for mode in modes])
    expected = expected / expected.norm()
    assert runner.spec.result_width == HIDDEN * len(modes)
    # The longer neighbour makes sure that padding takes no part.
    found = run(runner, [ROW, (*ROW, 7, 7, 7)])[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=TOLERANCE)


def test_a_checkpoint_without_a_pooler_embeds(tmp_path: Path) -> None:
    runner = load(write_masked_language_model(tmp_path), Task.TEXT_EMBEDDING)
    assert run(runner, [ROW]).shape == (1, HIDDEN)


@pytest.mark.parametrize(
    ("family", "most"),
    [
        (Family.BERT, POSITIONS),
        (Family.DISTILBERT, POSITIONS),
        (Family.ROBERTA, POSITIONS - 2),
        (Family.MODERNBERT, POSITIONS),
    ],
)
def test_the_longest_row_runs_and_one_more_is_refused(
    tmp_path: Path, family: Family, most: int
) -> None:
    runner = load(write_encoder(tmp_path, family), Task.TEXT_EMBEDDING)
    assert runner.spec.max_tokens == most
    assert np.isfinite(run(runner, [[5] * most])).all()
    with pytest.raises(ValueError, match=f"the most is {most}"):
        run(runner, [[5] * (most + 1)])


@pytest.mark.parametrize("bad", [-1, VOCABULARY])
def test_an_unknown_id_is_refused(embedder: Runner, bad: int) -> None:
    assert embedder.spec.vocabulary_size == VOCABULARY
    with pytest.raises(ValueError, match=f"not in 0 to {VOCABULARY - 1}"):
        run(embedder, [[5, bad]])


def test_the_exported_tokenizer_neither_pads_nor_cuts(embedder: Runner) -> None:
    tokenizer = Tokenizer.from_file(embedder.spec.tokenizer_file)
    assert len(tokenizer.encode("word1").ids) == 3
    assert len(tokenizer.encode("word1 " * 20).ids) == 22


def test_sentence_settings_limit_the_length_and_lower_the_text(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, Family.BERT)
    add_sentence_files(folder, {"pooling_mode": "mean"}, normalise=False, max_tokens=12)
    spec = load(folder, Task.TEXT_EMBEDDING).spec
    tokenizer = Tokenizer.from_file(spec.tokenizer_file)
    assert spec.max_tokens == 12
    assert tokenizer.encode("WORD5").ids == tokenizer.encode("word5").ids


def test_a_vocabulary_file_is_turned_into_a_tokenizer(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, Family.BERT)
    write_vocabulary(folder)
    spec = load(folder, Task.TEXT_CLASSIFICATION).spec
    assert Tokenizer.from_file(spec.tokenizer_file).encode("Word7 word8").ids == [2, 11, 12, 3]


class SmallDevice:
    """A network on a device with room for `most` rows."""

    width = 2

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, tokens: Tokens) -> torch.Tensor:
        assert isinstance(tokens, PaddedTokens)
        if len(tokens.ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.stack([tokens.ids.sum(1), tokens.mask.sum(1)], dim=1).float()


def test_exhausted_memory_is_told_and_the_next_batch_runs(embedder: Runner) -> None:
    runner = EncoderRunner(embedder.spec, SmallDevice(most=2), pad_id=0)
    rows = [np.array([5, 6], dtype=np.int64).tobytes()] * 3
    with pytest.raises(DeviceMemoryExhausted, match="3 rows of up to 2 tokens"):
        runner.run(rows, Packing.PADDED)
    halves = runner.run(rows[:2], Packing.PADDED)
    assert [np.frombuffer(half, np.float32).tolist() for half in halves] == [[11, 2], [11, 2]]
