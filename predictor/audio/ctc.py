"""Connectionist temporal classification (Graves et al., ICML 2006): frames to text.

The model says one label a frame; a blank stands between two equal letters, and where nothing
is said. So repeats are merged first, then blanks dropped.
"""

from collections.abc import Sequence

import numpy as np

from predictor.audio.windows import Frames

# What transformers does where a tokenizer asks for clean_up_tokenization_spaces, in its order.
_TIDIED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def transcript(frames: Frames, labels: Sequence[str], *, tidy: bool = False) -> str:
    """The text of the most likely label of each frame [n].

    `labels` say what each id is written as: nothing for the blank, a space between words. `tidy`
    leaves out spaces before punctuation and what English shortens.
    """
    changed = np.ones(frames.size, dtype=bool)
    np.not_equal(frames[1:], frames[:-1], out=changed[1:])
    written = "".join(labels[index] for index in frames[changed].tolist())
    text = " ".join(written.split())
    if tidy:
        for spaced in _TIDIED:
            text = text.replace(spaced, spaced.strip())
    return text
