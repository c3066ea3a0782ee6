"""The chunks of a WAV file, checked against what is there before anything is decoded.

libsndfile reads what it finds: half of a file that was cut off is half a transcript, and no error.
So the sizes that a file declares must be there, but for the few that writers leave behind who could
not go back to the head of a file, as on a pipe.

Sources: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), EBU Tech 3306 (RF64).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from predictor.core.errors import InvalidRequest

_HEAD = 12  # RIFF, a size, WAVE
_CHUNK_HEAD = 8
_LEAST_FORMAT = 16
# ffmpeg, GStreamer and browsers write all ones, or that less the head; SoX and mplayer 0x7FFFF000,
# arecord about 2 GiB. No body is so large (--max_body_bytes).
_STREAMED_SIZES = (range(0x7FFF_F000, 0x8000_1000), range(0xFFFF_F000, 0x1_0000_0000))
_LARGE_FORMATS = {b"RF64": "RF64", b"BW64": "BW64", b"riff": "Wave64"}
_ID3V1_BYTES = 128
# Behind the samples, these may be cut off. What has another name may be samples by their looks.
_NOTES = frozenset((b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"_PMX", b"JUNK", b"PAD "))


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    start: int  # of its content
    declared: int  # bytes
    there: int


def is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def large_format(data: bytes) -> str:
    """The name of a relative of WAV for over 4 GiB, if it is one; else empty."""
    return _LARGE_FORMATS.get(data[:4], "")


def checked_wav(data: bytes, name: str) -> bytes:
    """The same sound in a file of nothing but its format and its samples.

    Raises InvalidRequest, which calls the file `name`, where what it declares is not there.
    """
    chunks = list(_chunks(data))
    formats = [chunk for chunk in chunks if chunk.name == b"fmt "]
    sounds = [chunk for chunk in chunks if chunk.name == b"data"]
    for kind, found in (("fmt", formats), ("data", sounds)):
        if len(found) != 1:
            raise _unreadable(name, f"it has {len(found) or 'no'} {kind} chunk{'s'[: len(found)]}")
    (form,), (sound,) = formats, sounds
    if form.start > sound.start:
        raise _unreadable(name, "its data chunk stands before its fmt chunk")
    if not _LEAST_FORMAT <= form.declared == form.there:
        raise _unreadable(name, f"its fmt chunk has {form.there} bytes")
    if sound.declared > sound.there:
        raise InvalidRequest(
            f"{name}: its head says {sound.declared} bytes of samples, but {sound.there} are"
            " there; send the whole file"
        )
    _check_end(data, chunks, name)
    facts = [chunk for chunk in chunks if chunk.name == b"fact" and chunk.start < sound.start]
    return _written(data, [form, *facts[:1], sound])


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Each chunk that begins in the file. One of samples of unknown size goes to its end."""
    at = _HEAD
    while at + _CHUNK_HEAD <= len(data) and _is_name(data[at : at + 4]):
        name, size = struct.unpack_from("<4sI", data, at)
        at += _CHUNK_HEAD
        left = len(data) - at
        if name == b"data" and _is_streamed(data, size, left):
            size = left
        yield _Chunk(name, at, size, min(size, left))
        at += size
        # A byte fills up an odd size, but some writers leave it out.
        if size % 2 and not _is_name(data[at : at + 4]):
            at += 1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _is_streamed(data: bytes, size: int, left: int) -> bool:
    """Whether the size of the samples is one that stands for an unknown size."""
    if any(size in sizes for sizes in _STREAMED_SIZES):
        return True
    (riff_size,) = struct.unpack_from("<I", data, 4)
    # A clip without a sample has a size of the whole that fits; a head never filled in has not.
    return not size and left > 0 and riff_size != len(data) - 8


def _check_end(data: bytes, chunks: Sequence[_Chunk], name: str) -> None:
    """Raises InvalidRequest for bytes behind the chunks that may well be samples."""
    ended = next(
        (
            before
            for before, chunk in pairwise(chunks)
            if chunk.name == b"RIFF" or (chunk.declared > chunk.there and chunk.name not in _NOTES)
        ),
        chunks[-1],
    )
    rest = data[ended.start + ended.there + ended.declared % 2 :]
    is_tag = rest[:3] == b"TAG" and len(rest) == _ID3V1_BYTES
    if len(rest) >= _CHUNK_HEAD and any(rest) and not is_tag:
        raise InvalidRequest(
            f"{name}: {len(rest)} bytes follow what its head says is there; send a file whose head"
            " was completed, or without them"
        )


def _written(data: bytes, chunks: Sequence[_Chunk]) -> bytes:
    parts = []
    for chunk in chunks:
        parts.append(struct.pack("<4sI", chunk.name, chunk.there))
        parts.append(data[chunk.start : chunk.start + chunk.there])
        parts.append(b"\0" * (chunk.there % 2))
    size = 4 + sum(map(len, parts))
    return b"".join((b"RIFF", struct.pack("<I", size), b"WAVE", *parts))


def _unreadable(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: cannot be read: {problem}; send the whole file, unchanged")
