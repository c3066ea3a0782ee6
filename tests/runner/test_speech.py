"""A clip's answer is transformers' own for it alone, whoever shares the batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForCTC

from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.runner.loading import load_runner
from predictor.runner.speech import SpeechRunner
from tests.runner.speech_checkpoints import Kind, write_speech

Clip = NDArray[np.float32]

TOLERANCE = 1e-4  # absolute, FP32 on the CPU; logits are of the order of 5
SHORT = 400  # samples: what one frame of wav2vec2 hears
LENGTHS = st.lists(st.integers(2000, 40_000), min_size=2, max_size=5)


def load(folder: Path) -> SpeechRunner:
    runner = load_runner(
        ModelSettings(name="m", task=Task.SPEECH_RECOGNITION, model_dir=str(folder), device="cpu")
    )
    assert isinstance(runner, SpeechRunner)
    return runner


@pytest.fixture(scope="module", params=list(Kind), ids=list(Kind))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech"), request.param)


@pytest.fixture(scope="module")
def runner(folder: Path) -> SpeechRunner:
    return load(folder)


def clips_of(lengths: Sequence[int], seed: int = 0) -> list[Clip]:
    """Noise of random loudness and offset: what normalising would notice."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(rng.uniform(-0.2, 0.2), rng.uniform(0.01, 0.5), length).astype(np.float32)
        for length in lengths
    ]


def logits_of(runner: SpeechRunner, clips: Sequence[Clip]) -> list[Any]:
    """The logits of each clip's own frames."""
    counts = runner._network.chain.counts(np.array([clip.size for clip in clips]))[-1]
    with torch.inference_mode():
        logits = runner._network(clips).numpy()
    return [each[:count] for each, count in zip(logits, counts, strict=True)]


@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_batched_equals_alone(runner: SpeechRunner, lengths: Sequence[int], seed: int) -> None:
    clips = clips_of(lengths, seed)
    for batched, clip in zip(logits_of(runner, clips), clips, strict=True):
        (alone,) = logits_of(runner, [clip])
        np.testing.assert_allclose(batched, alone, rtol=0, atol=TOLERANCE)


def test_alone_equals_transformers(folder: Path, runner: SpeechRunner) -> None:
    (clip,) = clips_of([20_000])
    untyped: Any = AutoFeatureExtractor
    inputs = untyped.from_pretrained(folder)(clip, sampling_rate=16_000, return_tensors="pt")
    inputs.pop("attention_mask", None)
    if "input_features" in inputs:  # the extractor pads to an even number of its own frames
        real = int(runner._network.chain.counts(np.array([clip.size]))[1][0])
        inputs["input_features"] = inputs["input_features"][:, :real]
    with torch.no_grad():
        expected = AutoModelForCTC.from_pretrained(folder).eval()(**inputs).logits[0].numpy()
    (alone,) = logits_of(runner, [clip])
    np.testing.assert_allclose(alone, expected, rtol=0, atol=TOLERANCE)


def test_a_result_is_the_likeliest_label_of_each_frame(runner: SpeechRunner) -> None:
    clips = clips_of([9000, 30_000])
    results = runner.run([clip.tobytes() for clip in clips], Packing.PADDED)
    speech = runner.spec.speech
    assert speech is not None
    for result, logits, clip in zip(results, logits_of(runner, clips), clips, strict=True):
        ids = np.frombuffer(result, np.int32)
        assert abs(ids.size - clip.size / speech.samples_per_frame) <= 1.5
        margin = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1).ravel()
        sure = margin > TOLERANCE
        assert np.array_equal(ids[sure], logits.argmax(axis=1)[sure])
        assert len(set(ids.tolist())) > 3
