"""What edges and an engine say to each other over a Unix stream socket.

A frame is its length (4 bytes, little-endian) and a msgpack list of messages: all that one
turn of an event loop had to say. One frame, one write and one read for many requests is
what keeps the engine's share of a request small.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from predictor.core import errors
from predictor.core.errors import HeadwayError, Overloaded
from predictor.core.facts import EdgeFact
from predictor.core.generation import Generated
from predictor.engine.port import EngineStatus, Reply, Submission

# A body of 16 MiB can become eight times as many bytes of token ids.
MAX_FRAME_BYTES = 256 << 20
_LENGTH_BYTES = 4


class WireError(Exception):
    """The other side does not speak this protocol; the connection is of no use."""


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Edge: queue these rows. `id` is the edge's own name for the request."""

    id: int
    submission: Submission


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Edge: nobody waits for this request any more."""

    id: int


class StopRow(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Edge: whoever reads this row of a request wants no more of it."""

    id: int
    index: int


class AskMetrics(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Edge: render the metrics for a scraper that accepts this."""

    id: int
    accept: str


class Part(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: what a row of a request that streams has generated since the last part."""

    id: int
    generated: Generated


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Edge: say something."""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: I run."""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: the request's reply."""

    id: int
    reply: Reply


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: the request's error, one of core.errors by its class's name."""

    id: int
    error: str
    message: str
    retry_after_s: float


class Exposed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: the metrics that were asked for."""

    id: int
    body: bytes
    content_type: str


class Status(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Engine: what it serves, told at the start and at each change."""

    status: EngineStatus


FromEdge = Submit | Cancel | StopRow | AskMetrics | EdgeFact | Ping
FromEngine = Answered | Part | Failed | Exposed | Status | Pong

FROM_EDGE = msgspec.msgpack.Decoder(list[FromEdge])
FROM_ENGINE = msgspec.msgpack.Decoder(list[FromEngine])

M = TypeVar("M")
_ENCODER = msgspec.msgpack.Encoder()
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.InvalidRequest,
        errors.RequestTooLarge,
        errors.UnknownModel,
        errors.QueueFull,
        errors.Shed,
        errors.DeadlineExceeded,
        errors.Unavailable,
        errors.RowFailed,
    )
}


def failed(request_id: int, error: BaseException) -> Failed:
    """An error as a message."""
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
    message = error.message if isinstance(error, HeadwayError) else str(error)
    if not message.isascii():
        message = message.encode(errors="replace").decode()  # a path in it may be no text
    return Failed(request_id, type(error).__name__, message, retry_after_s)


def error_of(message: Failed) -> HeadwayError:
    """The error again; the base class where the name is none of ours."""
    kind = _KINDS.get(message.error, HeadwayError)
    if issubclass(kind, Overloaded):
        return kind(message.message, message.retry_after_s)
    return kind(message.message)


def encode(messages: Sequence[FromEdge | FromEngine]) -> bytearray:
    """The messages as one frame, or as several where one would be over MAX_FRAME_BYTES.

    An answer that is over the limit alone becomes a failure of its request.
    """
    frame = bytearray(_LENGTH_BYTES)
    _ENCODER.encode_into(messages, frame, _LENGTH_BYTES)
    size = len(frame) - _LENGTH_BYTES
    if size > MAX_FRAME_BYTES:
        half = len(messages) // 2
        if half:
            return encode(messages[:half]) + encode(messages[half:])
        return encode([_too_large(messages[0], size)])
    frame[:_LENGTH_BYTES] = size.to_bytes(_LENGTH_BYTES, "little")
    return frame


def _too_large(message: FromEdge | FromEngine, size: int) -> Failed:
    if isinstance(message, Answered | Exposed):
        error = errors.RowFailed(
            f"the answer takes {size} bytes, over {MAX_FRAME_BYTES}; send fewer rows in a request"
        )
        return failed(message.id, error)
    raise WireError(f"a message of {size} bytes is over {MAX_FRAME_BYTES}")


class FrameReader(Generic[M]):
    """Puts frames together from whatever pieces a socket gives."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[M]]) -> None:
        self._decode = decoder.decode
        self._held = bytearray()

    def feed(self, data: bytes | bytearray) -> list[M]:
        """The messages that are complete now. Raises WireError for what cannot be right."""
        if self._held:
            self._held += data
            return self._take(self._held)
        return self._take(data)

    def _take(self, data: bytes | bytearray) -> list[M]:
        messages: list[M] = []
        view = memoryview(data)
        start = 0
        while (end := self._frame_end(view, start)) is not None:
            try:
                messages += self._decode(view[start + _LENGTH_BYTES : end])
            except msgspec.MsgspecError as error:
                raise WireError(f"a frame cannot be read: {error}") from None
            start = end
        if start or data is not self._held:  # what lies there whole need not be moved
            self._held = bytearray(view[start:])
        return messages

    def _frame_end(self, view: memoryview, start: int) -> int | None:
        body = start + _LENGTH_BYTES
        if len(view) < body:
            return None
        size = int.from_bytes(view[start:body], "little")
        if size > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {size} bytes is over {MAX_FRAME_BYTES}")
        return body + size if len(view) >= body + size else None
