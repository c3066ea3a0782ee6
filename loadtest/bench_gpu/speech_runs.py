"""Clips through a speech model in three ways to batch them: a process of its own."""

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from loadtest.bench.speech_checkpoint import write_extractor, write_vocabulary, write_wav2vec2_base
from loadtest.bench_gpu.speech_findings import SHORTEST_S, SpeechFindings, SpeechRuns, SpeechWay
from predictor.audio.windows import tokens_of
from predictor.core.model import ModelSettings, SpeechSpec, Task
from predictor.offline.clips import Window
from predictor.offline.profile import Measured, Profile
from predictor.runner.loading import load_runner


def measure(runs: SpeechRuns) -> SpeechFindings:
    with tempfile.TemporaryDirectory(prefix="headway-speech-") as name:
        folder = Path(name)
        if runs.tiny:
            _write_tiny(folder)
        else:
            write_wav2vec2_base(folder)
        runner = load_runner(
            ModelSettings(
                name="speech",
                task=Task.SPEECH_RECOGNITION,
                model_dir=str(folder),
                device=runs.device,
                dtype=runs.dtype,
            )
        )
    assert runner.spec.speech is not None
    windows = noise(runs.clips, runs.longest_s, runner.spec.speech)
    measured = Profile(
        runner,
        windows,
        max_batch_size=runs.max_batch_size,
        max_batch_tokens=runs.max_batch_tokens,
    ).run()
    return SpeechFindings(ways=[_way(each) for each in measured], audio_s=measured[0].audio_s)


def noise(count: int, longest_s: float, speech: SpeechSpec) -> Sequence[Window]:
    """Clips of uniform length; each is the beginning of the same noise."""
    source = random.Random("clips")
    longest = round(longest_s * speech.sampling_rate)
    sound = np.random.default_rng(1).standard_normal(longest, dtype=np.float32)
    lengths = [
        round(source.uniform(SHORTEST_S, longest_s) * speech.sampling_rate) for _ in range(count)
    ]
    return [Window(sound[:length], tokens_of(length, speech)) for length in lengths]


def _write_tiny(folder: Path) -> None:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=32,
        pad_token_id=0,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    write_vocabulary(folder)
    write_extractor(folder)


def _way(measured: Measured) -> SpeechWay:
    return SpeechWay(
        name=measured.name,
        batches=len(measured.shapes),
        speed=measured.speed,
        padding_share=measured.padding_share,
    )


if __name__ == "__main__":
    found = measure(msgspec.json.decode(sys.stdin.buffer.read(), type=SpeechRuns))
    print(msgspec.json.encode(found).decode(), flush=True)
