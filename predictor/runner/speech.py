"""A runner for CTC speech models: padded clips in, the most likely label of each frame out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted
from predictor.runner.speech_networks import FeatureNetwork, WaveNetwork

_SAMPLE_BYTES = 4  # FP32


class SpeechRunner:
    """Runs a network of speech_networks.py, which is on `spec.device` already.

    A row is FP32 samples at the model's rate, its result INT32 ids, one for each frame.
    """

    def __init__(self, spec: ModelSpec, network: WaveNetwork | FeatureNetwork) -> None:
        assert spec.speech is not None
        self.spec = spec
        self._speech = spec.speech
        self._network = network

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        """Results in order. Always pads, whatever `packing` says, as `spec.packed` is false.

        Raises:
            ValueError: a row is cut short, or shorter or longer than the model takes.
            DeviceMemoryExhausted: the batch did not fit; what it had taken is free again.
        """
        clips = [self._clip(row) for row in rows]
        try:
            with torch.inference_mode():
                ids = self._network(clips).argmax(dim=-1).to(torch.int32).cpu().numpy()
        except torch.OutOfMemoryError:
            pass  # handled below: until here the traceback keeps the batch's tensors alive
        else:
            counts = self._network.chain.counts(np.array([clip.size for clip in clips]))[-1]
            return [row[:count].tobytes() for row, count in zip(ids, counts, strict=True)]
        torch.cuda.empty_cache()
        longest_s = max(clip.size for clip in clips) / self._speech.sampling_rate
        raise DeviceMemoryExhausted(
            f"no memory on {self.spec.device} for {len(rows)} rows padded to {longest_s:.1f} s"
        )

    def _clip(self, row: bytes) -> NDArray[np.float32]:
        speech = self._speech
        if len(row) % _SAMPLE_BYTES:
            raise ValueError(f"a row is not a whole number of {_SAMPLE_BYTES}-byte samples")
        clip = np.frombuffer(row, np.float32)
        if not speech.min_samples <= clip.size <= speech.window_samples:
            raise ValueError(
                f"a row has {clip.size} samples; it must have {speech.min_samples} to"
                f" {speech.window_samples}"
            )
        return clip
