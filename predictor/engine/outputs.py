"""What a step gave: which rows ended with it, and which tokens are news to a request.

The device holds two steps, so a row that ends with one may have a piece in the next. What that
piece gives is dropped.

This is the path of every token, some hundred thousand times a second: it is one loop, and it makes
no object for a token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from predictor.core.facts import FirstToken
from predictor.core.generation import Sampled
from predictor.core.rows import Piece, Row


@dataclass(slots=True, eq=False)
class StepOutputs:
    """`rows` that were given a token, and their `tokens`, in order; `failed` rows, and of what;
    the rows that `ended` with the step, failed ones among them.

    `firsts` and `gaps` are for whoever counts: rows' first tokens, and how many later ones came in
    a tier so many seconds after the one before.
    """

    rows: list[Row] = field(default_factory=list)
    tokens: list[Sampled] = field(default_factory=list)
    failed: list[tuple[Row, Exception]] = field(default_factory=list)
    ended: list[Row] = field(default_factory=list)
    firsts: list[FirstToken] = field(default_factory=list)
    gaps: dict[tuple[str, float], int] = field(default_factory=dict)


def outputs_of(
    pieces: Sequence[Piece],
    results: Sequence[object],
    started_s: float,
    finished_s: float,
) -> StepOutputs:
    """Take the results of a step into its rows. Pieces that sample nothing give none."""
    outputs = StepOutputs()
    rows, tokens, ended = outputs.rows, outputs.tokens, outputs.ended
    tier, last_s, alike = "", math.nan, 0  # mostly, all rows of a step had a token in the last one
    for piece, result in zip(pieces, results, strict=True):
        row = piece.row
        progress = row.progress
        assert progress is not None
        if progress.ended:
            continue
        if progress.began_s != progress.began_s:
            progress.began_s = started_s
        if result is None:
            continue
        if isinstance(result, Exception):
            progress.ended = True
            ended.append(row)
            outputs.failed.append((row, result))
            continue
        assert isinstance(result, Sampled)
        if not progress.output:
            cached = progress.cached_tokens
            first = FirstToken(row.tier, finished_s - row.arrival_s, row.tokens, cached)
            outputs.firsts.append(first)
        elif progress.last_token_s == last_s and row.tier == tier:
            alike += 1
        else:
            if alike:
                _count(outputs.gaps, tier, finished_s - last_s, alike)
            tier, last_s, alike = row.tier, progress.last_token_s, 1
        if progress.took(result.id, finished_s) is not None:
            ended.append(row)
        rows.append(row)
        tokens.append(result)
    if alike:
        _count(outputs.gaps, tier, finished_s - last_s, alike)
    return outputs


def _count(gaps: dict[tuple[str, float], int], tier: str, gap_s: float, times: int) -> None:
    gaps[tier, gap_s] = gaps.get((tier, gap_s), 0) + times
