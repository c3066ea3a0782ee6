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
from predictor.engine.port import DeviceMemoryExhausted
from predictor.engine.warmup import warm_up
from predictor.runner.loading import load_runner
from predictor.runner.speech import SpeechRunner
from tests.runner.speech_checkpoints import Kind, write_speech

Clip = NDArray[np.float32]

TOLERANCE = 2e-4  # absolute, FP32 on the CPU; logits reach 25
LENGTHS = st.lists(st.integers(2000, 40_000), min_size=2, max_size=5)


def load(folder: Path, device: str = "cpu", dtype: str = "auto") -> SpeechRunner:
    runner = load_runner(
        ModelSettings(
            name="m",
            task=Task.SPEECH_RECOGNITION,
            model_dir=str(folder),
            device=device,
            dtype=dtype,
        )
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
        logits = runner._network(clips).float().cpu().numpy()
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


def test_rows_that_the_model_cannot_take_are_refused(runner: SpeechRunner) -> None:
    speech = runner.spec.speech
    assert speech is not None
    shortest = bytes(4 * speech.min_samples)
    assert len(runner.run([shortest], Packing.PADDED)[0]) == 4  # one frame
    assert speech.window_samples == 30 * speech.sampling_rate
    for wrong in (b"", shortest[4:], bytes(4 * speech.window_samples + 4), shortest[1:]):
        with pytest.raises(ValueError, match="a row"):
            runner.run([wrong], Packing.PADDED)


class SmallDevice(torch.nn.Module):
    """A network on a device without room."""

    def forward(self, clips: Sequence[Clip]) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_exhausted_memory_is_told(runner: SpeechRunner) -> None:
    small = SpeechRunner(runner.spec, SmallDevice())  # type: ignore[arg-type]
    with pytest.raises(DeviceMemoryExhausted, match=r"3 rows padded to 2\.0 s"):
        small.run([bytes(4 * 32_000), bytes(4 * 16_000), bytes(8000)], Packing.PADDED)


def test_warm_up_teaches_the_service_time_model(runner: SpeechRunner) -> None:
    assert warm_up(runner, Packing.PADDED).batches > 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu(folder: Path, runner: SpeechRunner) -> None:
    gpu = load(folder, "cuda", "float32")
    clips = clips_of([9000, 30_000, 12_345])
    for here, there in zip(logits_of(runner, clips), logits_of(gpu, clips), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=0.05)  # TF32 may be on


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_in_16_bits_hears_much_the_same(folder: Path, runner: SpeechRunner) -> None:
    gpu = load(folder, "cuda", "auto")
    clips = clips_of([9000, 30_000, 12_345])
    rows = [clip.tobytes() for clip in clips]
    here, there = (
        np.frombuffer(b"".join(each.run(rows, Packing.PADDED)), np.int32) for each in (runner, gpu)
    )
    assert (here == there).mean() > 0.9
