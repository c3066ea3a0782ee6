"""What an edge asks of a task: request tensors to rows, results to output tensors.

A codec is built once from a `ModelSpec` and holds everything that a request needs. To add a
task, write its codec and name it in codecs.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec
from predictor.core.shown import shown
from predictor.edge.tensors import BYTES, Tensor, WantedOutput
from predictor.engine.port import RowInput

_TABLE = 2  # dimensions: rows and classes


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output as model metadata describes it; -1 is any size."""

    name: str
    datatype: str
    shape: Sequence[int]


class TaskRows(msgspec.Struct, frozen=True):
    """The rows of a request. `counts`: how many each item of it took; None: one each.

    `truncated`: how many were cut because they were too long.
    """

    rows: Sequence[RowInput]
    counts: Sequence[int] | None = None
    truncated: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        if len(self.rows) == 1:  # most requests are one row
            return len(self.rows[0].payload)
        return sum([len(row.payload) for row in self.rows])


class TaskCodec(Protocol):
    """What a model takes and gives. Raises InvalidRequest for what it does not take."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        """`truncate` False: raises InvalidRequest for what would have to be cut."""
        ...

    def decoded_bytes(self, inputs: Mapping[str, Tensor]) -> int:
        """What `rows` needs at most, found without decoding. Of heavy inputs alone."""
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


def check_outputs(wanted: Sequence[WantedOutput], known: Sequence[TensorSpec]) -> None:
    """Raises InvalidRequest for an output that the model does not give in the form asked for."""
    specs = {entry.name: entry for entry in known}
    for output in wanted:
        spec = specs.get(output.name)
        if spec is None:
            raise InvalidRequest(f"output {shown(output.name)} is unknown; use: {_listed(specs)}")
        if output.classes and not _has_classes(spec):
            fit = _listed(each.name for each in known if _has_classes(each))
            raise InvalidRequest(
                f"output {shown(output.name)}: classification takes FP32 of shape [rows, classes],"
                f" not {spec.datatype} of {list(spec.shape)}; "
                + (f"use: {fit}" if fit else "leave it out")
            )
    if len(wanted) > 1 and len({output.name for output in wanted}) < len(wanted):
        raise InvalidRequest("outputs: one is named twice; name each once")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _has_classes(spec: TensorSpec) -> bool:
    return spec.datatype == "FP32" and len(spec.shape) == _TABLE


def choose_outputs(
    outputs: Sequence[Tensor], wanted: Sequence[WantedOutput], labels: Sequence[str]
) -> Sequence[Tensor]:
    """The outputs wanted, in that order and form; all of them where none is named."""
    if not wanted:
        return outputs
    by_name = {tensor.name: tensor for tensor in outputs}
    return [
        classified(by_name[output.name], output.classes, labels)
        if output.classes
        else by_name[output.name]
        for output in wanted
    ]


def classified(scores: Tensor, classes: int, labels: Sequence[str]) -> Tensor:
    """The largest values of each row of FP32 [rows, width], as BYTES [rows, classes].

    An element is "value:index", with ":label" where there is one for each index, as in Triton's
    classification extension. Equal values come in the order of their indices.
    """
    table = scores.array()
    rows, width = table.shape
    kept = min(classes, width)
    best = np.argsort(-table, axis=1, kind="stable")[:, :kept]
    names = [f":{label}" for label in labels] if len(labels) == width else [""] * width
    elements = [
        f"{value:f}:{index}{names[index]}"
        for row, order in zip(table, best.tolist(), strict=True)
        for index, value in zip(order, row[order].tolist(), strict=True)
    ]
    return Tensor(scores.name, BYTES, (rows, kept), elements)
