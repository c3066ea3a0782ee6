"""Codec of the tasks on text, and of `simulated`, which takes the same token ids."""

from collections.abc import Mapping, Sequence

import numpy as np

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec, Task
from predictor.edge.rows import IdReader
from predictor.edge.tasks import TaskRows, TensorSpec, check_inputs
from predictor.edge.tensors import BYTES, NUMPY_TYPES, Tensor
from predictor.edge.texts import IDS, MASK, TEXT, TextReader, holds_long_text, text_of_instances

_TOKEN_BYTES = NUMPY_TYPES["INT64"].itemsize
_TOKENS_A_CHARACTER = 4
_TOKENS_BESIDE = 64


class TextCodec:
    """One row for each text, or for each row of input_ids."""

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        """`max_rows`: most rows in a request. Raises StartupError for a broken tokenizer."""
        self.spec = spec
        self.outputs = _output_specs(spec)
        self._max_rows = max_rows
        self._ids = IdReader(spec, max_rows)
        self._texts = TextReader(spec, max_rows) if spec.tokenizer_file else None
        self.inputs: Sequence[TensorSpec] = (
            (IDS, MASK) if self._texts is None else (TEXT, IDS, MASK)
        )

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        ids = inputs.get("input_ids")
        if ids is not None and len(inputs) == 1:
            return TaskRows(self._ids.read(ids, None))
        rows = self._read(inputs)
        if isinstance(rows, TaskRows):
            return rows
        assert self._texts is not None
        tokenised = self._texts.tokenise(rows, truncate)
        return TaskRows(tokenised.rows, truncated=tokenised.truncated)

    def decoded_bytes(self, inputs: Mapping[str, Tensor]) -> int:
        texts = inputs["text"].data
        assert not isinstance(texts, bytes)
        # A character is up to four bytes, each a token; a prompt or marks may come with each text.
        tokens = _TOKENS_A_CHARACTER * sum(map(len, texts)) + _TOKENS_BESIDE * len(texts)
        return _TOKEN_BYTES * min(tokens, len(texts) * self.spec.max_tokens)

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        self._read(inputs)

    def _read(self, inputs: Mapping[str, Tensor]) -> TaskRows | list[str]:
        """The rows of ids, or texts that are still to be tokenised."""
        ids = inputs.get("input_ids")
        check_inputs(inputs, self.inputs)
        text = inputs.get("text")
        mask = inputs.get("attention_mask")
        if text is None:
            if ids is None:
                listed = ", ".join(entry.name for entry in self.inputs)
                raise InvalidRequest(f"no input to run; send one of: {listed}")
            return TaskRows(self._ids.read(ids, mask))
        if ids is not None or mask is not None or self._texts is None:
            raise InvalidRequest("send either text, or input_ids with an optional attention_mask")
        return self._texts.read(text)

    def is_heavy(self, inputs: Mapping[str, Tensor]) -> bool:
        return holds_long_text(inputs)

    def instances(self, instances: Sequence[object]) -> dict[str, Tensor]:
        """V1 instances as tensors: strings or {"text": …}, else lists of ids of any length."""
        if not instances:
            raise InvalidRequest("instances: must hold at least one")
        if self._texts is not None:
            return {"text": text_of_instances(instances, self._max_rows)}
        return {"input_ids": self._ids.tensor(instances)}

    def encode(self, results: Sequence[bytes], counts: Sequence[int] | None) -> list[Tensor]:
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
