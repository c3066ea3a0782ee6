"""Messages of gRPC from their bytes: counted, then read.

A byte on the wire may be much in memory: 16 MiB of empty inputs take 670 MB, of integers of one
byte 225 MB, before anything looks at them. So what a large message holds is counted first, by
walking over the wire format without building anything. It is walked in the order in which the
library reads, so what is refused by its count costs no more where it is broken further on.

The library would log a trace for a message that it cannot read, and end the call as internal. So
its deserializers are not used.

Source: https://protobuf.dev/programming-guides/encoding
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from grpc import aio

from predictor.core.errors import InvalidRequest
from predictor.edge.json_text import LARGE_BYTES
from predictor.freed_memory import LARGE_READS

# A field is a string, an entry of a map, a message: all that is not within a packed list. Rows are
# fewer, as they are in JSON.
MAX_FIELDS = 1 << 18
# Integers of variable length in packed lists, which take 8 bytes each: 4,096 rows of 512 ids.
MAX_INTEGERS = 1 << 21
_COUNTED_AT_ONCE = 1 << 20  # bytes
_MAX_DEPTH = 100  # the library's
_MAX_TAG_BYTES = 10
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_PACKED_FIXED = frozenset(
    {
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_FLOAT,
        FieldDescriptor.TYPE_SFIXED32,
        FieldDescriptor.TYPE_SFIXED64,
    }
)


class _BrokenError(Exception):
    """The library says so, too."""


def unary(
    request_class: Any,
    answer: Callable[[Any, aio.ServicerContext], Awaitable[Any]],
    response_class: Any,
) -> grpc.RpcMethodHandler:
    """A method of one message and one answer. It is not called for a message that is refused."""

    async def read_and_answer(sent: bytes, context: aio.ServicerContext) -> Any:
        try:
            request = await read(request_class, sent)
        except InvalidRequest as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return await answer(request, context)

    return grpc.unary_unary_rpc_method_handler(
        read_and_answer, response_serializer=response_class.SerializeToString
    )


async def read(kind: Any, sent: bytes) -> Any:
    """A message of class `kind`. Raises InvalidRequest."""
    if len(sent) <= LARGE_BYTES:
        return parsed(kind, sent)
    try:
        return await asyncio.to_thread(_read, kind, sent)
    finally:
        LARGE_READS.ended(len(sent))


def _read(kind: Any, sent: bytes) -> Any:
    check_counts(kind.DESCRIPTOR, sent)
    return parsed(kind, sent)


def parsed(kind: Any, sent: bytes) -> Any:
    """A message whose bytes are few, or counted. Raises InvalidRequest."""
    try:
        return kind.FromString(sent)
    except DecodeError:
        raise InvalidRequest(
            f"the message cannot be read as a {kind.DESCRIPTOR.name}; send one"
        ) from None


def check_counts(descriptor: Descriptor, sent: bytes) -> None:
    """Raises InvalidRequest for more fields or integers than any request needs."""
    try:
        _Counter(sent).walk(descriptor, 0, len(sent), 0)
    except _BrokenError:
        return


class _Counter:
    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._values = np.frombuffer(sent, np.uint8)
        self._fields = 0
        self._integers = 0

    def walk(self, descriptor: Descriptor | None, at: int, end: int, depth: int) -> None:
        """Count what lies from `at` to `end`; `descriptor` None: of a field that nobody knows."""
        if depth > _MAX_DEPTH:
            raise _BrokenError
        known = {} if descriptor is None else descriptor.fields_by_number
        sent = self._sent
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise InvalidRequest(
                    f"the message has over {MAX_FIELDS} fields; send numbers in"
                    " raw_input_contents, and fewer rows"
                )
            tag = sent[at]
            at += 1
            if tag > 0x7F:
                tag, at = self._integer(at - 1, end)
            kind = tag & 7
            if kind == _VARINT:
                _, at = self._integer(at, end)
            elif kind == _BYTES:
                size, at = self._integer(at, end)
                if size > end - at:
                    raise _BrokenError
                field = known.get(tag >> 3)
                if size and field is not None:
                    self._within(field, at, at + size, depth)
                at += size
            elif kind in {_FIXED64, _FIXED32}:
                at += 8 if kind == _FIXED64 else 4
            elif kind not in {_GROUP, _GROUP_END}:
                raise _BrokenError

    def _within(self, field: FieldDescriptor, at: int, end: int, depth: int) -> None:
        if field.message_type is not None:
            self.walk(field.message_type, at, end, depth + 1)
        elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING and field.type not in _PACKED_FIXED:
            for start in range(at, end, _COUNTED_AT_ONCE):
                # Each integer ends with the one of its bytes that is below 128.
                piece = self._values[start : min(start + _COUNTED_AT_ONCE, end)]
                self._integers += int(np.count_nonzero(piece < 0x80))
                if self._integers > MAX_INTEGERS:
                    raise InvalidRequest(
                        f"the message has over {MAX_INTEGERS} integers in typed contents; send"
                        " them in raw_input_contents"
                    )

    def _integer(self, at: int, end: int) -> tuple[int, int]:
        """The one that begins at `at`, and where it ends."""
        value = 0
        for shift in range(_MAX_TAG_BYTES):
            if at >= end:
                raise _BrokenError
            byte = self._sent[at]
            at += 1
            value |= (byte & 0x7F) << (7 * shift)
            if byte < 0x80:
                return value, at
        raise _BrokenError
