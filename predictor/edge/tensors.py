"""Requests and answers of the v2 protocol, whatever transport carried them.

Numbers travel as raw little-endian bytes in row-major order. An element of BYTES is a string
where JSON carried it and bytes where raw bytes did; what it means is the task's business.
"""

import base64
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from predictor.core.errors import InvalidRequest
from predictor.edge.generating import Texts
from predictor.edge.sampling import SamplingFields

MAX_INPUTS = 16
MAX_OUTPUTS = 16
MAX_DIMENSIONS = 8
MAX_PRIORITY = 1 << 31
MAX_TIMEOUT_US = (1 << 63) - 1
BYTES = "BYTES"
DEFAULT_VERSION = "1"  # the one that every model has, where a client names versions

NUMPY_TYPES: Mapping[str, np.dtype[np.generic]] = {
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
INTEGERS = ("INT64", "INT32")
INPUT_DATATYPES = (*INTEGERS, "FP32", BYTES)
_ITEM_SIZES = {name: kind.itemsize for name, kind in NUMPY_TYPES.items()}
_LENGTH_PREFIX = 4


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A named array. `data`: raw bytes of numbers, or each element of BYTES."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes | Sequence[str] | Sequence[bytes]

    def array(self) -> NDArray[Any]:
        """The numbers, in shape. Not for BYTES."""
        assert isinstance(self.data, bytes)
        return np.frombuffer(self.data, NUMPY_TYPES[self.datatype]).reshape(tuple(self.shape))


class WantedOutput(msgspec.Struct, frozen=True):
    """An output that the client asks for by name; `binary` None: as the request says.

    `classes`: its largest so many values, with their labels, in place of all of it; 0: as it is.
    """

    name: str
    binary: bool | None = None
    classes: int = 0


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded request. `timeout_us` 0 or None: the client sets no deadline of its own.

    `truncate`: whether text that is too long may be cut; else it is refused.
    """

    id: str
    inputs: Mapping[str, Tensor]
    priority: int | None = None
    timeout_us: int | None = None
    wanted: Sequence[WantedOutput] = ()
    binary: bool = False  # how outputs travel that do not say
    truncate: bool = True
    sampling: SamplingFields | None = None  # asked of generated text, and of nothing else


class InferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back: outputs, and what the request cost in whole microseconds.

    `truncated`: how many of its rows were cut because they were too long.
    """

    model: str
    id: str
    outputs: Sequence[Tensor]
    queue_us: int
    service_us: int
    batch_size: int
    truncated: int = 0
    texts: Texts | None = None  # of rows that generate


def new_id() -> str:
    """A version 4 UUID for a request that came without an id; it keeps no secret."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return "-".join(
        (digits[:8], digits[8:12], f"4{digits[13:16]}", variant + digits[17:20], digits[20:])
    )


def check_datatype(name: str, datatype: str) -> None:
    if datatype not in INPUT_DATATYPES:
        raise InvalidRequest(
            f"input {name!r}: datatype {datatype!r} is not taken; use one of: "
            + ", ".join(INPUT_DATATYPES)
        )


def element_count(name: str, shape: Sequence[int]) -> int:
    """The product of the dimensions. Raises InvalidRequest for a negative or too many."""
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"input {name!r}: shape has over {MAX_DIMENSIONS} dimensions")
    count = 1
    for size in shape:
        if size < 0:
            raise InvalidRequest(f"input {name!r}: shape {list(shape)} has a negative dimension")
        count *= size
    return count


def check_length(name: str, shape: Sequence[int], elements: int) -> None:
    """Raises InvalidRequest unless the data has as many elements as the shape says."""
    if element_count(name, shape) != elements:
        raise InvalidRequest(
            f"input {name!r}: shape {list(shape)} does not match the {elements} elements of its "
            "data; send one for each"
        )


def tensor_from_binary(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its raw bytes, as the binary extension and gRPC carry them."""
    check_datatype(name, datatype)
    if datatype == BYTES:
        elements = split_elements(name, raw)
        check_length(name, shape, len(elements))
        return Tensor(name, datatype, shape, elements)
    expected = element_count(name, shape) * _ITEM_SIZES[datatype]
    if len(raw) != expected:
        raise InvalidRequest(
            f"input {name!r}: {datatype} of shape {list(shape)} takes {expected} bytes, "
            f"got {len(raw)}"
        )
    return Tensor(name, datatype, shape, raw)


def split_elements(name: str, raw: bytes) -> list[bytes]:
    """The elements of a raw BYTES tensor: a 4-byte little-endian length before each."""
    elements: list[bytes] = []
    offset = 0
    while offset < len(raw):
        start = offset + _LENGTH_PREFIX
        length = int.from_bytes(raw[offset:start], "little")
        offset = start + length
        if offset > len(raw):
            raise InvalidRequest(
                f"input {name!r}: element {len(elements)} ends after the data; put a 4-byte "
                "little-endian length before each string"
            )
        elements.append(raw[start:offset])
    return elements


def decoded_base64(tensor: Tensor) -> Tensor:
    """A BYTES tensor whose elements came as base64. Raises InvalidRequest, naming the element."""
    elements = []
    for index, element in enumerate(tensor.data):
        text = element if isinstance(element, bytes) else str(element).encode()
        try:
            elements.append(base64.b64decode(b"".join(text.split()), validate=True))
        except ValueError:
            raise InvalidRequest(
                f"input {tensor.name!r}: element {index} is not base64, which its content_type says"
            ) from None
    return Tensor(tensor.name, tensor.datatype, tensor.shape, elements)


def texts_of(tensor: Tensor) -> list[str]:
    """The elements of BYTES as text. Raises InvalidRequest for one that is not UTF-8."""
    texts = []
    for index, element in enumerate(tensor.data):
        try:
            texts.append(element.decode() if isinstance(element, bytes) else str(element))
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"input {tensor.name!r}: element {index} is not UTF-8 text"
            ) from None
    return texts


def raw_bytes(tensor: Tensor) -> bytes:
    """A tensor as the binary extension and gRPC carry it."""
    if isinstance(tensor.data, bytes):
        return tensor.data
    parts = []
    for element in tensor.data:
        encoded = element if isinstance(element, bytes) else element.encode()
        parts.append(len(encoded).to_bytes(_LENGTH_PREFIX, "little"))
        parts.append(encoded)
    return b"".join(parts)
