"""Captured graphs of steps: forwards by size, and choices of tokens by number of rows.

A step is a replay of one of each. Steps of rows that only decode have graphs of their own: they
are short, and what chunks of prompts need is not in them. As for encoders (capture.py), a step runs
in the smallest graph that holds it, and sizes lie so close that little is computed for nothing.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from predictor.runner.fused_decoder import Buffers, FusedDecoder, Sampled, Staged, StepShape
from predictor.runner.kernels.attention import HeadShape, block_positions
from predictor.runner.progress import Progress

_LOG = logging.getLogger("headway.runner")

STEPS_PER_DOUBLING = 4
MOST_TOKENS = 8192  # beyond it launches hide behind the arithmetic
_LEAST_MIXED_TOKENS = 32
_TOKENS_PER_CHUNK = 16  # a graph has room for a chunk for so many of its tokens
_COUNTS = 4  # items, of which two are used
_ALIGNED = 4  # INT32 items: Triton compiles a kernel anew for pointers that are not to 16 bytes
CAPTURE_LIMIT_S = 60.0
MEMORY_SHARE = 0.1  # of what is free on the device when capturing begins


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a step's input lies in a buffer of INT32: counts; tokens, slots and positions of those
    that are given a token; slots, ids and positions of all tokens; blocks."""

    shape: StepShape
    samples: int  # room for them, the same in all layouts

    @property
    def items(self) -> int:
        return self._tokens_end + 4 * self.shape.blocks

    @property
    def _sampled_end(self) -> int:
        return _COUNTS + 3 * aligned(self.samples)

    @property
    def _tokens_end(self) -> int:
        return self._sampled_end + 3 * aligned(self.shape.tokens)

    def views(self, buffer: Any) -> tuple[Any, Any, Any, Any]:
        """Of a tensor or an array: counts, sampled [3, samples], tokens [3, T], blocks [n, 4].

        Each line begins at an aligned item.
        """
        sampled, tokens = self._sampled_end, self._tokens_end
        return (
            buffer[:_COUNTS],
            buffer[_COUNTS:sampled].reshape(3, -1)[:, : self.samples],
            buffer[sampled:tokens].reshape(3, -1)[:, : self.shape.tokens],
            buffer[tokens : self.items].reshape(self.shape.blocks, 4),
        )

    def staged(self, buffer: Tensor) -> Staged:
        counts, _, (slots, ids, positions), blocks = self.views(buffer)
        return Staged(counts, slots, ids, positions, blocks)

    def sampled(self, buffer: Tensor, rows: int) -> Sampled:
        _, sampled, _, _ = self.views(buffer)
        return Sampled(*sampled[:, :rows])


def aligned(items: int) -> int:
    """So many INT32 items, or a few more, so that what follows is aligned."""
    return -(-items // _ALIGNED) * _ALIGNED


def sizes(least: int, most: int) -> list[int]:
    """Whole numbers, `STEPS_PER_DOUBLING` for each doubling, `most` the last."""
    found = {most}
    base = least
    while base < most:
        steps = (base + base * part // STEPS_PER_DOUBLING for part in range(STEPS_PER_DOUBLING))
        found |= {min(size, most) for size in steps}
        base *= 2
    return sorted(found)


def blocks_of(tokens: int, heads: HeadShape) -> int:
    """How many blocks of positions of chunks there is room for among so many tokens."""
    return -(-tokens // block_positions(heads)) + tokens // _TOKENS_PER_CHUNK


def ladder(slots: int, heads: HeadShape, most_tokens: int = MOST_TOKENS) -> list[StepShape]:
    """The steps to capture: rows that decode, then those with chunks of prompts, from small to
    large."""
    decoding = [StepShape(rows, rows) for rows in sizes(1, slots)]
    mixed = [
        StepShape(tokens, min(tokens, slots), blocks_of(tokens, heads))
        for tokens in sizes(_LEAST_MIXED_TOKENS, most_tokens)
    ]
    return [*decoding, *mixed]


class StepGraphs:
    """What was captured of one model. `buffer` holds the input of all, INT32."""

    def __init__(
        self,
        buffer: Tensor,
        samples: int,
        forwards: Sequence[tuple[StepShape, torch.cuda.CUDAGraph]],
        choices: Sequence[tuple[int, torch.cuda.CUDAGraph]],
    ) -> None:
        self.buffer = buffer
        self.samples = samples
        self._forwards = {
            mixed: [
                (Layout(shape, samples), graph)
                for shape, graph in forwards
                if bool(shape.blocks) is mixed
            ]
            for mixed in (False, True)
        }
        self._tokens = {
            mixed: [layout.shape.tokens for layout, _ in found]
            for mixed, found in self._forwards.items()
        }
        self._choices = choices
        self._rows = [rows for rows, _ in choices]

    def forward_for(
        self, singles: int, tokens: int, blocks: int
    ) -> tuple[Layout, torch.cuda.CUDAGraph] | None:
        """The smallest that holds such a step; None where there is none."""
        mixed = blocks > 0
        for found in self._forwards[mixed][bisect_left(self._tokens[mixed], tokens) :]:
            shape = found[0].shape
            if shape.singles >= singles and shape.blocks >= blocks:
                return found
        return None

    def choice_for(self, rows: int) -> torch.cuda.CUDAGraph:
        """The smallest. Where there are graphs of steps, there are those of all choices."""
        return self._choices[bisect_left(self._rows, rows)][1]


def capture(
    decoder: FusedDecoder,
    buffers: Buffers,
    buffer: Tensor,
    shapes: Sequence[StepShape],
    samples: int,
    stream: torch.cuda.Stream,
    *,
    clock: Callable[[], float] = monotonic,
) -> StepGraphs:
    """Capture `shapes`, and choices for as many rows as decode in one of them.

    Within limits of time and memory: what is not captured runs without a graph, slower.
    """
    began_s = clock()
    device = stream.device
    free_before = torch.cuda.mem_get_info(device)[0]
    pool = torch.cuda.graph_pool_handle()
    rows_of = [shape.singles for shape in shapes if not shape.blocks]
    progress = Progress(_LOG, "capturing graphs", len(shapes) + len(rows_of))
    forwards: list[tuple[StepShape, torch.cuda.CUDAGraph]] = []
    choices: list[tuple[int, torch.cuda.CUDAGraph]] = []

    def is_over() -> bool:
        taken = free_before - torch.cuda.mem_get_info(device)[0]
        if clock() - began_s <= CAPTURE_LIMIT_S and taken <= MEMORY_SHARE * free_before:
            return False
        _LOG.warning(
            "%d of %d graphs are captured: time or memory for more is used up; other steps run"
            " without",
            *(len(forwards) + len(choices), len(shapes) + len(rows_of)),
        )
        return True

    for rows in rows_of:
        sampled = Layout(StepShape(rows, rows), samples).sampled(buffer, rows)
        graph = _captured(lambda it=sampled: decoder.choose(it, buffers), stream, pool)  # type: ignore[misc]
        choices.append((rows, graph))
        progress.advance(f"a choice for {rows} rows")
    for shape in shapes:
        if is_over():
            break
        staged = Layout(shape, samples).staged(buffer)
        graph = _captured(
            lambda it=staged, of=shape: decoder.forward(it, of, buffers),  # type: ignore[misc]
            stream,
            pool,
        )
        forwards.append((shape, graph))
        progress.advance(f"{shape.tokens} tokens")
    return StepGraphs(buffer, samples, forwards, choices)


def _captured(
    run: Callable[[], None], stream: torch.cuda.Stream, pool: Any
) -> torch.cuda.CUDAGraph:
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            run()  # kernels are compiled and libraries set up at the first call
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: another model serves already.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            run()
    return graph
