"""What real clients do to JSON: a byte order mark in front, and half of an emoji inside.

A text that is cut between the two halves of a character beyond U+FFFF leaves a lone surrogate,
which JavaScript and Java write as `\\ud83d`. JSON's grammar allows it, and it is no text.
"""

import json
import re
from codecs import BOM_UTF8
from typing import TypeVar

import msgspec

from predictor.core.errors import InvalidRequest
from predictor.edge.parameters import Fields, readable

T = TypeVar("T")
# What msgspec raises for text that is not the JSON it should be.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NAMED_BYTES = 1 << 20  # larger bodies are not read again only to name the field
_MAX_NAME = 64
# The first alternative takes what is well, so that the second finds what is left.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[^u]|u(?![dD][89a-fA-F]))"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


# Outside of strings, each costs memory and time as hundreds of bytes of numbers or text do. A row
# takes two of them at most, and a request has no more than 65,536 rows.
_MAX_BRACKETS = 1 << 18
LARGE_BYTES = 1 << 16  # up to here even brackets alone are read in a few milliseconds
_COUNTED_AT_ONCE = 1 << 18  # about a millisecond
_BACKSLASH = ord("\\")


def check_brackets(body: bytes) -> None:
    """Raises InvalidRequest where a body has more lists and objects than rows could need.

    Reading them is one call that lets no other thread run, so it does not help to be on a thread.
    Counting takes time linear in the body, whatever it holds: a string without an end as well.
    """
    if len(body) <= LARGE_BYTES or body.count(b"[") + body.count(b"{") <= _MAX_BRACKETS:
        return
    count = 0  # some may stand in texts
    in_string = False
    start = 0
    while start < len(body):
        end = start + _COUNTED_AT_ONCE
        while end < len(body) and body[end - 1] == _BACKSLASH:
            end += 1  # an escape stays in one piece
        piece = body[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        count += sum(part.count(b"[") + part.count(b"{") for part in parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        start = end
        if count > _MAX_BRACKETS:
            raise InvalidRequest(
                f"body: over {_MAX_BRACKETS} lists and objects; send flat data, or fewer rows"
            )


def without_mark(body: bytes) -> bytes:
    """Without the byte order mark of UTF-8, which writers on Windows put there."""
    return body.removeprefix(BOM_UTF8)


def read_json(body: bytes, decoder: msgspec.json.Decoder[T], known: Fields | None = None) -> T:
    """What a body holds, read by its `decoder`. Raises InvalidRequest, naming the field.

    `known`: see `readable`.
    """
    body = without_mark(body)
    check_brackets(body)
    try:
        return decoder.decode(body)
    except NOT_JSON as error:
        raise not_json(error, body, known) from None


def not_json(error: Exception, body: bytes, known: Fields | None = None) -> InvalidRequest:
    """The refusal of a body that msgspec could not read, naming the field where one can."""
    at = _lone_surrogate(body)
    if at is None:
        return InvalidRequest(readable(str(error), known=known))
    field = _field(body) if len(body) <= _NAMED_BYTES else None
    where = f"body: byte {at}" if field is None else field
    return InvalidRequest(
        f"{where}: half of a character (a lone surrogate, {body[at : at + 6].decode('ascii')}) is "
        "no text; cut texts between characters"
    )


def _lone_surrogate(body: bytes) -> int | None:
    """Where the first one is."""
    for found in _ESCAPES.finditer(body):
        if found[1] is not None:
            return found.start()
    return None


def _field(body: bytes) -> str | None:
    """The path of the first string that holds one, as in `inputs[0].data[2]`."""
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[str, object]] = [("", plain)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            if not _is_text(value):
                return path or None
        elif isinstance(value, list):
            waiting.extend(
                (f"{path}[{index}]", entry) for index, entry in reversed([*enumerate(value)])
            )
        elif isinstance(value, dict):
            for name, entry in reversed(value.items()):
                if not _is_text(name):
                    return f"{path}: a name in it".removeprefix(": ")
                waiting.append((f"{path}.{name[:_MAX_NAME]}".removeprefix("."), entry))
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
