"""Compressed bodies, as tritonclient's `request_compression_algorithm` sends them.

A kilobyte may become a megabyte. So a body is decompressed as it is read, a piece at a time, and
never further than the reader, who counts, wants it.
"""

import asyncio
import zlib
from collections.abc import Callable

from predictor.core.errors import InvalidRequest
from predictor.edge.asgi import Message, Receive

ENCODINGS = "gzip, deflate"
_FIRST_BYTES = 1 << 16  # decompressed on the loop; what comes after that, on a thread
_PIECE_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB_METHOD = 8  # low bits of the first byte; a deflate body without it has no zlib header


class _Inflater:
    """Decompresses a stream that comes in chunks, in pieces of a bounded size."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding != "deflate"
        self._stream: zlib._Decompress | None = None
        self._waiting = b""  # compressed

    def feed(self, chunk: bytes) -> None:
        self._waiting += chunk

    def piece(self, most: int) -> bytes:
        """The next bytes, at most so many; none where more has to be fed. Raises InvalidRequest."""
        found = b""
        while self._waiting and not found:
            if self._stream is None:
                self._stream = zlib.decompressobj(self._window_bits())
            try:
                found = self._stream.decompress(self._waiting, most)
            except zlib.error:
                raise InvalidRequest(
                    "body: not what Content-Encoding says; send it uncompressed, or compressed "
                    "with " + ENCODINGS
                ) from None
            if not self._stream.eof:
                self._waiting = self._stream.unconsumed_tail
                break
            self._waiting = self._stream.unused_data
            if not self._gzip and self._waiting:
                raise InvalidRequest("body: something follows the compressed data; leave it out")
            self._stream = None if self._waiting else self._stream
        return found

    def check_whole(self) -> None:
        """Raises InvalidRequest where the compressed data has no end."""
        if self._stream is None or not self._stream.eof:
            raise InvalidRequest("body: the compressed data is cut off; send all of it")

    @property
    def hungry(self) -> bool:
        """Whether nothing is left of what was fed."""
        return not self._waiting

    def _window_bits(self) -> int:
        if self._gzip:
            return _GZIP
        return zlib.MAX_WBITS if self._waiting[0] & 0xF == _ZLIB_METHOD else -zlib.MAX_WBITS


def decompressed(receive: Receive, encoding: str) -> Receive:
    """`receive` of the plain body. It raises InvalidRequest for a body that is not so encoded."""
    inflater = _Inflater(encoding)
    given = 0
    more = True
    ended = False

    async def plain() -> Message:
        nonlocal given, more, ended
        while not ended:
            if inflater.hungry and more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return message
                more = message.get("more_body", False)
                inflater.feed(message.get("body", b""))
            piece = await _piece(inflater, given)
            given += len(piece)
            if inflater.hungry and not more and not piece:
                inflater.check_whole()
                ended = True
            if piece or ended:
                return {"type": "http.request", "body": piece, "more_body": not ended}
        return await receive()

    return plain


async def _piece(inflater: _Inflater, given: int) -> bytes:
    if given < _FIRST_BYTES:
        return inflater.piece(_FIRST_BYTES)
    produce: Callable[[int], bytes] = inflater.piece
    return await asyncio.to_thread(produce, _PIECE_BYTES)
