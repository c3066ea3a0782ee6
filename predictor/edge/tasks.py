"""What an edge asks of a task: request tensors to rows, results to output tensors.

A codec is built once from a `ModelSpec` and holds everything that a request needs. To add a
task, write its codec and name it in codecs.py.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec
from predictor.core.shown import shown
from predictor.edge.tensors import Tensor
from predictor.engine.port import RowInput


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output as model metadata describes it; -1 is any size."""

    name: str
    datatype: str
    shape: Sequence[int]


class TaskRows(msgspec.Struct, frozen=True):
    """The rows of a request. `counts`: how many each item of it took; None: one each.

    `truncated`: how many rows lost the end of their text.
    """

    rows: Sequence[RowInput]
    counts: Sequence[int] | None = None
    truncated: int = 0


class TaskCodec(Protocol):
    """What a model takes and gives. Raises InvalidRequest for what it does not take."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        """The rows; `truncate` False refuses a text that has more tokens than a row."""
        ...

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        """Refuse what `rows` would, as far as that can be told without tokenising."""
        ...

    def is_heavy(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether `rows` (or `check`) takes long enough to be worth a thread."""
        ...

    def instances(self, instances: Sequence[object]) -> dict[str, Tensor]:
        """V1 instances as tensors that `rows` takes."""
        ...

    def encode(self, results: Sequence[bytes], counts: Sequence[int] | None) -> list[Tensor]:
        """All outputs, from the results of all rows and the counts that `rows` gave."""
        ...


def check_inputs(inputs: Mapping[str, Tensor], known: Sequence[TensorSpec]) -> None:
    """Raises InvalidRequest for an input that the model does not take."""
    names = [entry.name for entry in known]
    for name in inputs:
        if name not in names:
            raise InvalidRequest(f"input {shown(name)} is unknown; use: {', '.join(names)}")


def check_outputs(names: Sequence[str], known: Sequence[TensorSpec]) -> None:
    """Raises InvalidRequest for an output that the model does not give."""
    given = sorted(entry.name for entry in known)
    for name in names:
        if name not in given:
            raise InvalidRequest(f"output {shown(name)} is unknown; use: {', '.join(given)}")


def choose_outputs(outputs: Sequence[Tensor], names: Sequence[str]) -> Sequence[Tensor]:
    """The outputs named, in that order; all of them where none is named."""
    if not names:
        return outputs
    by_name = {tensor.name: tensor for tensor in outputs}
    return [by_name[name] for name in names]
