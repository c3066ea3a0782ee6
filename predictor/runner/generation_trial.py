"""Does our forward do what transformers does with the same weights? Tried when a model loads.

Prompts go through pages, in chunks and position by position, several rows a step, as in traffic;
transformers takes each whole. The logits of every position are compared.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from predictor.core.errors import StartupError
from predictor.core.generation import Sampling
from predictor.core.model import ModelSpec
from predictor.core.rows import Piece, Progress, Row
from predictor.runner.paged_memory import PAGE_TOKENS


class Tried(Protocol):
    """A runner whose logits can be looked at."""

    spec: ModelSpec

    def logits_of(self, pieces: Sequence[Piece]) -> Sequence[Tensor]: ...


# Of each prompt, the lengths of its chunks.
_CHUNKS: Sequence[Sequence[int]] = ((1, 1, 1), (17, 2, 1), (5, 30, 1), (1, 13, 2))
# Root mean square of the difference over that of the logits. Sums in another order give 1e-6 in
# float32 and 1 to 3% in bfloat16 over many layers; a part that is left out or turned round
# changes far more.
_TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.12}


def compare_forwards(generator: Tried, reference: PreTrainedModel) -> None:
    """Raises StartupError where they differ by more than the number format explains."""
    spec = generator.spec
    rows = [
        _row(spec.name, spec.vocabulary_size, sum(chunks), seed)
        for seed, chunks in enumerate(_CHUNKS)
        if sum(chunks) <= spec.max_tokens
    ]
    ours = _in_pieces(generator, rows)
    worst, largest = 0.0, 0.0
    for row, made in zip(rows, ours, strict=True):
        expected = _whole(reference, row)
        if not torch.isfinite(expected).all():
            raise StartupError(
                f"model {spec.name!r} answers with values that are not finite; its weights are"
                " damaged, or too large for the dtype: try dtype float32"
            )
        apart = made - expected
        ratio = (apart.square().mean() / expected.var().clamp(min=1e-30)).sqrt()
        worst = max(worst, float(ratio.nan_to_num(torch.inf)))
        largest = max(largest, float(apart.abs().max().nan_to_num(torch.inf)))
    dtype = reference.dtype
    if worst > _TOLERANCES[dtype]:
        raise StartupError(
            f"model {spec.name!r} is computed differently by transformers: logits are up to"
            f" {largest:.3g} apart, {worst:.1%} of their spread, where {_TOLERANCES[dtype]:.1%} is"
            f" what {str(dtype).removeprefix('torch.')} explains; the checkpoint has a part that is"
            " not supported here"
        )


def _row(model: str, vocabulary: int, tokens: int, seed: int) -> Row:
    ids = np.random.default_rng(seed).integers(0, vocabulary, tokens)
    progress = Progress(Sampling(max_tokens=1), prefill=tokens)
    return Row(model, "", tokens, 0.0, payload=ids.tobytes(), progress=progress)


def _in_pieces(generator: Tried, rows: Sequence[Row]) -> list[Tensor]:
    """Logits [tokens, vocabulary] of each row."""
    made: list[list[Tensor]] = [[] for _ in rows]
    for pieces in _steps(rows):
        for slot, part in enumerate(generator.logits_of(pieces)):
            made[slot].append(part)
    return [torch.cat(parts) for parts in made]


def _steps(rows: Sequence[Row]) -> Iterator[list[Piece]]:
    """Steps in which each row has a piece. Its pages are not next to each other."""
    starts = [0] * len(rows)
    for step in range(len(_CHUNKS[0])):
        pieces = []
        for slot, row in enumerate(rows):
            start, tokens = starts[slot], _CHUNKS[slot][step]
            end = start + tokens
            pages = range(-(-start // PAGE_TOKENS), -(-end // PAGE_TOKENS))
            owned = tuple(len(rows) * page + slot for page in pages)
            pieces.append(Piece(row, slot, start, tokens, owned, not step, samples=False))
            starts[slot] = end
        yield pieces


def _whole(reference: PreTrainedModel, row: Row) -> Tensor:
    callable_reference: Any = reference
    ids = torch.from_numpy(np.frombuffer(row.payload, np.int64).copy()).to(reference.device)
    with torch.inference_mode():
        logits: Tensor = callable_reference(input_ids=ids[None], use_cache=False).logits[0]
    return logits.float()
