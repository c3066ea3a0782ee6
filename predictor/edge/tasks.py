"""Codecs of the tasks: request tensors to rows, results to output tensors.

A codec is built once from a `ModelSpec` and holds everything that a request needs.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec, Task
from predictor.edge.rows import IdReader, TextReader
from predictor.edge.tensors import BYTES, NUMPY_TYPES, Tensor
from predictor.engine.port import RowInput


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output as model metadata describes it; -1 is any size."""

    name: str
    datatype: str
    shape: Sequence[int]


# Tokenising more characters than this at once would hold the event loop too long.
_HEAVY_CHARACTERS = 16_384

_TEXT = TensorSpec("text", BYTES, (-1,))
_IDS = TensorSpec("input_ids", "INT64", (-1, -1))
_MASK = TensorSpec("attention_mask", "INT64", (-1, -1))


class TaskCodec:
    """What a model takes and gives. Raises InvalidRequest for what it does not take."""

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        """`max_rows`: most rows in a request. Raises StartupError for a broken tokenizer."""
        self.spec = spec
        self.outputs = _output_specs(spec)
        self._ids = IdReader(spec, max_rows)
        self._texts = TextReader(spec, max_rows) if spec.tokenizer_file else None
        self.inputs: Sequence[TensorSpec] = (
            (_IDS, _MASK) if self._texts is None else (_TEXT, _IDS, _MASK)
        )
        self._input_names = frozenset(entry.name for entry in self.inputs)
        self._output_names = frozenset(entry.name for entry in self.outputs)

    def rows(self, inputs: Mapping[str, Tensor]) -> list[RowInput]:
        """One row for each text, or for each row of input_ids."""
        ids = inputs.get("input_ids")
        if ids is not None and len(inputs) == 1:
            return self._ids.read(ids, None)
        if not self._input_names.issuperset(inputs):
            unknown = next(name for name in inputs if name not in self._input_names)
            raise InvalidRequest(f"input {unknown!r} is unknown; use: {self._listed_inputs()}")
        text = inputs.get("text")
        mask = inputs.get("attention_mask")
        if text is None:
            if ids is None:
                raise InvalidRequest(f"no input to run; send one of: {self._listed_inputs()}")
            return self._ids.read(ids, mask)
        if ids is not None or mask is not None or self._texts is None:
            raise InvalidRequest("send either text, or input_ids with an optional attention_mask")
        return self._texts.read(text)

    def is_heavy(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether `rows` takes long enough to be worth a thread."""
        text = inputs.get("text")
        if text is None or isinstance(text.data, bytes):
            return False
        return sum(map(len, text.data)) > _HEAVY_CHARACTERS

    def instances(self, instances: Sequence[object]) -> dict[str, Tensor]:
        """V1 instances as tensors: strings or {"text": …}, else lists of ids of any length."""
        if not instances:
            raise InvalidRequest("instances: must hold at least one")
        if self._texts is not None:
            return {"text": self._texts.tensor(instances)}
        ids, mask = self._ids.tensors(instances)
        return {"input_ids": ids, "attention_mask": mask}

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises InvalidRequest for an output that this model does not give."""
        for name in names:
            if name not in self._output_names:
                raise InvalidRequest(
                    f"output {name!r} is unknown; use: " + ", ".join(sorted(self._output_names))
                )

    def encode(self, results: Sequence[bytes], names: Sequence[str] = ()) -> list[Tensor]:
        """The outputs named, in that order; all of them where none is named."""
        outputs = {tensor.name: tensor for tensor in self._all_outputs(results)}
        return [outputs[name] for name in names] if names else list(outputs.values())

    def _all_outputs(self, results: Sequence[bytes]) -> list[Tensor]:
        spec = self.spec
        rows = len(results)
        raw = results[0] if rows == 1 else b"".join(results)
        if spec.task is Task.SIMULATED:
            return [Tensor("checksum", spec.result_datatype, (rows,), raw)]
        if spec.task is Task.TEXT_EMBEDDING:
            return [Tensor("embedding", spec.result_datatype, (rows, spec.result_width), raw)]
        table = np.frombuffer(raw, NUMPY_TYPES[spec.result_datatype]).reshape(rows, -1)
        best = table.argmax(axis=1)
        scores = table[np.arange(rows), best]
        return [
            Tensor("label", BYTES, (rows,), [spec.labels[index] for index in best.tolist()]),
            Tensor("score", spec.result_datatype, (rows,), scores.tobytes()),
            Tensor("probabilities", spec.result_datatype, (rows, spec.result_width), raw),
        ]

    def _listed_inputs(self) -> str:
        return ", ".join(entry.name for entry in self.inputs)


def _output_specs(spec: ModelSpec) -> Sequence[TensorSpec]:
    if spec.task is Task.SIMULATED:
        return (TensorSpec("checksum", spec.result_datatype, (-1,)),)
    if spec.task is Task.TEXT_EMBEDDING:
        return (TensorSpec("embedding", spec.result_datatype, (-1, spec.result_width)),)
    return (
        TensorSpec("label", BYTES, (-1,)),
        TensorSpec("score", spec.result_datatype, (-1,)),
        TensorSpec("probabilities", spec.result_datatype, (-1, spec.result_width)),
    )
