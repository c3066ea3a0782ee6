"""Rows from tensors: token ids as they come, and text through a tokenizer."""

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec
from predictor.core.shown import shown
from predictor.edge.tensors import INTEGERS, NUMPY_TYPES, Tensor
from predictor.engine.port import RowInput


def check_rows(name: str, rows: int, limit: int) -> None:
    """Raises InvalidRequest for a request without rows, or with too many."""
    if not 1 <= rows <= limit:
        raise InvalidRequest(f"input {shown(name)} has {rows} rows; send 1 to {limit} in a request")


def check_column(tensor: Tensor) -> None:
    """Raises InvalidRequest unless the tensor has one element for each row."""
    shape = tensor.shape
    if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
        raise InvalidRequest(
            f"input {shown(tensor.name)}: shape must be [n] or [n, 1], not {list(shape)}"
        )


class IdReader:
    """Reads `input_ids` of shape [n, L]; a mask of 0 and 1 leaves out positions."""

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        self._max_rows = max_rows
        self._max_tokens = spec.max_tokens
        self._vocabulary = spec.vocabulary_size
        self._datatype = spec.row_datatype
        self._kind = NUMPY_TYPES[spec.row_datatype]

    def read(self, ids: Tensor, mask: Tensor | None) -> list[RowInput]:
        _check_ids(ids)
        rows, length = ids.shape
        check_rows(ids.name, rows, self._max_rows)
        if (
            mask is None
            and rows == 1
            and ids.datatype == self._datatype
            and isinstance(ids.data, bytes)
        ):
            if self._vocabulary:
                self._check_vocabulary(0, ids.array())
            self._check_length(0, length)
            return [RowInput(ids.data, length)]
        if mask is None:
            return [self._row(index, row) for index, row in enumerate(ids.each_row())]
        keep = _kept(mask, ids)
        return [self._row(index, row[keep[index]]) for index, row in enumerate(ids.array())]

    def tensor(self, instances: Sequence[object]) -> Tensor:
        """Lists of ids, of any lengths, as `input_ids` in rows of their own lengths."""
        check_rows("instances", len(instances), self._max_rows)
        for index, instance in enumerate(instances):
            if not isinstance(instance, list):
                raise InvalidRequest(f"instances[{index}]: must be a list of ids")
            self._check_length(index, len(instance))
        rows = [_packed_ids(index, instance) for index, instance in enumerate(instances)]
        longest = max(map(len, instances))  # type: ignore[arg-type]
        return Tensor("input_ids", "INT64", (len(rows), longest), rows)

    def _row(self, index: int, ids: NDArray[Any]) -> RowInput:
        self._check_length(index, ids.size)
        if self._vocabulary:
            self._check_vocabulary(index, ids)
        return RowInput(ids.astype(self._kind).tobytes(), ids.size)

    def _check_length(self, index: int, tokens: int) -> None:
        if not 1 <= tokens <= self._max_tokens:
            raise InvalidRequest(
                f"input_ids[{index}] has {tokens} ids; send 1 to {self._max_tokens} in a row"
            )

    def _check_vocabulary(self, index: int, ids: NDArray[Any]) -> None:
        wrong = ids[(ids < 0) | (ids >= self._vocabulary)]
        if wrong.size:
            raise InvalidRequest(
                f"input_ids[{index}] holds id {wrong[0]}; this model's vocabulary takes "
                f"0 to {self._vocabulary - 1}"
            )


def _packed_ids(index: int, ids: object) -> bytes:
    try:
        return array("q", msgspec.convert(ids, list[int])).tobytes()
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"instances[{index}]: must be a list of ids: {error}") from None
    except OverflowError:
        raise InvalidRequest(f"instances[{index}]: an id does not fit INT64") from None


def _check_ids(tensor: Tensor) -> None:
    if tensor.datatype not in INTEGERS:
        raise InvalidRequest(
            f"input {shown(tensor.name)}: datatype must be {' or '.join(INTEGERS)}, not"
            f" {tensor.datatype}"
        )
    if len(tensor.shape) != 2:
        raise InvalidRequest(
            f"input {shown(tensor.name)}: shape must be [rows, length], not {list(tensor.shape)}"
        )


def _kept(mask: Tensor, ids: Tensor) -> NDArray[np.bool_]:
    _check_ids(mask)
    if list(mask.shape) != list(ids.shape):
        raise InvalidRequest(
            f"attention_mask: shape {list(mask.shape)} must be that of input_ids, {list(ids.shape)}"
        )
    values = mask.array()
    keep: NDArray[np.bool_] = values == 1
    if not np.all(keep | (values == 0)):
        raise InvalidRequest("attention_mask: every value must be 0 or 1")
    return keep
