"""Captured graphs: a whole packed batch as one launch.

Small batches on a GPU are bound by launches: BERT-base issues some 300 kernels, which takes
Python 4 to 7 ms whatever the batch. A CUDA graph records them once and replays them in one
call. A graph has fixed shapes, so there is one for each step of a ladder of sizes, and a
batch runs in the smallest step that holds it: its own tokens first, unused tokens behind
them, unused rows of length 0. Steps lie so close that little is computed for nothing.

All graphs share one memory pool, because only one replays at a time.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from predictor.core.model import Step
from predictor.runner.attention import RowLayout
from predictor.runner.networks import Network, PackedTokens
from predictor.runner.progress import Progress

_LOG = logging.getLogger("headway.runner")

SMALLEST_TOKENS = 64
STEPS_PER_DOUBLING = 4
LARGEST_TOKENS = 16_384  # beyond it launches hide behind the arithmetic
# Each size is captured for rows of usual length and for short ones. Attention looks at every
# row that a step has room for: on an H100, 8,192 tokens take 4.24 ms with room for 128 rows
# and 4.98 ms with room for 1,024.
TOKENS_PER_ROW = (48, 8)
FEWEST_ROWS = 8
MOST_ROWS = 1024

CAPTURE_LIMIT_S = 60.0
MEMORY_SHARE = 0.25  # of what is free on the device when capturing begins


def ladder(largest_tokens: int = LARGEST_TOKENS) -> list[Step]:
    """The steps to capture, from small to large."""
    sizes = []
    base = SMALLEST_TOKENS
    while base < largest_tokens:
        sizes += [base + base * part // STEPS_PER_DOUBLING for part in range(STEPS_PER_DOUBLING)]
        base *= 2
    return [
        Step(tokens, rows)
        for tokens in (*sizes, base)
        if tokens <= largest_tokens
        for rows in sorted({_rows(tokens, per_row) for per_row in TOKENS_PER_ROW})
    ]


def _rows(tokens: int, tokens_per_row: int) -> int:
    return min(max(tokens // tokens_per_row, FEWEST_ROWS), MOST_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """`input` INT32 [tokens + rows + 1] holds the ids, then the rows' starts; `output` FP32
    [rows, width] is what the network makes of them."""

    step: Step
    input: Tensor
    output: Tensor
    graph: torch.cuda.CUDAGraph


class Graphs:
    """The captured steps of one model."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = list(graphs)
        self._tokens = [each.step.tokens for each in graphs]
        self.steps = tuple(each.step for each in graphs)

    def smallest_for(self, tokens: int, rows: int) -> Graph | None:
        """None where the batch is larger than every step."""
        for graph in self._graphs[bisect_left(self._tokens, tokens) :]:
            if graph.step.rows >= rows:
                return graph
        return None


def capture(
    network: Network,
    steps: Sequence[Step],
    stream: torch.cuda.Stream,
    max_tokens: int,
    *,
    clock: Callable[[], float] = monotonic,
) -> Graphs:
    """Capture the steps, from the smallest, within the limits of time and memory.

    `max_tokens` is the longest row there can be. A step that cannot be captured ends it: what
    is larger runs without a graph.
    """
    device = stream.device
    began_s = clock()
    free_before = torch.cuda.mem_get_info(device)[0]
    pool = torch.cuda.graph_pool_handle()
    graphs: list[Graph] = []
    progress = Progress(_LOG, "capturing graphs", len(steps))
    for step in steps:
        took_s = clock() - began_s
        taken = free_before - torch.cuda.mem_get_info(device)[0]
        if took_s > CAPTURE_LIMIT_S or taken > MEMORY_SHARE * free_before:
            _LOG.warning(
                "graphs end at %d tokens: %.0f s and %.1f GiB are used up; larger batches run"
                " without",
                *(graphs[-1].step.tokens if graphs else 0, took_s, taken / 2**30),
            )
            break
        try:
            graphs.append(_capture_one(network, step, stream, pool, max_tokens))
        except RuntimeError as error:  # a kernel that cannot be captured, or no memory
            _LOG.warning("no graph for %d tokens: %s", step.tokens, str(error).splitlines()[0])
            break
        progress.advance(f"{step.tokens} tokens")
    return Graphs(graphs)


def _capture_one(
    network: Network,
    step: Step,
    stream: torch.cuda.Stream,
    pool: Any,
    max_tokens: int,
) -> Graph:
    staged = torch.zeros(step.tokens + step.rows + 1, dtype=torch.int32, device=stream.device)
    starts = staged[step.tokens :]
    ends = torch.arange(step.rows + 1, device=stream.device) * step.tokens // step.rows
    starts.copy_(ends)
    longest = min(step.tokens, max_tokens)

    def run() -> Tensor:
        return network(PackedTokens(staged[: step.tokens], RowLayout(starts, longest)))

    # `staged` is made outside: inference tensors may not be written to elsewhere.
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            run()  # libraries set themselves up at the first call, which cannot be captured
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: another model serves already.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            output = run()
    return Graph(step, staged, output, graph)
