"""Files become the samples that were recorded, or are refused by name."""

from itertools import pairwise

import numpy as np
import pytest
import soxr

from predictor.audio.files import decode, resample
from predictor.core.errors import InvalidRequest
from tests.audio.clips import RATE, file_of, noise, tone

HOUR = 3600 * RATE
STEP = 2 / (1 << 16)  # of 16-bit samples


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "WAVEX"])
def test_samples_come_back(kind: str) -> None:
    samples = noise(5)
    found = decode(file_of(samples, kind=kind), RATE, HOUR, "clip")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, samples, rtol=0, atol=STEP)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "PCM_U8", "ULAW"])
def test_any_coding_of_samples(subtype: str) -> None:
    found = decode(file_of(noise(1), subtype=subtype), RATE, HOUR, "clip")
    np.testing.assert_allclose(found, noise(1), rtol=0, atol=0.02)


def test_stereo_is_averaged_and_resampled_in_blocks() -> None:
    left, right = tone(6, 44_100), tone(6, 44_100, 660)
    stereo = np.stack([left, right], axis=1)
    found = decode(file_of(stereo, 44_100, "FLAC"), RATE, HOUR, "clip")
    assert found.size == pytest.approx(6 * RATE, abs=1)
    whole = soxr.resample((left + right) / 2, 44_100, RATE)
    size = min(found.size, whole.size)
    np.testing.assert_allclose(found[:size], whole[:size], rtol=0, atol=1e-3)
    expected = (tone(6, RATE) + tone(6, RATE, 660)) / 2
    inner = slice(RATE // 10, 5 * RATE)  # filters ring at the ends
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0, atol=1e-3)


def test_the_same_rate_is_left_alone() -> None:
    samples = noise(1)
    assert resample(samples, RATE, RATE) is samples


WAV, FLAC = file_of(noise(1)), file_of(noise(1), kind="FLAC")
BROKEN = noise(1)
BROKEN[7] = np.nan
LOUD = noise(1)
LOUD[7] = 1e30


def _without_length(flac: bytes) -> bytes:
    """What an encoder writes that cannot go back: 36 bits of STREAMINFO are 0."""
    edited = bytearray(flac)
    edited[21] &= 0xF0
    edited[22:26] = bytes(4)
    return bytes(edited)


BAD = {
    "empty": (b"", "clip: is not a WAV or FLAC file"),
    "another format": (file_of(noise(1), kind="OGG"), "is not a WAV or FLAC"),
    "text": (b"hello", "is not a WAV or FLAC"),
    "head of WAV": (WAV[:20], "cannot be read: .*; send the whole file"),
    "head of FLAC": (FLAC[:60], "cannot be read"),
    "FLAC cut off": (FLAC[: len(FLAC) // 2], "cannot be read"),
    "FLAC of a pipe": (_without_length(FLAC), "does not say how long it is"),
    "not a number": (file_of(BROKEN, subtype="FLOAT"), "a sample is not finite"),
    "absurdly loud": (file_of(LOUD, subtype="FLOAT"), "or over 2.14748e"),
    "many channels": (file_of(np.zeros((99, 9))), "has 9 channels; send at most 8"),
    "slow": (file_of(noise(1), 1000), "the sampling rate is 1000 Hz; it must be from 4000"),
    "fast": (file_of(noise(1), 384_000), "the sampling rate is 384000 Hz"),
    "long": (file_of(noise(2)), "goes beyond 1.5 s of audio"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD)
def test_bad_files(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        decode(data, RATE, RATE * 3 // 2, "clip")
    assert "object at" not in caught.value.message


def test_a_small_file_of_hours_is_refused_before_it_is_all_read() -> None:
    silence = file_of(np.zeros(1200 * RATE, np.int16), kind="FLAC")
    assert len(silence) < 1 << 17
    with pytest.raises(InvalidRequest, match="goes beyond 60 s"):
        decode(silence, RATE, 60 * RATE, "clip")


def test_any_cut_of_a_file_is_read_or_refused() -> None:
    for data in (WAV, FLAC):
        for start, end in pairwise(range(0, len(data), len(data) // 40)):
            for part in (data[:end], data[:start] + data[end:]):
                try:
                    decode(part, RATE, HOUR, "clip")
                except InvalidRequest as refused:
                    assert refused.message.startswith("clip: ")  # noqa: PT017
