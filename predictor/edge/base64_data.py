"""Base64 as common writers produce it: in lines, in a data URI, URL-safe, without padding.

Sources: RFC 4648 (alphabets, padding), RFC 2045 (lines), RFC 2397 (data URIs).
"""

import base64
import re

from predictor.core.errors import InvalidRequest

_DATA_URI = re.compile(r"data:[^,]{0,1024},", re.IGNORECASE)
_LINE_ENDS = re.compile(r"[\r\n]+")
_ALPHABETS = re.compile(r"[A-Za-z0-9+/_-]*={0,4}")
_URL_SAFE = str.maketrans("-_", "+/")
_QUANTUM = 4  # characters, for three bytes


def decode_base64(text: str, name: str) -> bytes:
    """The bytes that `text` encodes. Raises InvalidRequest, which calls it `name`."""
    head = _DATA_URI.match(text := text.strip())
    if head is not None:
        if not head[0][:-1].lower().endswith(";base64"):
            raise _refused(name, "is a data URI without ;base64; encode its data so")
        text = text[head.end() :]
    text = _LINE_ENDS.sub("", text)
    if not _ALPHABETS.fullmatch(text):
        raise _refused(
            name, "is not base64; in JSON, send the bytes so encoded, as base64 -w0 writes them"
        )
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            raise _refused(name, "mixes the two alphabets of base64; use one")
        text = text.translate(_URL_SAFE)
    bare = text.rstrip("=")
    padding = len(text) - len(bare)
    odd = len(bare) % _QUANTUM
    if odd == 1 or (padding and (padding > 2 or (odd + padding) % _QUANTUM)):
        raise _refused(name, "is base64 that was cut off, or padded wrongly; send all of it")
    data = base64.b64decode(bare + "=" * (-odd % _QUANTUM), validate=True)
    # The bits that the last character has to spare are 0, unless there was more of the text.
    if odd and base64.b64encode(data[1 - odd :])[:odd] != bare[-odd:].encode():
        raise _refused(name, "is base64 that was cut off; send all of it")
    return data


def _refused(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {problem}")
