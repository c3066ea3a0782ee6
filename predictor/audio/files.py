"""WAV and FLAC files to mono samples at a model's rate.

A small file may hold hours (silence compresses well) or eight channels at 192 kHz. It is
read, averaged and resampled in blocks, so that memory follows what comes out.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from predictor.core.errors import InvalidRequest

Samples = NDArray[np.float32]

MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz; telephones have 8,000, studios up to 192,000
MAX_AMPLITUDE = float(1 << 31)  # samples lie in [-1, 1], or are integers that nobody scaled
_BLOCK_FRAMES = 1 << 16
_UNSTATED = 1 << 62


def decode(data: bytes, rate: int, most_samples: int, name: str) -> Samples:
    """The samples [at most `most_samples`] of a whole WAV or FLAC file, at `rate` Hz.

    Raises InvalidRequest, which calls the file `name`, for anything that is no such file, is
    cut off or too long, or holds what no microphone gives.
    """
    with _opened(data, name) as file:
        samples = _collect(_resampled(file, rate), most_samples, rate, name)
    return check_samples(samples, name)


def stated_samples(data: bytes, rate: int, name: str) -> int:
    """How many samples at `rate` Hz the file's head promises; `decode` reads no more than those.

    Raises InvalidRequest.
    """
    with _opened(data, name) as file:
        return -int(-file.frames * rate // file.samplerate)


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[soundfile.SoundFile]:
    # Told by its first bytes, so that no rarer format's parser is reached.
    if not (data[:4] == b"RIFF" and data[8:12] == b"WAVE") and data[:4] != b"fLaC":
        raise InvalidRequest(f"{name}: is not a WAV or FLAC file; send a whole one")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            check_rate(file.samplerate, name)
            if file.channels > MAX_CHANNELS:
                raise InvalidRequest(
                    f"{name}: has {file.channels} channels; send at most {MAX_CHANNELS}"
                )
            if file.frames > _UNSTATED:
                raise InvalidRequest(
                    f"{name}: does not say how long it is, as a file written to a pipe; write it to"
                    " a file first"
                )
            yield file
    except soundfile.LibsndfileError as error:
        problem = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        raise InvalidRequest(
            f"{name}: cannot be read: {problem}; send the whole file, unchanged"
        ) from None


def resample(samples: Samples, from_rate: int, rate: int) -> Samples:
    """Samples [n] taken at `from_rate` Hz, as if taken at `rate` Hz."""
    if from_rate == rate:
        return samples
    resampled: Samples = soxr.resample(samples, from_rate, rate)
    return resampled


def check_rate(rate: int, name: str) -> None:
    """Raises InvalidRequest for a rate that no recording of speech has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidRequest(
            f"{name}: the sampling rate is {rate} Hz; it must be from {MIN_RATE} to {MAX_RATE}"
        )


def check_samples(samples: Samples, name: str) -> Samples:
    """The same samples. Raises InvalidRequest for one that is not a number, or is absurd."""
    if not np.abs(samples).max(initial=0.0) <= MAX_AMPLITUDE:  # NaN fails as well
        raise InvalidRequest(
            f"{name}: a sample is not finite, or over {MAX_AMPLITUDE:g}; send samples from -1 to 1"
        )
    return samples


def check_duration(samples: int, most_samples: int, rate: int, name: str) -> None:
    """Raises InvalidRequest for more audio than is taken at once."""
    if samples > most_samples:
        raise InvalidRequest(
            f"{name}: goes beyond {most_samples / rate:.4g} s of audio, the most that is taken"
            " here; send shorter clips, or fewer at once"
        )


def _collect(blocks: Iterator[Samples], most_samples: int, rate: int, name: str) -> Samples:
    kept: list[Samples] = []
    total = 0
    for block in blocks:
        kept.append(block)
        total += block.size
        check_duration(total, most_samples, rate, name)
    return np.concatenate(kept)


def _resampled(file: soundfile.SoundFile, rate: int) -> Iterator[Samples]:
    """The file's blocks as mono at `rate`; the last one may be empty."""
    stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32")
    while True:
        block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        mono: Samples = block.mean(axis=1, dtype=np.float32)
        last = len(mono) < _BLOCK_FRAMES
        yield mono if file.samplerate == rate else stream.resample_chunk(mono, last=last)
        if last:
            return
