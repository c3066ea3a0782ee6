"""How many frames a speech encoder makes of so many samples: a chain of convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stage:
    """A convolution along time. `padding` is what it adds at each end."""

    kernel: int
    stride: int
    padding: int = 0

    def outputs(self, inputs: Counts) -> Counts:
        return np.maximum(0, (inputs + 2 * self.padding - self.kernel) // self.stride + 1)

    def least_inputs(self, outputs: int) -> int:
        return max(1, (outputs - 1) * self.stride + self.kernel - 2 * self.padding)


@dataclass(frozen=True, slots=True)
class FrameChain:
    """`encoder` makes the frames that the transformer sees, `adapter` thins them out after it."""

    encoder: Sequence[Stage]
    adapter: Sequence[Stage] = ()

    @property
    def stages(self) -> Sequence[Stage]:
        return (*self.encoder, *self.adapter)

    def counts(self, samples: Counts) -> Counts:
        """Real frames [stages, b] after each stage, for rows of `samples` [b]."""
        counts = []
        for stage in self.stages:
            samples = stage.outputs(samples)
            counts.append(samples)
        return np.stack(counts)

    @property
    def samples_per_token(self) -> int:
        return prod(stage.stride for stage in self.encoder)

    @property
    def samples_per_frame(self) -> int:
        return prod(stage.stride for stage in self.stages)

    @property
    def min_samples(self) -> int:
        """Fewest samples that give a frame."""
        least = 1
        for stage in reversed(self.stages):
            least = stage.least_inputs(least)
        return least
