"""Requests and answers of the v2 protocol, whatever transport carried them.

Numbers travel as raw little-endian bytes in row-major order. An element of BYTES is a string
where JSON carried it and bytes where raw bytes did; what it means is the task's business.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.base64_data import decode_base64
from predictor.edge.generating import Texts
from predictor.edge.sampling import SamplingFields

MAX_INPUTS = 16
MAX_OUTPUTS = 16
MAX_DIMENSIONS = 8
MAX_STRINGS = 1 << 16  # of BYTES in a tensor: one a row, and --max_rows allows no more rows
MAX_ID_CHARACTERS = 8192
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
    """A named array. `data`: raw bytes of numbers, or each element of BYTES.

    Numbers in rows of different lengths are a list too, of the raw bytes of each row; `shape` is
    then [rows, longest]. Only V1 has them: as one array, a long row would make all others as long.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes | Sequence[str] | Sequence[bytes]

    def array(self) -> NDArray[Any]:
        """The numbers, in shape. Not for BYTES."""
        assert isinstance(self.data, bytes)
        return np.frombuffer(self.data, NUMPY_TYPES[self.datatype]).reshape(tuple(self.shape))

    def each_row(self) -> Iterable[NDArray[Any]]:
        """The numbers of each row. Not for BYTES, nor for more than two dimensions."""
        if isinstance(self.data, bytes):
            return self.array()
        return (np.frombuffer(row, NUMPY_TYPES[self.datatype]) for row in self.data)  # type: ignore[arg-type]


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
            f"input {shown(name)}: datatype {shown(datatype)} is not taken; use one of: "
            + ", ".join(INPUT_DATATYPES)
        )


def element_count(name: str, shape: Sequence[int]) -> int:
    """The product of the dimensions. Raises InvalidRequest for a negative or too many."""
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"input {shown(name)}: shape has over {MAX_DIMENSIONS} dimensions")
    count = 1
    for size in shape:
        if size < 0:
            raise InvalidRequest(
                f"input {shown(name)}: shape {list(shape)} has a negative dimension"
            )
        count *= size
    return count


def check_length(name: str, shape: Sequence[int], elements: int) -> None:
    """Raises InvalidRequest unless the data has as many elements as the shape says."""
    if element_count(name, shape) != elements:
        raise InvalidRequest(
            f"input {shown(name)}: shape {list(shape)} does not match the {elements} elements of"
            " its data; send one for each"
        )


def check_strings(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidRequest for more elements of BYTES than any request has rows."""
    if element_count(name, shape) > MAX_STRINGS:
        raise InvalidRequest(
            f"input {shown(name)}: shape {list(shape)} has over {MAX_STRINGS} elements; send fewer"
            " rows in a request"
        )


def check_json_length(name: str, datatype: str, shape: Sequence[int], data: bytes) -> None:
    """Raises InvalidRequest for JSON that has, by its commas, far more elements than the shape.

    Counted before each of them becomes an object. Exact for numbers; the commas between strings
    are taken for no more than they must be.
    """
    if datatype == BYTES:
        check_strings(name, shape)
        separators = data.count(b'","') // 2  # each string can end in one that is its own
    else:
        separators = data.count(b",")
    rows = math.prod(size for size in shape if size)  # of [n, 0], n - 1 commas part empty rows
    if separators >= max(rows, element_count(name, shape), 1):
        raise InvalidRequest(
            f"input {shown(name)}: shape {list(shape)} does not match its data, which has over"
            f" {separators} elements; send one for each"
        )


def checked_id(request_id: str) -> str:
    """The same. Raises InvalidRequest for one too long to be sent back with every answer."""
    if len(request_id) > MAX_ID_CHARACTERS:
        raise InvalidRequest(f"id: is over {MAX_ID_CHARACTERS} characters; send a shorter one")
    return request_id


def tensor_from_binary(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its raw bytes, as the binary extension and gRPC carry them."""
    check_datatype(name, datatype)
    if datatype == BYTES:
        check_strings(name, shape)
        elements = split_elements(name, raw, element_count(name, shape))
        check_length(name, shape, len(elements))
        return Tensor(name, datatype, shape, elements)
    expected = element_count(name, shape) * _ITEM_SIZES[datatype]
    if len(raw) != expected:
        raise InvalidRequest(
            f"input {shown(name)}: {datatype} of shape {list(shape)} takes {expected} bytes, "
            f"got {len(raw)}"
        )
    return Tensor(name, datatype, shape, raw)


def split_elements(name: str, raw: bytes, most: int = MAX_STRINGS) -> list[bytes]:
    """The elements of a raw BYTES tensor: a 4-byte little-endian length before each.

    One more than `most` at the most, which tells that there are too many.
    """
    elements: list[bytes] = []
    offset = 0
    while offset < len(raw) and len(elements) <= most:
        start = offset + _LENGTH_PREFIX
        length = int.from_bytes(raw[offset:start], "little")
        offset = start + length
        if offset > len(raw):
            raise InvalidRequest(
                f"input {shown(name)}: element {len(elements)} ends after the data; put a 4-byte "
                "little-endian length before each string"
            )
        elements.append(raw[start:offset])
    return elements


def decoded_base64(tensor: Tensor) -> Tensor:
    """A BYTES tensor whose elements came as base64. Raises InvalidRequest, naming the element."""
    elements = []
    for index, element in enumerate(tensor.data):
        text = element.decode("latin-1") if isinstance(element, bytes) else str(element)
        elements.append(decode_base64(text, f"{shown(tensor.name)}[{index}]"))
    return Tensor(tensor.name, tensor.datatype, tensor.shape, elements)


def texts_of(tensor: Tensor) -> list[str]:
    """The elements of BYTES as text. Raises InvalidRequest for one that is not UTF-8."""
    texts = []
    for index, element in enumerate(tensor.data):
        try:
            texts.append(element.decode() if isinstance(element, bytes) else str(element))
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"input {shown(tensor.name)}: element {index} is not UTF-8 text"
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
