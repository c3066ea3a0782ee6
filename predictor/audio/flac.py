"""What the head of a FLAC file says of its samples: how many, and their MD5.

The library stops at the number that the head declares. Whether these are all is told by the MD5,
which encoders take of every sample. Source: RFC 9639, sections 8.2 and 9.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_STREAMINFO = 4 + 4  # behind the magic and the head of the first block, which it must be
_COUNTS = _STREAMINFO + 10  # rate 20 bits, channels 3, bits a sample 5, samples 36
_MD5 = slice(_COUNTS + 8, _COUNTS + 24)
_WHOLE_BYTES = (8, 16, 24, 32)


class FlacCheck:
    """Takes the MD5 of samples as they are decoded."""

    def __init__(self, data: bytes) -> None:
        counts = int.from_bytes(data[_COUNTS : _COUNTS + 8], "big")
        self._bits = (counts >> 36 & 31) + 1
        self.samples = counts & ((1 << 36) - 1)
        self._declared = data[_MD5]
        self._found = hashlib.md5(usedforsecurity=False)

    @property
    def possible(self) -> bool:
        """Whether the head has an MD5, of samples whose bytes are known."""
        return any(self._declared) and self._bits in _WHOLE_BYTES

    def take(self, block: NDArray[np.int32]) -> None:
        """`block` [n, channels]: samples in the upper bits, as the library gives them."""
        raw = block.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)
        self._found.update(raw[:, 4 - self._bits // 8 :].tobytes())

    @property
    def holds(self) -> bool:
        return self._found.digest() == self._declared
