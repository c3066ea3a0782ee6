"""Clips of any length as windows that a model can take, and the windows' results as one.

    clip      |----------------------------------------------|
    window 0  |==================~~~|
    window 1                  |~~~================~~~|
    window 2                                   |~~~==========|

What lies under `~` is computed twice, with context on one side only, and dropped where the
other window has it inside. Attention costs the square of a window, not of the clip.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.audio.files import Samples
from predictor.core.model import SpeechSpec

Frames = NDArray[np.int32]


def cut(samples: Samples, speech: SpeechSpec) -> list[Samples]:
    """Views of the clip; one, unless it is longer than a window. Only the last may be short."""
    step = speech.window_samples - 2 * speech.margin_samples
    beyond = max(0, samples.size - speech.window_samples)
    starts = range(0, -(-beyond // step) * step + 1, step)
    return [samples[start : start + speech.window_samples] for start in starts]


def windowed_samples(samples: int, speech: SpeechSpec) -> int:
    """How many the windows of clips of so many samples have together, at most."""
    step = speech.window_samples - 2 * speech.margin_samples
    return -(-samples * speech.window_samples // step)


def join(windows: Sequence[Frames], speech: SpeechSpec) -> Frames:
    """The frames of a clip from those of its windows, in order."""
    margin = speech.margin_samples // speech.samples_per_frame
    most = speech.window_samples // speech.samples_per_frame
    last = len(windows) - 1
    return np.concatenate(
        [
            frames[margin if index else 0 : None if index == last else most - margin]
            for index, frames in enumerate(windows)
        ]
    )


def tokens_of(samples: int, speech: SpeechSpec) -> int:
    """What a window costs, in the unit of `Row.tokens`."""
    return max(1, samples // speech.samples_per_token)
