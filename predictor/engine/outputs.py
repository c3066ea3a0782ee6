"""What a step gave: which rows ended with it, and which tokens are news to a request.

The device holds two steps, so a row that ends with one may have a piece in the next. What that
piece gives is dropped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from predictor.core.generation import Sampled
from predictor.core.rows import Piece, Row


@dataclass(frozen=True, slots=True)
class Output:
    """One row's part of what a step gave: a token, or what went wrong."""

    row: Row
    token: Sampled | None = None
    error: Exception | None = None

    @property
    def ended(self) -> bool:
        progress = self.row.progress
        return progress is not None and progress.ended


def outputs_of(
    pieces: Sequence[Piece],
    results: Sequence[object],
    started_s: float,
    finished_s: float,
) -> list[Output]:
    """Take the results of a step into its rows. Pieces that sample nothing give none."""
    outputs = []
    for piece, result in zip(pieces, results, strict=True):
        row = piece.row
        progress = row.progress
        assert progress is not None
        if progress.ended:
            continue
        if math.isnan(progress.began_s):
            progress.began_s = started_s
        if result is None:
            continue
        if isinstance(result, Exception):
            progress.ended = True
            outputs.append(Output(row, error=result))
            continue
        assert isinstance(result, Sampled)
        progress.took(result.id, finished_s)
        outputs.append(Output(row, result))
    return outputs
