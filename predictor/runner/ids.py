"""Rows of token ids: from raw bytes to one array, and results back to raw bytes.

Everything here is done a batch at a time; there is no Python per token. Reductions are called
as ufuncs: an array's own methods go through Python, which takes a rarely used process longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ID_BYTES = 8  # INT64


@dataclass(frozen=True, slots=True, eq=False)
class IdRows:
    """Rows one after the other: `ids` [sum of lengths], `lengths` [b], each at least 1."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PaddedIds:
    """Rows side by side: `ids` [b, longest] INT64, `mask` [b, longest], 1 where a token is real."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def decode_rows(rows: Sequence[bytes]) -> IdRows:
    """The ids of all rows. Raises ValueError for an empty row or one that is cut short."""
    sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    if not np.minimum.reduce(sizes):
        raise ValueError("a row is empty; send at least one id")
    if np.bitwise_or.reduce(sizes) % _ID_BYTES:
        raise ValueError(f"a row is not a whole number of {_ID_BYTES}-byte ids")
    return IdRows(np.frombuffer(b"".join(rows), dtype=np.int64), sizes // _ID_BYTES)


def pack_rows(rows: IdRows, room: int, out: NDArray[np.int32]) -> None:
    """Fill `out` [room + R + 1] for a packed batch of at least these rows and their tokens.

    The ids come first, any id in the tokens left, then the starts of R rows and the end of the
    last, those that are not there of length 0.
    """
    tokens, count = len(rows.ids), len(rows.lengths)
    out[:tokens] = rows.ids
    out[tokens:room] = 0
    out[room] = 0
    rows.lengths.cumsum(out=out[room + 1 : room + 1 + count])
    out[room + 1 + count :] = tokens


def pad_rows(rows: IdRows, pad_id: int) -> PaddedIds:
    """Every row filled on the right with `pad_id` up to the longest."""
    longest = int(rows.lengths.max())
    real = np.arange(longest) < rows.lengths[:, None]
    ids = np.full(real.shape, pad_id, dtype=np.int64)
    ids[real] = rows.ids
    return PaddedIds(ids, real.astype(np.int64))


def encode_results(values: NDArray[Any]) -> list[bytes]:
    """Raw bytes of each row of `values` [b, width]."""
    raw = np.ascontiguousarray(values).tobytes()
    stride = values.shape[1] * values.itemsize
    return [raw[start : start + stride] for start in range(0, len(raw), stride)]
