"""Large bodies, decoded so that others get the interpreter in between.

The JSON decoder keeps the interpreter until it returns, on whatever thread it runs: 0.15 s for
16 MiB of numbers, and more for what is not what it should be. So what could hold it for longer is
refused by its outline first (and by its brackets, see json_text), and long rows of numbers are
decoded in pieces.
"""

import re
from array import array
from itertools import chain
from typing import Any

import msgspec

from predictor.core.errors import InvalidRequest
from predictor.edge.tensors import MAX_DIMENSIONS, MAX_INPUTS

_PIECE_BYTES = 1 << 17  # some milliseconds
_MAX_SHAPE_BYTES = 32 * MAX_DIMENSIONS
_INDEX = re.compile(r"`\$\[(\d+)\]")


class _InputOutline(msgspec.Struct):
    shape: msgspec.Raw = msgspec.Raw()


class _Outline(msgspec.Struct):
    inputs: list[msgspec.Raw] = []


_OUTLINE = msgspec.json.Decoder(_Outline)
_INPUT = msgspec.json.Decoder(_InputOutline)


def check_outline(text: bytes) -> None:
    """Raises InvalidRequest where decoding would take long for nothing."""
    try:
        inputs = _OUTLINE.decode(text).inputs
        shapes = [_INPUT.decode(entry).shape for entry in inputs[: MAX_INPUTS + 1]]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return  # it takes no time either to say what is wrong
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"inputs: there are {len(inputs)}; send at most {MAX_INPUTS}")
    for index, shape in enumerate(shapes):
        if len(shape) > _MAX_SHAPE_BYTES:
            raise InvalidRequest(f"inputs[{index}].shape: send at most {MAX_DIMENSIONS} dimensions")


def numbers(
    data: bytes, code: str, flat: msgspec.json.Decoder[Any], nested: msgspec.json.Decoder[Any]
) -> "array[Any] | None":
    """The elements of a JSON array of numbers, flat or nested by rows, as an array of `code`.

    None where decoding the whole says better what is wrong. Raises msgspec.ValidationError.
    """
    text = data.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return None
    by_rows = text[1:].lstrip().startswith(b"[")
    decoder, separator = (nested, b"],") if by_rows else (flat, b",")
    found = array(code)
    count = 0
    start, last = 1, len(text) - 1
    while start <= last:
        cut = text.find(separator, start + _PIECE_BYTES, last)
        end = last if cut < 0 else cut + len(separator) - 1
        try:
            values = decoder.decode(b"[%b]" % text[start:end])
            found += array(code, list(chain.from_iterable(values)) if by_rows else values)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(_shifted(str(error), count)) from None
        except (msgspec.DecodeError, OverflowError):
            return None
        if not values:
            return None
        count += len(values)
        start = end + 1
    return found


def _shifted(problem: str, count: int) -> str:
    return _INDEX.sub(lambda index: f"`$[{int(index[1]) + count}]", problem, count=1)
