"""What a file declares is there, or the file is refused: no half of a clip passes for a whole."""

import io
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from predictor.audio.files import decode
from predictor.core.errors import InvalidRequest
from tests.audio.clips import RATE, file_of, noise

HOUR = 3600 * RATE
CLIP = noise(2)
PCM = (CLIP * 32767).round().astype("<i2").tobytes()
FMT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
LIST = struct.pack("<4sI", b"LIST", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"
ODD = struct.pack("<4sI", b"note", 3) + b"odd\0"
ALL_ONES = 0xFFFF_FFFF


def data_chunk(size: int | None = None, content: bytes = PCM) -> bytes:
    return struct.pack("<4sI", b"data", len(content) if size is None else size) + content


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body) if size is None else size) + body


def samples_of(data: bytes) -> int:
    return decode(data, RATE, HOUR, "clip").size


WHOLE = {
    "plain": wav(FMT, data_chunk()),
    "a list before": wav(FMT, LIST, data_chunk()),
    "a list behind": wav(FMT, data_chunk(), LIST),
    "an odd chunk": wav(ODD, FMT, ODD, data_chunk(), ODD),
    "an odd chunk without its pad byte": wav(FMT, ODD[:-1], data_chunk()),
    "a tag behind": wav(FMT, data_chunk()) + b"TAG" + b"x" * 125,
    "zeros behind": wav(FMT, data_chunk()) + bytes(512),
    "a size that is too large": wav(FMT, data_chunk(), size=1 << 20),
    "a size that is too small": wav(FMT, data_chunk(), size=100),
    "a list cut off behind": wav(FMT, data_chunk(), LIST)[:-5],
    "written by the library": file_of(CLIP),
    "written by the library, extensible": file_of(CLIP, kind="WAVEX"),
}
STREAMED = {
    "all ones, as ffmpeg": wav(FMT, LIST, data_chunk(ALL_ONES), size=ALL_ONES),
    "all ones but the head": wav(FMT, data_chunk(ALL_ONES - 36), size=ALL_ONES),
    "2 GiB less a page, as SoX": wav(FMT, data_chunk(0x7FFF_F000), size=0x7FFF_F024),
    "2 GiB, as arecord": wav(FMT, data_chunk(1 << 31), size=(1 << 31) + 36),
    "a head never filled in": wav(FMT, data_chunk(0), size=0),
    "a size of the head alone": wav(FMT, data_chunk(0), size=36),
}


@pytest.mark.parametrize("data", [*WHOLE.values(), *STREAMED.values()], ids=[*WHOLE, *STREAMED])
def test_all_that_is_there_is_heard(data: bytes) -> None:
    found = decode(data, RATE, HOUR, "clip")
    np.testing.assert_allclose(found, CLIP, rtol=0, atol=2 / (1 << 16))


BAD = {
    "half of it": (
        wav(FMT, data_chunk())[:32_022],
        "its head says 64000 bytes of samples, but 31978 are there; send the whole file",
    ),
    "a byte short": (wav(FMT, data_chunk())[:-1], "says 64000 .* but 63999 are there"),
    "half, beside a list": (wav(FMT, LIST, data_chunk())[:32_022], "says 64000 bytes"),
    "a size somewhat too large": (wav(FMT, data_chunk(64_002)), "says 64002 bytes"),
    "a head that is out of date": (wav(FMT, data_chunk(1000)), "63000 bytes follow"),
    "two clips, one after the other": (
        wav(FMT, data_chunk()) + wav(FMT, data_chunk()),
        "64044 bytes follow",
    ),
    "two data chunks": (wav(FMT, data_chunk(), data_chunk()), "it has 2 data chunks"),
    "two formats": (wav(FMT, FMT, data_chunk()), "it has 2 fmt chunks"),
    "no samples": (wav(FMT, LIST), "it has no data chunk"),
    "no format": (wav(data_chunk()), "it has no fmt chunk"),
    "samples before the format": (wav(data_chunk(), FMT), "data chunk stands before its fmt"),
    "a format cut off": (wav(FMT)[:30], "it has no data chunk"),
    "RF64": (b"RF64" + wav(FMT, data_chunk())[4:], "is RF64, which is for over 4 GiB"),
    "Wave64": (file_of(CLIP, kind="W64"), "is Wave64, which is for over 4 GiB"),
    "big-endian": (b"RIFX" + wav(FMT, data_chunk())[4:], "is not a WAV or FLAC file"),
}


@pytest.mark.parametrize(("data", "problem"), BAD.values(), ids=BAD)
def test_what_is_not_there_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^clip: .*(?:{problem})"):
        samples_of(data)


def test_a_clip_without_a_sample_has_none() -> None:
    assert samples_of(wav(FMT, data_chunk(content=b""))) == 0
    assert samples_of(wav(FMT, data_chunk(content=b""), LIST)) == 0


def test_every_cut_of_a_wav_keeps_all_samples_or_is_refused() -> None:
    for data in (WHOLE["a list behind"], WHOLE["an odd chunk"]):
        for end in range(0, len(data), 97):
            try:
                found = samples_of(data[:end])
            except InvalidRequest:
                continue
            assert found == CLIP.size


# FLAC


def flac_saying(samples: int, data: bytes) -> bytes:
    """The same file, its head with another number of samples (36 bits)."""
    edited = bytearray(data)
    counts = int.from_bytes(edited[18:26], "big")
    edited[18:26] = (counts >> 36 << 36 | samples).to_bytes(8, "big")
    return bytes(edited)


def without_md5(data: bytes) -> bytes:
    return data[:26] + bytes(16) + data[42:]


FLAC = file_of(CLIP, kind="FLAC")
BAD_FLAC = {
    "fewer samples than there are": (flac_saying(RATE, FLAC), r"MD5"),
    "fewer, without an MD5": (
        without_md5(flac_saying(RATE, file_of(noise(9), kind="FLAC"))),
        "bytes follow the samples",
    ),
    "more samples than there are": (flac_saying(4 * RATE, FLAC), "cannot be read"),
    "more, without an MD5": (without_md5(flac_saying(4 * RATE, FLAC)), "cannot be read"),
    "another MD5": (FLAC[:26] + b"x" + FLAC[27:], "MD5"),
    "unknown": (flac_saying(0, FLAC), "does not say how long it is"),
    "half of it": (FLAC[: len(FLAC) // 2], "cannot be read"),
    "half, without an MD5": (without_md5(FLAC[: len(FLAC) // 2]), "cannot be read"),
}


@pytest.mark.parametrize(("data", "problem"), BAD_FLAC.values(), ids=BAD_FLAC)
def test_flac_that_is_not_what_it_says(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^clip: .*{problem}"):
        samples_of(data)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_md5_of_any_coding_holds(subtype: str, channels: int) -> None:
    clip = np.stack([noise(1, seed=seed) for seed in range(channels)], axis=1)
    data = file_of(clip, kind="FLAC", subtype=subtype)
    known, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_allclose(
        decode(data, RATE, HOUR, "clip"), known.mean(axis=1), rtol=0, atol=1e-6
    )
    assert samples_of(without_md5(data)) == RATE


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg (apt-get install ffmpeg)")
@pytest.mark.parametrize(
    "flags",
    [
        ("-f", "wav"),
        ("-f", "wav", "-c:a", "pcm_f32le"),
        ("-f", "wav", "-c:a", "pcm_s24le", "-ac", "6"),
        ("-f", "wav", "-c:a", "pcm_mulaw"),
        ("-f", "flac"),
        ("-f", "flac", "-sample_fmt", "s32"),
    ],
    ids=" ".join,
)
def test_what_ffmpeg_writes(flags: Iterable[str], tmp_path: Path) -> None:
    def written(to: str) -> bytes:
        command = ("ffmpeg", "-v", "error", "-y", "-i", "pipe:0", *flags, to)
        return subprocess.run(
            command, input=file_of(CLIP), capture_output=True, check=True, timeout=60
        ).stdout

    path = tmp_path / "clip"
    written(str(path))
    whole = path.read_bytes()
    assert samples_of(whole) == CLIP.size
    with pytest.raises(InvalidRequest, match=r"are there|cannot be read"):
        samples_of(whole[: len(whole) // 2])
    streamed = written("pipe:1")
    if "flac" in flags:
        with pytest.raises(InvalidRequest, match="does not say how long"):
            samples_of(streamed)
    else:
        assert samples_of(streamed) == CLIP.size
