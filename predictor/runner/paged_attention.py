"""Attention over pages by what torch has everywhere: gather, then scaled_dot_product_attention.

The reference, and what runs on a CPU. Rows that decode are gathered together, in groups of about
one length, so that no more than half of what is gathered is filling; a chunk of a prompt stands
alone. The query heads that share a key head are taken as queries of one position each where rows
decode, so that keys need not be repeated for them.

A position sees itself and what came before it, no further back than the layer's window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from predictor.runner.paged_memory import PAGE_TOKENS, PagedMemory


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row's part of a step: `tokens` positions from `start`, the step's tokens from `first`."""

    slot: int
    first: int
    start: int
    tokens: int

    @property
    def end(self) -> int:
        return self.start + self.tokens

    @property
    def pages(self) -> int:
        return -(-self.end // PAGE_TOKENS)


class GatheredAttention:
    """The attention of one step, in every layer; see decoder.Attend."""

    def __init__(
        self,
        memory: PagedMemory,
        rows: Sequence[StepRow],
        places: Tensor,
        windows: Sequence[int],
    ) -> None:
        """`places` INT64 [T]: where the step's tokens go."""
        self._memory = memory
        self._places = places
        self._windows = windows
        self._chunks = [_Chunk(memory, row) for row in rows if row.tokens > 1]
        decoding: dict[int, list[StepRow]] = {}
        for row in rows:
            if row.tokens == 1:
                decoding.setdefault(row.pages.bit_length(), []).append(row)
        self._groups = [_Group(memory, group) for group in decoding.values()]
        self._alone = len(self._groups) == 1 and not self._chunks

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self._memory.write(layer, self._places, key, value)
        keys, values = self._memory.keys[layer], self._memory.values[layer]
        window = self._windows[layer]
        if self._alone:
            return self._groups[0].attend(query, keys, values, window)
        out = query.new_empty(len(query), query.shape[1] * query.shape[2])
        for group in self._groups:
            out[group.tokens] = group.attend(query[group.tokens], keys, values, window)
        for chunk in self._chunks:
            out[chunk.tokens] = chunk.attend(query[chunk.tokens], keys, values, window)
        return out


class _Group:
    """Rows that decode: one query each."""

    def __init__(self, memory: PagedMemory, rows: Sequence[StepRow]) -> None:
        device = memory.tables.device
        longest = max(row.pages for row in rows)
        slots, self.tokens, ends = torch.tensor(
            [[row.slot, row.first, row.end] for row in rows], device=device
        ).unbind(1)
        self._ends = ends[:, None]
        self._count = len(rows)
        self._length = rows[0].end if len(rows) == 1 else longest * PAGE_TOKENS
        self._alike = all(row.end == self._length for row in rows)
        table = memory.tables[slots, :longest]
        # A table goes on with what an earlier row in this slot had there.
        used = torch.arange(longest, device=device) * PAGE_TOKENS < self._ends
        self._pages = torch.where(used, table, memory.pages).flatten()
        self._masks: dict[int, Tensor | None] = {}

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
        """`query` [R, heads, size] to [R, heads * size]."""
        rows, heads, size = query.shape
        kv_heads = keys.shape[2]
        key, value = (
            pages.index_select(0, self._pages)
            .view(rows, -1, kv_heads, size)[:, : self._length]
            .transpose(1, 2)
            for pages in (keys, values)
        )
        grouped = query.reshape(rows, kv_heads, heads // kv_heads, size)
        out = functional.scaled_dot_product_attention(
            grouped, key, value, attn_mask=self._mask(window)
        )
        return out.reshape(rows, heads * size)

    def _mask(self, window: int) -> Tensor | None:
        if window not in self._masks:
            self._masks[window] = self._make_mask(window)
        return self._masks[window]

    def _make_mask(self, window: int) -> Tensor | None:
        """True where a row may look, [R, 1, 1, length]."""
        if self._alike and not 0 < window < self._length:
            return None
        at = torch.arange(self._length, device=self._pages.device)
        seen = at < self._ends
        if window:
            seen = seen & (at >= self._ends - window)
        return seen[:, None, None]


class _Chunk:
    """Several positions of one row."""

    def __init__(self, memory: PagedMemory, row: StepRow) -> None:
        self.tokens = slice(row.first, row.first + row.tokens)
        self._row = row
        self._pages = memory.tables[row.slot, : row.pages]
        self._masks: dict[int, Tensor | None] = {}

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
        """`query` [tokens, heads, size] to [tokens, heads * size]."""
        key, value = (
            pages.index_select(0, self._pages).flatten(0, 1)[: self._row.end].transpose(0, 1)[None]
            for pages in (keys, values)
        )
        mask = self._mask(window)
        out = functional.scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=query.shape[1] != keys.shape[2],
        )
        return out[0].transpose(0, 1).reshape(self._row.tokens, -1)

    def _mask(self, window: int) -> Tensor | None:
        if window not in self._masks:
            self._masks[window] = self._make_mask(window)
        return self._masks[window]

    def _make_mask(self, window: int) -> Tensor | None:
        """True where a position may look, [tokens, end]; None: where only causality counts."""
        row = self._row
        if row.start == 0 and not 0 < window < row.end:
            return None
        at = torch.arange(row.end, device=self._pages.device)
        own = at[row.start :, None]
        seen = at <= own
        if window:
            seen = seen & (at > own - window)
        return seen
