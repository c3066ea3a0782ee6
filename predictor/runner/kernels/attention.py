"""Attention over pages as one Triton kernel, for rows that decode and for chunks of prompts.

A program takes a few positions of one row and the query heads that share one key head, so that
keys and values are read once for all of them, and goes through the row's pages with an online
softmax (FlashAttention, Dao et al., 2022). Where few rows decode, a row's context is split between
programs, which would otherwise be too few to keep the memory busy (Flash-Decoding, Dao et al.,
2023); the last of them to end joins the parts.

What a launch costs depends on its grid alone, and the grid on sizes that are known when a graph is
captured. How many rows and blocks there really are, a program reads from `counts`.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from predictor.runner.paged_memory import PAGE_TOKENS

LOG2_E = 1.4426950408889634
_BLOCK = 64  # keys that a program looks at together; of FP32, half as many
_CHUNK_LINES = 64  # positions times heads of a group that a program takes of a chunk
_LEAST_DOT = 16  # of each side of a product in Triton
_SPLIT_PROGRAMS = 512  # programs that keep the memory of a large device busy
_SPLITS = (16, 4)  # few, because each is compiled


@triton.jit
def _fold(
    state_max,
    state_sum,
    total,
    queries,
    keys,
    values,
    row_table,
    begin,
    stop,
    end,
    own,
    window,
    scale,
    page_stride,
    token_stride,
    HEAD: tl.constexpr,
    HEAD_ROOM: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Take the keys from `begin` to `stop` into the online softmax."""
    offsets = tl.arange(0, BLOCK)
    within = tl.arange(0, HEAD_ROOM)
    for at in range(begin, stop, BLOCK):
        places = at + offsets
        there = places < end
        page = tl.load(row_table + places // PAGE, mask=there, other=0)
        lies = page.to(tl.int64) * page_stride + (places % PAGE) * token_stride
        if MASKED or HEAD != HEAD_ROOM:
            use = there[:, None] & (within < HEAD)[None, :]
            key = tl.load(keys + lies[:, None] + within[None, :], mask=use, other=0.0)
            value = tl.load(values + lies[:, None] + within[None, :], mask=use, other=0.0)
        else:
            key = tl.load(keys + lies[:, None] + within[None, :])
            value = tl.load(values + lies[:, None] + within[None, :])
        scores = tl.dot(queries, tl.trans(key), input_precision=PRECISION) * scale
        if MASKED:
            seen = places[None, :] <= own[:, None]
            seen = seen & ((window == 0) | (places[None, :] > own[:, None] - window))
            scores = tl.where(seen, scores, float("-inf"))
        most = tl.maximum(state_max, tl.max(scores, 1))
        weights = tl.exp2(scores - most[:, None])
        fade = tl.exp2(state_max - most)
        total = total * fade[:, None] + tl.dot(
            weights.to(value.dtype), value, input_precision=PRECISION
        )
        state_sum = state_sum * fade + tl.sum(weights, 1)
        state_max = most
    return state_max, state_sum, total


@triton.jit
def _attend(
    queries,
    keys,
    values,
    out,
    parts,
    arrivals,
    tables,
    counts,
    slots,
    positions,
    blocks,
    scale,
    window,
    query_stride,
    table_stride,
    page_stride,
    head_stride,
    token_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROOM: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_ROOM: tl.constexpr,
    PAGE: tl.constexpr,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    DECODES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    item = tl.program_id(0)
    kv_head = tl.program_id(1)
    if DECODES:
        if item >= tl.load(counts):
            return
        first = item
        slot = tl.load(slots + item)
        start = tl.load(positions + item)
        tokens = 1
    else:
        if item >= tl.load(counts + 1):
            return
        slot = tl.load(blocks + item * 4)
        first = tl.load(blocks + item * 4 + 1)
        start = tl.load(blocks + item * 4 + 2)
        tokens = tl.load(blocks + item * 4 + 3)
    line = tl.arange(0, AT_ONCE * GROUP_ROOM)
    token = line // GROUP_ROOM
    member = line % GROUP_ROOM
    real = (token < tokens) & (member < GROUP)
    within = tl.arange(0, HEAD_ROOM)
    head = kv_head * GROUP + member
    use = real[:, None] & (within < HEAD)[None, :]
    lies = (first + token).to(tl.int64)[:, None] * query_stride
    query = tl.load(queries + lies + head[:, None] * HEAD + within[None, :], mask=use, other=0.0)

    end = start + tokens
    low = tl.where(window > 0, tl.maximum(start - window + 1, 0), 0) // BLOCK * BLOCK
    share = tl.cdiv(tl.cdiv(end - low, BLOCK), SPLITS) * BLOCK
    begin = low + tl.program_id(2) * share
    stop = tl.minimum(begin + share, end)
    # Every query sees all of these keys, so nothing has to be masked.
    plain = tl.where(window > 0, begin, tl.minimum((start + 1) // BLOCK * BLOCK, stop))
    plain = tl.maximum(plain, begin)

    own = start + token
    state_max = tl.full([AT_ONCE * GROUP_ROOM], -1e30, tl.float32)
    state_sum = tl.zeros([AT_ONCE * GROUP_ROOM], tl.float32)
    total = tl.zeros([AT_ONCE * GROUP_ROOM, HEAD_ROOM], tl.float32)
    row_table = tables + slot.to(tl.int64) * table_stride
    head_keys = keys + kv_head * head_stride
    head_values = values + kv_head * head_stride
    state_max, state_sum, total = _fold(
        state_max, state_sum, total, query, head_keys, head_values, row_table, begin, plain, end,
        own, window, scale, page_stride, token_stride,
        HEAD, HEAD_ROOM, PAGE, BLOCK, False, PRECISION,
    )  # fmt: skip
    state_max, state_sum, total = _fold(
        state_max, state_sum, total, query, head_keys, head_values, row_table, plain, stop, end,
        own, window, scale, page_stride, token_stride,
        HEAD, HEAD_ROOM, PAGE, BLOCK, True, PRECISION,
    )  # fmt: skip
    if SPLITS == 1:
        lies = (first + token).to(tl.int64)[:, None] * (KV_HEADS * GROUP * HEAD)
        result = total / state_sum[:, None]
        tl.store(
            out + lies + head[:, None] * HEAD + within[None, :],
            result.to(out.dtype.element_ty),
            mask=use,
        )
    else:
        # Of each row, head and part: the sum, then the largest score, then the sum of weights.
        part = ((item * KV_HEADS * GROUP + head) * SPLITS + tl.program_id(2)) * (HEAD_ROOM + 2)
        at = parts + part.to(tl.int64)
        tl.store(at[:, None] + within[None, :], total, mask=real[:, None])
        tl.store(at + HEAD_ROOM, state_max, mask=real)
        tl.store(at + HEAD_ROOM + 1, state_sum, mask=real)
        # Whichever program comes last joins the parts. All of this one's are written before it is
        # counted, and all of the others' are read after.
        tl.debug_barrier()
        arrived = tl.atomic_add(arrivals + item * KV_HEADS + kv_head, 1, sem="acq_rel")
        if arrived == SPLITS - 1:
            tl.store(arrivals + item * KV_HEADS + kv_head, 0)  # for the next layer
            split = tl.arange(0, SPLITS)
            for each in range(GROUP):
                of_head = (item * KV_HEADS * GROUP + kv_head * GROUP + each).to(tl.int64)
                split_at = parts + (of_head * SPLITS + split) * (HEAD_ROOM + 2)
                most = tl.load(split_at + HEAD_ROOM, cache_modifier=".cg")
                fade = tl.exp2(most - tl.max(most, 0))
                weight = tl.sum(tl.load(split_at + HEAD_ROOM + 1, cache_modifier=".cg") * fade, 0)
                sums = tl.load(split_at[:, None] + within[None, :], cache_modifier=".cg")
                joined = tl.sum(sums * fade[:, None], 0) / weight
                tl.store(
                    out + of_head * HEAD + within,
                    joined.to(out.dtype.element_ty),
                    mask=within < HEAD,
                )


@dataclass(frozen=True, slots=True)
class HeadShape:
    heads: int
    kv_heads: int
    size: int

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads


def splits_of(rows: int, kv_heads: int) -> int:
    """Between how many programs a row's context is split where so many rows decode."""
    for splits in _SPLITS:
        if splits * rows * kv_heads <= _SPLIT_PROGRAMS:
            return splits
    return 1


def block_positions(heads: HeadShape) -> int:
    """How many positions of a chunk one program takes."""
    return max(_CHUNK_LINES // _room(heads.group), 1)


def part_items(rows: int, heads: HeadShape) -> int:
    """The room that the parts of `rows` rows take, in FP32 items."""
    return (
        rows * heads.heads * splits_of(rows, heads.kv_heads) * (_room(heads.size, _LEAST_DOT) + 2)
    )


def attend_decodes(
    heads: HeadShape,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    parts: Tensor,
    arrivals: Tensor,
    tables: Tensor,
    counts: Tensor,
    slots: Tensor,
    positions: Tensor,
    rows: int,
    window: int,
) -> None:
    """Attention of rows that decode: the first `counts[0]` of `rows` tokens, one of each row.

    `query` [tokens, any]: each line begins with a token's query heads. `keys` and `values`
    [pages, PAGE_TOKENS, kv_heads, size], in any order in memory but for the last; `tables` INT32
    [slots, pages of a row]; `slots` and `positions` INT32, of each token; `out` [tokens, heads *
    size]. `parts` FP32 has room for `part_items`, and `arrivals` INT32 [rows, kv_heads] is zeros,
    before and after.
    """
    splits = splits_of(rows, heads.kv_heads)
    at_once = max(_LEAST_DOT // _room(heads.group), 1)
    _launch(
        heads, query, keys, values, out, parts, arrivals, tables, counts, slots, positions,
        counts, (rows, heads.kv_heads, splits), window,
        at_once=at_once, splits=splits, decodes=True,
    )  # fmt: skip


def attend_chunks(
    heads: HeadShape,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    tables: Tensor,
    counts: Tensor,
    blocks: Tensor,
    window: int,
) -> None:
    """Attention of the first `counts[1]` of `blocks` INT32 [n, 4]: slot, first token, its position,
    and how many tokens, at most `block_positions`. The rest as in `attend_decodes`."""
    _launch(
        heads, query, keys, values, out, counts, counts, tables, counts, counts, counts, blocks,
        (len(blocks), heads.kv_heads, 1), window,
        at_once=block_positions(heads), splits=1, decodes=False,
    )  # fmt: skip


def _launch(
    heads: HeadShape,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    parts: Tensor,
    arrivals: Tensor,
    tables: Tensor,
    counts: Tensor,
    slots: Tensor,
    positions: Tensor,
    blocks: Tensor,
    grid: tuple[int, int, int],
    window: int,
    *,
    at_once: int,
    splits: int,
    decodes: bool,
) -> None:
    assert keys.stride() == values.stride()
    assert keys.stride(3) == 1
    wide = query.dtype == torch.float32
    _attend[grid](
        query,
        keys,
        values,
        out,
        parts,
        arrivals,
        tables,
        counts,
        slots,
        positions,
        blocks,
        heads.size**-0.5 * LOG2_E,
        window,
        query.stride(0),
        tables.stride(0),
        keys.stride(0),
        keys.stride(2),
        keys.stride(1),
        KV_HEADS=heads.kv_heads,
        GROUP=heads.group,
        GROUP_ROOM=_room(heads.group),
        HEAD=heads.size,
        HEAD_ROOM=_room(heads.size, _LEAST_DOT),
        PAGE=PAGE_TOKENS,
        AT_ONCE=at_once,
        BLOCK=_BLOCK // 2 if wide else _BLOCK,
        SPLITS=splits,
        DECODES=decodes,
        PRECISION="ieee" if wide else "tf32",
        num_warps=2 if decodes and not wide else 4,
        num_stages=3 if decodes and not wide else 2,
    )


def _room(items: int, least: int = 1) -> int:
    """The next power of two, which Triton's blocks are."""
    return max(int(triton.next_power_of_2(items)), least)
