"""Packed rows get the answers that they get alone, or the model is served padded."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Identity
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from predictor.core.model import Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.attention import RowLayout, row_by_row, use_kernel, varlen
from predictor.runner.networks import Classifier, Embedder, Network, PackedTokens, Tokens
from predictor.runner.packable import choose_layout
from predictor.runner.sentence import Pooling
from predictor.runner.weights import first_position
from tests.runner.checkpoints import (
    HIDDEN,
    LABELS,
    POSITIONS,
    REACH,
    VOCABULARY,
    Family,
    add_sentence_files,
    write_classifier,
    write_encoder,
    write_mpnet,
)
from tests.runner.rows import FIRST_ID, load, random_rows, run

TOLERANCE = 1e-5  # absolute, FP32 on the CPU; values are of the order of 1
MOST = POSITIONS - 2  # what RoBERTa leaves of its positions
assert MOST > 2 * REACH + 1, "a row must be longer than ModernBERT's local window"
LENGTHS = st.lists(st.integers(1, MOST), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**32 - 1)
MEAN_POOLED = "modernbert-mean"  # its classifiers come in two kinds
KINDS = [*Family, MEAN_POOLED]


@pytest.fixture(scope="module", params=KINDS)
def classifier_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    if request.param == MEAN_POOLED:
        return write_classifier(folder, Family.MODERNBERT, classifier_pooling="mean")
    return write_classifier(folder, request.param)


@pytest.fixture(scope="module", params=list(Family))
def encoder_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """With every pooling: a result is all vectors one behind the other."""
    folder = write_encoder(tmp_path_factory.mktemp("encoder"), request.param)
    return add_sentence_files(folder, {"pooling_mode": list(Pooling)}, normalise=False)


def check_packed_equals_alone(runner: Runner, lengths: Sequence[int], seed: int) -> None:
    assert runner.spec.packed
    rows = random_rows(np.random.default_rng(seed), lengths)
    together = run(runner, rows, Packing.PACKED)
    alone = np.concatenate([run(runner, [row], Packing.PADDED) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, SEEDS)
def test_packed_probabilities_are_those_alone(
    classifier: Runner, lengths: Sequence[int], seed: int
) -> None:
    check_packed_equals_alone(classifier, lengths, seed)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, SEEDS)
def test_packed_embeddings_are_those_alone(
    embedder: Runner, lengths: Sequence[int], seed: int
) -> None:
    assert embedder.spec.result_width == HIDDEN * len(Pooling)
    check_packed_equals_alone(embedder, lengths, seed)


def test_rows_differ_more_than_the_tolerance(classifier: Runner, embedder: Runner) -> None:
    """Else these tests would pass for rows that are mixed up."""
    rows = random_rows(np.random.default_rng(0), [MOST] * 8)
    for runner in (classifier, embedder):
        assert run(runner, rows, Packing.PACKED).std(axis=0).max() > 100 * TOLERANCE


def classifier_of(folder: Path) -> Classifier:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder)
    return Classifier(model, len(LABELS), independent=False, first_position=first_position(model))


def embedder_of(folder: Path) -> Embedder:
    model: PreTrainedModel = AutoModel.from_pretrained(folder)
    first = first_position(model)
    return Embedder(model, list(Pooling), Identity(), HIDDEN * len(Pooling), first)


@pytest.fixture(scope="module")
def bare_classifier(classifier_folder: Path) -> Classifier:
    return classifier_of(classifier_folder)


@pytest.fixture(scope="module")
def bare_embedder(encoder_folder: Path) -> Embedder:
    return embedder_of(encoder_folder)


@torch.inference_mode()
def answers(network: Network, ids: Tensor, lengths: Sequence[int]) -> Tensor:
    starts = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    use_kernel(ids.device, row_by_row)
    return network(PackedTokens(ids, RowLayout(starts, MOST)))


def check_fill(network: Network, lengths: Sequence[int], unused: int, seed: int) -> None:
    real = [index for index, length in enumerate(lengths) if length]
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_ID, VOCABULARY, (sum(lengths) + unused,), generator=random)
    filled = answers(network, ids, lengths)
    assert filled.shape == (len(lengths), network.width)
    plain = answers(network, ids[: sum(lengths)], [lengths[index] for index in real])
    torch.testing.assert_close(filled[real], plain, rtol=0, atol=TOLERANCE)


FILLED = st.lists(st.integers(0, MOST), min_size=1, max_size=12).filter(any)
UNUSED = st.integers(0, 10 * POSITIONS)


@settings(max_examples=25, deadline=None)
@given(FILLED, UNUSED, SEEDS)
def test_unused_tokens_and_rows_change_no_probability(
    bare_classifier: Classifier, lengths: Sequence[int], unused: int, seed: int
) -> None:
    check_fill(bare_classifier, lengths, unused, seed)


@settings(max_examples=25, deadline=None)
@given(FILLED, UNUSED, SEEDS)
def test_unused_tokens_and_rows_change_no_embedding(
    bare_embedder: Embedder, lengths: Sequence[int], unused: int, seed: int
) -> None:
    check_fill(bare_embedder, lengths, unused, seed)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "headway.runner"):
        yield caplog


def test_a_family_that_cannot_pack_is_served_padded(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    runner = load(write_mpnet(tmp_path), Task.TEXT_EMBEDDING)
    assert not runner.spec.packed
    assert "MPNetModel runs padded: mpnet has no packed form here" in log.messages
    rows = random_rows(np.random.default_rng(0), [3, 20, 7])
    together = run(runner, rows, Packing.PACKED)  # which it then does not do
    alone = np.concatenate([run(runner, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


class Leaking:
    """Lets a packed row see its neighbours: adds `share` of the batch's sum to each."""

    def __init__(self, network: Network, share: float) -> None:
        self.width = network.width
        self._network = network
        self._share = share

    def __call__(self, tokens: Tokens) -> Tensor:
        out = self._network(tokens)
        return out + self._share * out.sum() if isinstance(tokens, PackedTokens) else out


class Failing(Leaking):
    """As a version of transformers would that knows no attention interface."""

    def __call__(self, tokens: Tokens) -> Tensor:
        if isinstance(tokens, PackedTokens):
            raise TypeError("forward() got an unexpected keyword argument 'layout'")
        return super().__call__(tokens)


@pytest.mark.parametrize(
    ("wrapped", "expected", "said"),
    [
        (lambda network: Leaking(network, 0.0), True, ""),
        (lambda network: Leaking(network, 0.1), False, "packed answers differ by"),
        (lambda network: Leaking(network, float("nan")), False, "packed answers differ by"),
        (lambda network: Failing(network, 0.0), False, "unexpected keyword argument 'layout'"),
    ],
)
def test_a_trial_decides(
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
    wrapped: Callable[[Network], Network],
    expected: bool,
    said: str,
) -> None:
    folder = write_classifier(tmp_path, Family.BERT)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    network = wrapped(
        Classifier(model, len(LABELS), independent=False),
    )
    _, packed = choose_layout(network, model, "m", POSITIONS, pad_id=0)
    assert packed is expected
    warnings = [each.message for each in log.records if each.levelno == logging.WARNING]
    assert len(warnings) == (0 if expected else 1)
    assert all("runs padded" in each and said in each for each in warnings)


def test_a_model_on_a_gpu_leaves_those_on_the_cpu_their_kernel(tmp_path: Path) -> None:
    runner = load(write_classifier(tmp_path, Family.BERT), Task.TEXT_CLASSIFICATION)
    use_kernel(torch.device("cuda"), varlen)  # what loading one there does
    check_packed_equals_alone(runner, [3, 20, 7], seed=0)
