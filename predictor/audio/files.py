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

from predictor.audio.flac import FlacCheck
from predictor.audio.wav import checked_wav, is_wav, large_format
from predictor.core.errors import InvalidRequest

Samples = NDArray[np.float32]

MAX_CHANNELS = 8
_FLAC = b"fLaC"
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz; telephones have 8,000, studios up to 192,000
MAX_AMPLITUDE = float(1 << 31)  # samples lie in [-1, 1], or are integers that nobody scaled
_BLOCK_FRAMES = 1 << 16
_UNSTATED = 1 << 62
_UNREAD_BYTES = 1 << 14  # tags behind a FLAC file's samples may be as long


def decode(data: bytes, rate: int, most_samples: int, name: str) -> Samples:
    """The samples [at most `most_samples`] of a whole WAV or FLAC file, at `rate` Hz.

    Raises InvalidRequest, which calls the file `name`, for anything that is no such file, is
    cut off or too long, or holds what no microphone gives.
    """
    flac = FlacCheck(data) if data[:4] == _FLAC else None
    with _opened(data, name) as (file, stream):
        samples = _collect(_resampled(file, rate, flac), most_samples, rate, name)
        unread = stream.getbuffer().nbytes - stream.tell()
    if flac is not None and not flac.possible and unread > _UNREAD_BYTES:
        raise InvalidRequest(
            f"{name}: {unread} bytes follow the samples that its head declares; send the whole"
            " file, unchanged"
        )
    if flac is not None and flac.possible and not flac.holds:
        raise InvalidRequest(
            f"{name}: its samples are not those that its head was written for (MD5); send the whole"
            " file, unchanged"
        )
    return check_samples(samples, name)


def stated_samples(data: bytes, rate: int, name: str) -> int:
    """How many samples at `rate` Hz the file's head promises; `decode` reads no more than those.

    Raises InvalidRequest.
    """
    with _opened(data, name) as (file, _):
        return -int(-file.frames * rate // file.samplerate)


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[tuple[soundfile.SoundFile, io.BytesIO]]:
    # Told by its first bytes, so that no rarer format's parser is reached.
    if kind := large_format(data):
        raise InvalidRequest(f"{name}: is {kind}, which is for over 4 GiB; send it as WAV or FLAC")
    if is_wav(data):
        data = checked_wav(data, name)
    elif data[:4] != _FLAC:
        raise InvalidRequest(f"{name}: is not a WAV or FLAC file; send a whole one")
    stream = io.BytesIO(data)
    try:
        with soundfile.SoundFile(stream) as file:
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
            yield file, stream
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


def _resampled(file: soundfile.SoundFile, rate: int, flac: FlacCheck | None) -> Iterator[Samples]:
    """The file's blocks as mono at `rate`; the last one may be empty."""
    stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32")
    while True:
        if flac is None:
            block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        else:
            whole = file.read(_BLOCK_FRAMES, dtype="int32", always_2d=True)
            flac.take(whole)
            block = whole.astype(np.float32) / np.float32(1 << 31)
        mono: Samples = block.mean(axis=1, dtype=np.float32)
        last = len(mono) < _BLOCK_FRAMES
        yield mono if file.samplerate == rate else stream.resample_chunk(mono, last=last)
        if last:
            return
