"""JSON as clients write it: a byte order mark, half characters, and more brackets than bytes
should buy.

A `[` costs a byte to send and 60 to hold, and the decoder keeps the interpreter until it is done:
on a thread as well. So brackets are counted before anything is decoded.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from predictor.core.errors import InvalidRequest

LARGE_BYTES = 1 << 16  # what is longer takes milliseconds to decode
MAX_CONTAINERS = 1 << 18  # arrays and objects in a body; four for each row of the largest request
_MARK = b"\xef\xbb\xbf"
_COUNTED_AT_ONCE = 1 << 18
_BACKSLASH = ord("\\")
_EXPLAINED_BYTES = 1 << 20  # in what is longer, the field is not looked for
_HALVES = re.compile("[\ud800-\udfff]")


def without_mark(text: bytes) -> bytes:
    """RFC 8259 8.1: a byte order mark may be ignored."""
    return text.removeprefix(_MARK)


def check_containers(text: bytes) -> None:
    """Raises InvalidRequest where there are more arrays and objects than any request needs.

    It counts those outside of strings, in pieces of about a millisecond.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_CONTAINERS:
        return
    found = 0
    in_string = False
    start = 0
    while start < len(text):
        end = start + _COUNTED_AT_ONCE
        while end < len(text) and text[end - 1] == _BACKSLASH:
            end += 1  # an escape stays in one piece
        piece = text[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        found += sum(part.count(b"[") + part.count(b"{") for part in parts[in_string::2])
        in_string ^= not len(parts) % 2
        if found > MAX_CONTAINERS:
            raise InvalidRequest(
                f"body: over {MAX_CONTAINERS} arrays and objects; send data flat, or fewer rows in "
                "a request"
            )
        start = end


def half_character(text: bytes) -> str | None:
    """The field that holds half of a surrogate pair, as a text cut within an emoji does.

    To be asked about text that the decoder has refused: it says that the text is cut off, or that
    it ends within an escape. None where there is no such field.
    """
    if len(text) > _EXPLAINED_BYTES:
        return None
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return next(_half_fields(plain, ""), None)


def _half_fields(plain: Any, path: str) -> Iterator[str]:
    if isinstance(plain, str):
        if _HALVES.search(plain):
            yield path
    elif isinstance(plain, list):
        for index, value in enumerate(plain):
            yield from _half_fields(value, f"{path}[{index}]")
    elif isinstance(plain, dict):
        for name, value in plain.items():
            if _HALVES.search(name):
                yield f"{path}.(a name)".removeprefix(".")
            yield from _half_fields(value, f"{path}.{name}".removeprefix("."))


def unreadable(error: Exception, text: bytes, where: str = "") -> str | None:
    """A sentence for what the decoder says badly; None where its own will do.

    `where` is the field that `text` is, where it is not all.
    """
    if isinstance(error, UnicodeDecodeError):
        return f"{where or 'body'}: a text is not UTF-8; send UTF-8, or base64 for bytes"
    field = half_character(text)
    if field is None:
        return None
    return (
        f"{where}{field}: half of a character (a lone surrogate, as a text cut within an emoji "
        "has); send whole characters"
    )
