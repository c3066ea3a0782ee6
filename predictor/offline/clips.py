"""A folder of WAV and FLAC files as the rows that a model would be given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.audio.files import decode
from predictor.audio.windows import cut, tokens_of
from predictor.core.errors import InvalidRequest, StartupError
from predictor.core.model import SpeechSpec

MAX_CLIPS = 100_000
MAX_AUDIO_S = 10 * 3600  # what is held in memory: 2.3 GB at 16 kHz
MAX_FILE_BYTES = 1 << 30
_SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True, eq=False)
class Window:
    """A clip, or a part of one that is longer than the model's window."""

    samples: NDArray[np.float32]
    tokens: int


def find_clips(folder: Path) -> list[Path]:
    """The clips in `folder` and below, by name. Raises StartupError if there is none."""
    if not folder.is_dir():
        raise StartupError(f"--clips {folder} is not a folder; give one with WAV or FLAC files")
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    if not 1 <= len(found) <= MAX_CLIPS:
        raise StartupError(
            f"--clips {folder} has {len(found)} files that end in {' or '.join(_SUFFIXES)}; it must"
            f" have 1 to {MAX_CLIPS}"
        )
    return found


def read_windows(
    paths: Sequence[Path], speech: SpeechSpec, read: Callable[[], object]
) -> list[Window]:
    """All clips at the model's rate, cut into windows; `read` is called after each clip.

    Raises StartupError for one that cannot be read or is too short, naming it.
    """
    left = MAX_AUDIO_S * speech.sampling_rate
    windows = []
    for path in paths:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise StartupError(f"{path}: is over {MAX_FILE_BYTES} bytes; cut it into parts")
            samples = decode(path.read_bytes(), speech.sampling_rate, left, str(path))
        except OSError as error:
            raise StartupError(f"{path}: cannot be read: {error.strerror}") from None
        except InvalidRequest as refused:
            raise StartupError(refused.message) from None
        if samples.size < speech.min_samples:
            raise StartupError(
                f"{path}: has {samples.size} samples, too short to hear anything; remove it"
            )
        left -= samples.size
        windows += [Window(part, tokens_of(part.size, speech)) for part in cut(samples, speech)]
        read()
    return windows
