"""A trial at load: does a row get the same answer whoever shares its batch?

Transformers' encoders take a mask for padding, but what they do with it differs: ConvBERT convolves
over padding, FNet mixes it in, BigBird takes another attention after the first short row. And ids
count where a model reads meaning from them: RoBERTa numbers positions by which ids are padding's,
even within a text. So no layout is trusted by its name. Rows of several lengths, with special ids
in awkward places, run alone, and what a layout makes of them must be that.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from predictor.core.errors import StartupError
from predictor.runner.attention import RowLayout
from predictor.runner.checkpoint import first_line
from predictor.runner.networks import PackedTokens, PaddedTokens, Tokens
from predictor.runner.weights import vocabulary_size

# Largest difference over the largest value, of a row alone and in a batch. 16 bits keep 3 to 8 of
# a value's bits after each of some dozens of roundings.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

_LONGEST = 512  # longer rows take seconds on a CPU
_ALIKE = 17
# One is longer than ModernBERT's local window.
_LENGTHS = (_LONGEST, 130, 1, _ALIKE, 3, 64, _ALIKE, _ALIKE)
_EVERY = 3  # one id in so many is an awkward one


class Trial:
    """Rows and what they answer alone, on the model's device.

    `answer` gives [rows, width], the last layer before a softmax: that hides differences.
    """

    def __init__(
        self,
        answer: Callable[[Tokens], Tensor],
        model: PreTrainedModel,
        max_tokens: int,
        pad_id: int,
        special_ids: Sequence[int] = (),
    ) -> None:
        self._answer = answer
        self._device = model.device
        self._pad_id = pad_id
        self.tolerance = TOLERANCE[model.dtype]
        size = vocabulary_size(model)
        awkward = sorted({pad_id, 0, size - 1, *(each for each in special_ids if each < size)})
        lengths = [min(length, max_tokens) for length in _LENGTHS]
        self._alike = min(_ALIKE, max_tokens)
        rng = np.random.default_rng(0)
        self._rows = [
            torch.from_numpy(_row(rng, length, size, awkward)).to(model.device)
            for length in lengths
        ]
        self._alone: list[Tensor] = []

    @torch.inference_mode()
    def run_alone(self, name: str) -> None:
        """To be called first. The longest row goes first and once more at the end.

        Raises StartupError if the model does not run, or answers a row in more than one way.
        """
        try:
            self._alone = [self._padded([index]) for index in range(len(self._rows))]
            again = self._padded([0])
        except Exception as error:  # whatever it is, the model cannot serve
            raise StartupError(
                f"model {name!r} loads but does not run on {self._device}: {first_line(error)};"
                " use another checkpoint"
            ) from None
        if not all(bool(answer.isfinite().all()) for answer in self._alone):
            raise StartupError(
                f"model {name!r} answers with values that are not finite; its weights are"
                " damaged, or too large for the dtype: try dtype float32"
            )
        if not self._differ(again, [0]) <= self.tolerance:
            raise StartupError(
                f"model {name!r} does not answer the same row in the same way twice: what it"
                " answers depends on what it ran before; use a checkpoint of another family"
            )

    @torch.inference_mode()
    def padded_difference(self) -> float:
        """Of rows beside longer ones, relative to the largest value."""
        longest, *others = range(len(self._rows))
        shortest = min(others, key=lambda index: len(self._rows[index]))
        return max(
            self._differ(self._padded(batch), batch) for batch in (others, [longest, shortest])
        )

    @torch.inference_mode()
    def equal_difference(self) -> float:
        """Of rows beside others of their length."""
        batch = [index for index, row in enumerate(self._rows) if len(row) == self._alike]
        return self._differ(self._padded(batch), batch)

    @torch.inference_mode()
    def packed_difference(self) -> float:
        """Of all rows, one behind the other."""
        lengths = [len(row) for row in self._rows]
        bounds = [0, *np.cumsum(lengths).tolist()]
        starts = torch.tensor(bounds, dtype=torch.int32, device=self._device)
        layout = RowLayout(starts, max(lengths), bounds)
        packed = self._answer(PackedTokens(torch.cat(self._rows), layout))
        return self._differ(packed, range(len(self._rows)))

    def _padded(self, batch: Sequence[int]) -> Tensor:
        rows = [self._rows[index] for index in batch]
        shape = len(rows), max(map(len, rows))
        ids = torch.full(shape, self._pad_id, dtype=torch.int64, device=self._device)
        mask = torch.zeros(shape, dtype=torch.int64, device=self._device)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return self._answer(PaddedTokens(ids, mask))

    def _differ(self, answers: Tensor, batch: Sequence[int]) -> float:
        alone = torch.cat([self._alone[index] for index in batch])
        return float((answers - alone).abs().max() / alone.abs().max())


def _row(
    rng: np.random.Generator, length: int, size: int, awkward: Sequence[int]
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    ids = rng.integers(0, size, length)
    if length < _EVERY:  # not made of padding's id alone, which has no meaning
        return ids
    places = rng.random(length) < 1 / _EVERY
    ids[places] = rng.choice(awkward, int(places.sum()))
    return ids
