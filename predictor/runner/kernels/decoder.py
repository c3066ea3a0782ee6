"""What a decoder computes between its products, as Triton kernels: one pass over memory each.

A small step is bound by the number of its kernels, a large one by what they read and write. So
what torch takes a dozen kernels for is one: norm; rotation, norms of heads and the write into the
pages; SiLU and its product. All compute in float32, as decoder.py does.

They take launches as wide as a graph was captured for. Tokens that are not there belong to the
slot past the last, whose row has no pages but the one that nobody reads.
"""

import triton
import triton.language as tl
from torch import Tensor

from predictor.runner.paged_memory import PAGE_TOKENS


@triton.jit
def _normed(row, weight, within, use, EPSILON: tl.constexpr, WIDTH: tl.constexpr):
    mean = tl.sum(row * row, 0) / WIDTH
    return row * tl.rsqrt(mean + EPSILON) * tl.load(weight + within, mask=use, other=0.0)


@triton.jit
def _begin(
    ids,
    positions,
    slots,
    last,
    tables,
    frequencies,
    embedding,
    weight,
    places,
    rotations,
    hidden,
    normed,
    table_stride,
    rotation_scale,
    PAGE: tl.constexpr,
    HALF: tl.constexpr,
    HALF_ROOM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROOM: tl.constexpr,
    EPSILON: tl.constexpr,
):
    token = tl.program_id(0)
    slot = tl.load(slots + token).to(tl.int64)
    id_ = tl.load(ids + token).to(tl.int64)
    position = tl.load(positions + token)
    if id_ < 0:
        id_ = tl.load(last + 2 * slot + position % 2).to(tl.int64)
    page = tl.load(tables + slot * table_stride + position // PAGE).to(tl.int64)
    tl.store(places + token, page * PAGE + position % PAGE)
    half = tl.arange(0, HALF_ROOM)
    some = half < HALF
    angle = position.to(tl.float32) * tl.load(frequencies + half, mask=some, other=0.0)
    line = rotations + token * 2 * HALF + half
    tl.store(line, tl.cos(angle) * rotation_scale, mask=some)
    tl.store(line + HALF, tl.sin(angle) * rotation_scale, mask=some)
    within = tl.arange(0, ROOM)
    use = within < WIDTH
    row = tl.load(embedding + id_ * WIDTH + within, mask=use, other=0.0)
    at = token.to(tl.int64) * WIDTH + within
    tl.store(hidden + at, row, mask=use)
    row = _normed(row.to(tl.float32), weight, within, use, EPSILON, WIDTH)
    tl.store(normed + at, row.to(normed.dtype.element_ty), mask=use)


def begin(
    ids: Tensor,
    positions: Tensor,
    slots: Tensor,
    last: Tensor,
    tables: Tensor,
    frequencies: Tensor,
    rotation_scale: float,
    embedding: Tensor,
    weight: Tensor,
    epsilon: float,
    places: Tensor,
    rotations: Tensor,
    hidden: Tensor,
    normed: Tensor,
) -> None:
    """The embeddings of tokens, plain and normed for the first layer, and what all layers need.

    `ids`, `positions` and `slots` INT32 [T]; a negative id stands for what `last` INT32
    [slots, 2] has for even and odd positions. Written are `places` INT64 [T] (page and offset in
    one number), `rotations` FP32 [T, size] (cosines, then sines), `hidden` and `normed` [T, width].
    """
    width, half = embedding.shape[1], len(frequencies)
    _begin[(len(ids),)](
        ids, positions, slots, last, tables, frequencies, embedding, weight, places, rotations,
        hidden, normed, tables.stride(0), rotation_scale,
        PAGE=PAGE_TOKENS, HALF=half, HALF_ROOM=_room(half), WIDTH=width, ROOM=_room(width),
        EPSILON=epsilon, num_warps=_warps(width),
    )  # fmt: skip


@triton.jit
def _norm(hidden, weight, normed, WIDTH: tl.constexpr, ROOM: tl.constexpr, EPSILON: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * WIDTH
    within = tl.arange(0, ROOM)
    use = within < WIDTH
    row = tl.load(hidden + at + within, mask=use, other=0.0).to(tl.float32)
    row = _normed(row, weight, within, use, EPSILON, WIDTH)
    tl.store(normed + at + within, row.to(normed.dtype.element_ty), mask=use)


def norm(hidden: Tensor, weight: Tensor, epsilon: float, normed: Tensor) -> None:
    """RMSNorm of each line of `hidden` [T, width] into `normed`."""
    width = hidden.shape[1]
    _norm[(len(hidden),)](
        hidden, weight, normed,
        WIDTH=width, ROOM=_room(width), EPSILON=epsilon, num_warps=_warps(width),
    )  # fmt: skip


@triton.jit
def _norm_of(
    hidden,
    tokens,
    weight,
    normed,
    WIDTH: tl.constexpr,
    ROOM: tl.constexpr,
    EPSILON: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64)
    token = tl.load(tokens + line).to(tl.int64)
    within = tl.arange(0, ROOM)
    use = (within < WIDTH) & (token >= 0)
    row = tl.load(hidden + token * WIDTH + within, mask=use, other=0.0).to(tl.float32)
    row = _normed(row, weight, within, use, EPSILON, WIDTH)
    tl.store(normed + line * WIDTH + within, row.to(normed.dtype.element_ty), mask=within < WIDTH)


def norm_of(hidden: Tensor, tokens: Tensor, weight: Tensor, epsilon: float, normed: Tensor) -> None:
    """RMSNorm of those lines of `hidden` [T, width] that `tokens` INT32 [n] names, into `normed`
    [n, width]; of -1 zeros."""
    width = hidden.shape[1]
    _norm_of[(len(tokens),)](
        hidden, tokens, weight, normed,
        WIDTH=width, ROOM=_room(width), EPSILON=epsilon, num_warps=_warps(width),
    )  # fmt: skip


@triton.jit
def _rotate_and_keep(
    joint,
    rotations,
    places,
    head_norms,
    keys,
    values,
    page_stride,
    head_stride,
    token_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HALF_ROOM: tl.constexpr,
    LINES: tl.constexpr,
    PAGE: tl.constexpr,
    NORMS: tl.constexpr,
    EPSILON: tl.constexpr,
):
    """A program takes a token and one key head with the query heads that share it."""
    token = tl.program_id(0)
    kv_head = tl.program_id(1)
    group: tl.constexpr = HEADS // KV_HEADS
    size: tl.constexpr = 2 * HALF
    line = tl.arange(0, LINES)
    half = tl.arange(0, HALF_ROOM)
    head = tl.where(line < group, kv_head * group + line, HEADS + kv_head)
    use = (line <= group)[:, None] & (half < HALF)[None, :]
    token_joint = joint + token.to(tl.int64) * (HEADS + 2 * KV_HEADS) * size
    at = token_joint + head[:, None] * size + half[None, :]
    first = tl.load(at, mask=use, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=use, other=0.0).to(tl.float32)
    if NORMS:
        mean = (tl.sum(first * first, 1) + tl.sum(second * second, 1)) / size
        scale = tl.rsqrt(mean + EPSILON)[:, None]
        weight = head_norms + head[:, None] * size + half[None, :]
        # Rounded before it is weighted, as the model was trained.
        first = (first * scale).to(joint.dtype.element_ty).to(tl.float32)
        second = (second * scale).to(joint.dtype.element_ty).to(tl.float32)
        first = first * tl.load(weight, mask=use, other=0.0).to(tl.float32)
        second = second * tl.load(weight + HALF, mask=use, other=0.0).to(tl.float32)
        first = first.to(joint.dtype.element_ty).to(tl.float32)
        second = second.to(joint.dtype.element_ty).to(tl.float32)
    turn = rotations + token * size + half
    cos = tl.load(turn, mask=half < HALF, other=0.0)[None, :]
    sin = tl.load(turn + HALF, mask=half < HALF, other=0.0)[None, :]
    turned_first = (first * cos - second * sin).to(joint.dtype.element_ty)
    turned_second = (second * cos + first * sin).to(joint.dtype.element_ty)
    of_query = use & (line < group)[:, None]
    tl.store(at, turned_first, mask=of_query)
    tl.store(at + HALF, turned_second, mask=of_query)

    place = tl.load(places + token)
    lies = place // PAGE * page_stride + place % PAGE * token_stride + kv_head * head_stride
    of_key = use & (line == group)[:, None]
    kept = keys + lies + line[:, None] * 0 + half[None, :]
    tl.store(kept, turned_first, mask=of_key)
    tl.store(kept + HALF, turned_second, mask=of_key)
    value_at = token_joint + (HEADS + KV_HEADS + kv_head) * size + half
    value = tl.load(value_at, mask=half < HALF, other=0.0)
    tl.store(values + lies + half, value, mask=half < HALF)
    value = tl.load(value_at + HALF, mask=half < HALF, other=0.0)
    tl.store(values + lies + HALF + half, value, mask=half < HALF)


def rotate_and_keep(
    joint: Tensor,
    rotations: Tensor,
    places: Tensor,
    head_norms: Tensor | None,
    epsilon: float,
    keys: Tensor,
    values: Tensor,
    heads: int,
) -> None:
    """Rotate the queries in `joint` [T, (heads + 2 * kv_heads) * size] where they are, and put its
    rotated keys and its values at `places` of `keys` and `values` [pages, tokens, kv_heads, size].

    `head_norms` [heads + kv_heads, size] where heads are normed before.
    """
    kv_heads, size = keys.shape[2:]
    assert keys.stride() == values.stride()
    _rotate_and_keep[(len(joint), kv_heads)](
        joint, rotations, places, joint if head_norms is None else head_norms, keys, values,
        keys.stride(0), keys.stride(2), keys.stride(1),
        HEADS=heads, KV_HEADS=kv_heads, HALF=size // 2, HALF_ROOM=_room(size // 2),
        LINES=_room(heads // kv_heads + 1), PAGE=PAGE_TOKENS, NORMS=head_norms is not None,
        EPSILON=epsilon, num_warps=1 if size * (heads // kv_heads + 1) <= 512 else 4,
    )  # fmt: skip


@triton.jit
def _gate(joint, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    within = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    use = within < WIDTH
    token = tl.program_id(0).to(tl.int64)
    gate = tl.load(joint + token * 2 * WIDTH + within, mask=use, other=0.0).to(tl.float32)
    up = tl.load(joint + token * 2 * WIDTH + WIDTH + within, mask=use, other=0.0)
    gated = gate * tl.sigmoid(gate)
    # Rounded before the product, as the model was trained.
    gated = gated.to(joint.dtype.element_ty).to(tl.float32) * up.to(tl.float32)
    tl.store(out + token * WIDTH + within, gated.to(out.dtype.element_ty), mask=use)


def gate(joint: Tensor, out: Tensor) -> None:
    """SiLU of the first half of each line of `joint` [T, 2 * width], times the second, into `out`
    [T, width]."""
    width = out.shape[1]
    block = min(_room(width), 2048)
    _gate[(len(out), triton.cdiv(width, block))](
        joint, out, WIDTH=width, BLOCK=block, num_warps=_warps(block)
    )


def _room(items: int) -> int:
    """The next power of two, which Triton's blocks are."""
    return int(triton.next_power_of_2(items))


def _warps(items: int) -> int:
    return min(max(_room(items) // 256, 1), 8)
