"""Attention over pages is softmax(Q K^T) V over a row's positions, however they are split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from predictor.runner.kernels.attention import (
    HeadShape,
    attend_chunks,
    attend_decodes,
    block_positions,
    part_items,
    splits_of,
)
from predictor.runner.paged_memory import PAGE_TOKENS
from tests.runner.kernels import DEVICE

# Groups of 1 to 8 query heads to a key head; sizes that are a power of two, and others.
SHAPES = [(4, 2, 16), (3, 1, 64), (8, 1, 10), (2, 2, 80), (4, 1, 64)]
WINDOWS = [0, 20]
NO_ROW = 7.5  # what is in the output where no row is
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Span:
    """Positions `start` to `end` of the row in `slot`."""

    slot: int
    start: int
    end: int

    @property
    def tokens(self) -> int:
        return self.end - self.start


class World:
    """Rows in pages that lie in any order. Whatever is not a row's is no number."""

    def __init__(
        self,
        heads: HeadShape,
        ends: Sequence[int],
        dtype: torch.dtype = torch.float32,
        *,
        by_head: bool = True,
        key_scale: float = 1.0,
    ) -> None:
        random = torch.Generator().manual_seed(len(ends))
        self.heads, self.dtype = heads, dtype
        self.rows = [
            torch.randn(2, end, heads.kv_heads, heads.size, generator=random).to(dtype)
            for end in ends
        ]
        for row in self.rows:
            row[0] *= key_scale
        most = max(math.ceil(end / PAGE_TOKENS) for end in ends)
        pages = torch.randperm(len(ends) * most, generator=random).view(len(ends), most)
        size = [PAGE_TOKENS, heads.kv_heads, heads.size]
        if by_head:
            size[0], size[1] = size[1], size[0]
        memory = torch.full((2, len(ends) * most + 1, *size), math.nan, dtype=dtype)
        if by_head:
            memory = memory.transpose(2, 3)
        for row, own in zip(self.rows, pages, strict=True):
            for position in range(row.shape[1]):
                page, offset = own[position // PAGE_TOKENS], position % PAGE_TOKENS
                memory[:, page, offset] = row[:, position]
        self.keys, self.values = memory.to(DEVICE)
        nobody = torch.full((1, most), len(ends) * most)
        self.tables = torch.cat((pages, nobody)).int().to(DEVICE)
        self.random = random

    def queries(self, tokens: int) -> Tensor:
        """Lines as the product of queries, keys and values makes them."""
        width = (self.heads.heads + 2 * self.heads.kv_heads) * self.heads.size
        return torch.randn(tokens, width, generator=self.random).to(self.dtype)

    def out(self, tokens: int) -> Tensor:
        width = self.heads.heads * self.heads.size
        return torch.full((tokens, width), NO_ROW, dtype=self.dtype, device=DEVICE)

    def expected(self, span: Span, lines: Tensor, window: int) -> Tensor:
        """[tokens, heads * size] in float32, all at once."""
        heads = self.heads
        query = lines[:, : heads.heads * heads.size].view(-1, heads.heads, heads.size).float()
        keys, values = self.rows[span.slot][:, : span.end].repeat_interleave(heads.group, 2).float()
        scores = torch.einsum("qhd,khd->hqk", query, keys) * heads.size**-0.5
        own = torch.arange(span.start, span.end)[:, None]
        at = torch.arange(span.end)
        seen = (at <= own) & ((at > own - window) if window else True)
        weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, values).flatten(1)

    def agrees(self, made: Tensor, span: Span, lines: Tensor, window: int) -> None:
        torch.testing.assert_close(
            made.cpu().float(),
            self.expected(span, lines, window),
            rtol=0,
            atol=TOLERANCE[self.dtype],
        )


def decode(world: World, ends: Sequence[int], room: int, window: int = 0, layers: int = 1) -> None:
    """All rows decode at their last position, in a launch for `room` rows."""
    heads = world.heads
    spans = [Span(slot, end - 1, end) for slot, end in enumerate(ends)]
    # Those that are not there belong to the slot past the last.
    slots = torch.full((room,), len(ends), dtype=torch.int32)
    positions = torch.zeros(room, dtype=torch.int32)
    for index, span in enumerate(spans):
        slots[index], positions[index] = span.slot, span.start
    lines, out = world.queries(room), world.out(room)
    parts = torch.full((part_items(room, heads),), math.nan, device=DEVICE)
    arrivals = torch.zeros((room, heads.kv_heads), dtype=torch.int32, device=DEVICE)
    counts = torch.tensor([len(spans), 0, 0, 0], dtype=torch.int32, device=DEVICE)
    for _ in range(layers):  # one after the other, in the same room for parts
        attend_decodes(
            heads, lines.to(DEVICE), world.keys, world.values, out, parts, arrivals, world.tables,
            counts, slots.to(DEVICE), positions.to(DEVICE), room, window,
        )  # fmt: skip
        for index, span in enumerate(spans):
            world.agrees(out[index : index + 1], span, lines[index : index + 1], window)
        assert not arrivals.any()
    assert (out[len(spans) :] == NO_ROW).all()


def attend(world: World, spans: Sequence[Span], window: int = 0, first: int = 2) -> None:
    """Chunks, behind `first` tokens of others, in a launch with room for two blocks more."""
    heads, block = world.heads, block_positions(world.heads)
    blocks, at = [], first
    for span in spans:
        for start in range(span.start, span.end, block):
            token = at + start - span.start
            blocks.append((span.slot, token, start, min(block, span.end - start)))
        at += span.tokens
    counts = torch.tensor([first, len(blocks), 0, 0], dtype=torch.int32, device=DEVICE)
    blocks += [(len(world.rows), 0, 0, block)] * 2
    lines, out = world.queries(at), world.out(at)
    attend_chunks(
        heads, lines.to(DEVICE), world.keys, world.values, out, world.tables, counts,
        torch.tensor(blocks, dtype=torch.int32, device=DEVICE), window,
    )  # fmt: skip
    assert (out[:first] == NO_ROW).all()
    for span in spans:
        end = first + span.tokens
        world.agrees(out[first:end], span, lines[first:end], window)
        first = end


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_that_decode(shape: tuple[int, int, int], window: int) -> None:
    heads, ends = HeadShape(*shape), (1, 16, 65)
    room = 40
    assert splits_of(room, heads.kv_heads) == 4
    decode(World(heads, ends), ends, room, window)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_chunks(shape: tuple[int, int, int], window: int) -> None:
    """From a prompt's beginning, behind what was computed before, over the ends of pages."""
    spans = [Span(0, 0, 1), Span(1, 0, 33), Span(2, 15, 18), Span(3, 47, 70)]
    attend(World(HeadShape(*shape), [span.end for span in spans]), spans, window)


@pytest.mark.parametrize(("room", "splits"), [(2, 16), (64, 4), (200, 1)])
def test_a_context_is_split_where_few_rows_decode(room: int, splits: int) -> None:
    """Also where it is shorter than its parts are many, and the last of them have nothing."""
    heads = HeadShape(2, 1, 16)
    assert splits_of(room, heads.kv_heads) == splits
    ends = (2, 200)
    decode(World(heads, ends), ends, room, layers=2)


@pytest.mark.parametrize("window", [1, 100])
def test_a_window_of_one_position_or_longer_than_the_context(window: int) -> None:
    world = World(HeadShape(2, 1, 16), (40,))
    decode(world, (40,), 1, window)
    attend(world, [Span(0, 7, 40)], window)


def test_scores_may_be_far_apart() -> None:
    """The online softmax goes on from its largest score to one that is far larger."""
    ends = (100, 100)
    world = World(HeadShape(2, 1, 16), ends, key_scale=40.0)
    decode(world, ends, 64)
    attend(world, [Span(0, 90, 100)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits(dtype: torch.dtype) -> None:
    """They are taken in larger blocks."""
    if dtype is torch.bfloat16 and DEVICE.type == "cpu":
        pytest.skip("the interpreter multiplies the bits of bfloat16 as whole numbers")
    ends = (70, 17)
    world = World(HeadShape(4, 2, 16), ends, dtype)
    decode(world, ends, 40)
    attend(world, [Span(0, 40, 70), Span(1, 0, 17)], 9)


def test_pages_may_hold_positions_before_heads() -> None:
    ends = (40, 5)
    world = World(HeadShape(4, 2, 16), ends, by_head=False)
    decode(world, ends, 40)
    attend(world, [Span(0, 20, 40)])
