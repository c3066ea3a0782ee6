"""CTC networks on padded audio, where padding changes nothing: a clip answers as it would alone.

Attention masks do that for attention, but not for layers that mix frames in other ways. Those
are replaced here by ones that know which frames are real: the norm over time of the first
convolution (wav2vec2-base, hubert-base), and the convolutions of adapters.

Each network takes clips and returns logits [b, frames, labels] on its device; those beyond a
clip's own frames mean nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from predictor.runner.frames import Counts, FrameChain

Clips = Sequence[NDArray[np.float32]]

_VARIANCE_FLOOR = 1e-7  # that of the extractors these models were trained with


class RealFrames:
    """Which frames of the batch in flight are real, after each stage of its chain."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # INT64 [stages, b]; None: there is no padding

    def expect(self, counts: Counts, device: torch.device) -> None:
        alike = bool((counts == counts[:, :1]).all())
        self._counts = None if alike else torch.from_numpy(counts).to(device)

    def mask(self, frames: Tensor, stage: int) -> Tensor | None:
        """For what came out of `stage`, [b, channels, T]: [b, 1, T], True where it is real."""
        if self._counts is None:
            return None
        return _real(self._counts[stage], frames.shape[-1])[:, None]


class MaskedGroupNorm(nn.Module):
    """A norm of each channel over time, by the statistics of real frames only."""

    def __init__(self, norm: nn.GroupNorm, real: RealFrames, stage: int) -> None:
        super().__init__()
        assert norm.num_groups == norm.num_channels
        self.norm = norm
        self._real_frames = real
        self._stage = stage

    def forward(self, frames: Tensor) -> Tensor:
        mask = self._real_frames.mask(frames, self._stage)
        if mask is None:
            plain: Tensor = self.norm(frames)
            return plain
        count = mask.sum(dim=-1, keepdim=True)
        mean = (frames * mask).sum(dim=-1, keepdim=True, dtype=torch.float32) / count
        centred = (frames - mean.to(frames.dtype)).mul_(mask)
        length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(length.square() / count + self.norm.eps).to(frames.dtype)
        return centred.mul_(scale * self.norm.weight[:, None]).add_(self.norm.bias[:, None])


class MaskedConvolution(nn.Module):
    """A convolution that reads zeros where frames are padding, as it does beyond the end."""

    def __init__(self, convolution: nn.Conv1d, real: RealFrames, stage: int) -> None:
        super().__init__()
        self.convolution = convolution
        self._real_frames = real
        self._stage = stage

    def forward(self, frames: Tensor) -> Tensor:
        mask = self._real_frames.mask(frames, self._stage)
        mixed: Tensor = self.convolution(frames if mask is None else frames * mask)
        return mixed


class WaveNetwork(nn.Module):
    """wav2vec2 and HuBERT, which hear samples; `normalise`: of zero mean and unit variance."""

    def __init__(self, model: PreTrainedModel, chain: FrameChain, *, normalise: bool) -> None:
        super().__init__()
        self.chain = chain
        self._model = model
        self._normalise = normalise
        self._real_frames = RealFrames()
        first: Any = model.base_model.get_submodule("feature_extractor.conv_layers.0")
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            first.layer_norm = MaskedGroupNorm(first.layer_norm, self._real_frames, 0)
        _mask_adapter(model, chain, self._real_frames)

    def forward(self, clips: Clips) -> Tensor:
        device = self._model.device
        lengths = _lengths(clips)
        padded = np.zeros((len(clips), int(lengths.max())), dtype=np.float32)
        for row, clip in zip(padded, clips, strict=True):
            row[: clip.size] = clip
        samples = torch.from_numpy(padded).to(device)
        mask = _mask(lengths, device)
        if self._normalise:
            samples = _standardise(samples, torch.ones_like(samples) if mask is None else mask)
        self._real_frames.expect(self.chain.counts(lengths), device)
        logits: Tensor = self._model(
            input_values=samples.to(self._model.dtype), attention_mask=mask
        ).logits
        return logits


class FeatureNetwork(nn.Module):
    """Wav2Vec2-BERT, which hears mel features; `extractor` makes them, on the CPU."""

    def __init__(self, model: PreTrainedModel, chain: FrameChain, extractor: Any) -> None:
        super().__init__()
        self.chain = chain
        self._model = model
        self._extractor = extractor
        self._real_frames = RealFrames()
        _mask_adapter(model, chain, self._real_frames)

    def forward(self, clips: Clips) -> Tensor:
        device = self._model.device
        made = self._extractor(
            list(clips), sampling_rate=self._extractor.sampling_rate, return_tensors="np"
        )
        counts = self.chain.counts(_lengths(clips))
        frames = counts[len(self.chain.encoder) - 1]
        # The extractor pads to an even number of its own frames; that is not heard.
        features = torch.from_numpy(made["input_features"][:, : frames.max()]).to(
            device, self._model.dtype
        )
        self._real_frames.expect(counts, device)
        logits: Tensor = self._model(
            input_features=features, attention_mask=_mask(frames, device)
        ).logits
        return logits


def _mask_adapter(model: PreTrainedModel, chain: FrameChain, real: RealFrames) -> None:
    adapter = getattr(model.base_model, "adapter", None)
    if adapter is None:
        return
    for index, layer in enumerate(adapter.layers):
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Conv1d):
                masked = MaskedConvolution(child, real, len(chain.encoder) - 1 + index)
                setattr(layer, name, masked)


def _lengths(clips: Clips) -> Counts:
    return np.array([clip.size for clip in clips], dtype=np.int64)


def _mask(lengths: Counts, device: torch.device) -> Tensor | None:
    """[b, longest], True where a place is real; None where all are: attention is faster so."""
    if (lengths == lengths[0]).all():
        return None
    return _real(torch.from_numpy(lengths).to(device), int(lengths.max()))


def _real(counts: Tensor, longest: int) -> Tensor:
    return torch.arange(longest, device=counts.device) < counts[:, None]


def _standardise(samples: Tensor, mask: Tensor) -> Tensor:
    """Each row of FP32 `samples` [b, longest] with mean 0 and variance 1 where it is real."""
    count = mask.sum(dim=1, keepdim=True)
    centred = (samples - samples.sum(dim=1, keepdim=True) / count) * mask
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / torch.sqrt(variance + _VARIANCE_FLOOR)
