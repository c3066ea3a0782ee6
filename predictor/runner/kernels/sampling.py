"""The choice of tokens as one Triton kernel: a program for each row, by that row's parameters.

It does what sampling.py does for temperature, `min_p`, `top_k` and `top_p`, in the same order and
with the same number drawn, so that it may be part of a captured graph. A greedy row ends after one
pass over its logits. The least weight that `top_k` or `top_p` keeps is found by its bits, three at
a time: ten passes over logits that lie in the cache, where sorting would take longer.

What else a row may ask for (biases, penalties, logprobs), sampling.py does after it.
"""

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from predictor.core.generation import Sampling

# Of a slot's line of parameters: a seed of two words, temperature, top_p and min_p as the bits of
# FP32, top_k.
PARAMETERS = 8
_TEMPERATURE: tl.constexpr = tl.constexpr(2)
_TOP_P: tl.constexpr = tl.constexpr(3)
_MIN_P: tl.constexpr = tl.constexpr(4)
_TOP_K: tl.constexpr = tl.constexpr(5)
NOT_FINITE = -1  # instead of an id

_BLOCK = 4096
_NONE: tl.constexpr = tl.constexpr(2**31 - 1)


@triton.jit
def _finalise(state):
    """As in sampling.py."""
    golden: tl.constexpr = 0x9E3779B97F4A7C15
    first: tl.constexpr = 0xBF58476D1CE4E5B9
    second: tl.constexpr = 0x94D049BB133111EB
    state = state + golden
    state = (state ^ (state >> 30)) * first
    state = (state ^ (state >> 27)) * second
    return state ^ (state >> 31)


@triton.jit
def _uniform(seed, position):
    """A number in [0, 1), FP64."""
    golden: tl.constexpr = 0x9E3779B97F4A7C15
    stepped = _finalise(seed.to(tl.uint64)) + position.to(tl.uint64) * golden
    return (_finalise(stepped) >> 11).to(tl.int64).to(tl.float64) * (1.0 / (1 << 53))


@triton.jit
def _weights(row, at, most, temperature, min_p, VOCABULARY: tl.constexpr):
    """What the tokens at `at` weigh, the likeliest 1."""
    there = at < VOCABULARY
    logits = tl.load(row + at, mask=there, other=float("-inf")).to(tl.float32)
    weights = tl.exp((logits - most) / temperature)
    return tl.where(weights >= min_p, weights, 0.0)


@triton.jit
def _least_kept(
    row,
    most,
    temperature,
    min_p,
    kept,
    needed,
    COUNTS: tl.constexpr,
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Bits of the largest weight such that what is as large comes to `needed`, counted or summed.

    Of what has at least the bits `kept`.
    """
    digit = tl.arange(0, 8)
    least = tl.zeros([], tl.int32)
    for step in range(10):
        shift = 27 - 3 * step
        candidates = least + (digit << shift)
        held = tl.zeros([8], tl.float32)
        for begin in range(0, VOCABULARY, BLOCK):
            at = begin + tl.arange(0, BLOCK)
            weights = _weights(row, at, most, temperature, min_p, VOCABULARY)
            bits = weights.to(tl.int32, bitcast=True)
            if COUNTS:
                value = tl.where(at < VOCABULARY, 1.0, 0.0)
            else:
                value = tl.where(bits >= kept, weights, 0.0)
            reached = bits[:, None] >= candidates[None, :]
            held += tl.sum(tl.where(reached, value[:, None], 0.0), 0)
        best = tl.max(tl.where(held >= needed, digit, 0), 0)
        least = least + (best << shift)
    return tl.maximum(least, kept)


@triton.jit
def _sum_of(row, most, temperature, min_p, kept, VOCABULARY: tl.constexpr, BLOCK: tl.constexpr):
    total = tl.zeros([], tl.float64)
    for begin in range(0, VOCABULARY, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        weights = _weights(row, at, most, temperature, min_p, VOCABULARY)
        weights = tl.where(weights.to(tl.int32, bitcast=True) >= kept, weights, 0.0)
        total += tl.sum(weights.to(tl.float64), 0)
    return total


@triton.jit
def _draw(row, most, line, position, VOCABULARY: tl.constexpr, BLOCK: tl.constexpr):
    seed = tl.load(line).to(tl.uint32, bitcast=True).to(tl.uint64)
    seed = seed | (tl.load(line + 1).to(tl.uint32, bitcast=True).to(tl.uint64) << 32)
    temperature = tl.load(line + _TEMPERATURE).to(tl.float32, bitcast=True)
    top_p = tl.load(line + _TOP_P).to(tl.float32, bitcast=True)
    min_p = tl.load(line + _MIN_P).to(tl.float32, bitcast=True)
    top_k = tl.load(line + _TOP_K)
    kept = tl.zeros([], tl.int32)
    if (top_k > 0) & (top_k < VOCABULARY):
        kept = _least_kept(
            row, most, temperature, min_p, kept, top_k.to(tl.float32), True, VOCABULARY, BLOCK // 4
        )
    total = _sum_of(row, most, temperature, min_p, kept, VOCABULARY, BLOCK)
    if top_p < 1.0:
        needed = total.to(tl.float32) * top_p
        kept = _least_kept(
            row, most, temperature, min_p, kept, needed, False, VOCABULARY, BLOCK // 4
        )
        total = _sum_of(row, most, temperature, min_p, kept, VOCABULARY, BLOCK)
    cut = _uniform(seed, position) * total
    below = tl.zeros([], tl.float64)
    chosen = tl.full([], _NONE, tl.int32)
    final = tl.zeros([], tl.int32)  # the last that weighs anything: where rounding leaves none
    for begin in range(0, VOCABULARY, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        weights = _weights(row, at, most, temperature, min_p, VOCABULARY)
        weights = tl.where(weights.to(tl.int32, bitcast=True) >= kept, weights, 0.0)
        exact = weights.to(tl.float64)
        reached = (below + tl.cumsum(exact, 0) > cut) & (weights > 0.0)
        chosen = tl.minimum(chosen, tl.min(tl.where(reached, at, _NONE), 0))
        final = tl.maximum(final, tl.max(tl.where(weights > 0.0, at, 0), 0))
        below += tl.sum(exact, 0)
    return tl.where(chosen == _NONE, final, chosen)


@triton.jit
def _choose(
    logits,
    tokens,
    slots,
    positions,
    parameters,
    last,
    chosen,
    stride,
    PARAMETERS: tl.constexpr,
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    line = tl.program_id(0)
    token = tl.load(tokens + line)
    if token < 0:
        return
    slot = tl.load(slots + line).to(tl.int64)
    row = logits + line.to(tl.int64) * stride
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    where = tl.zeros([BLOCK], tl.int32)
    wrong = tl.zeros([BLOCK], tl.int32)
    for begin in range(0, VOCABULARY, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        values = tl.load(row + at, mask=at < VOCABULARY, other=float("-inf")).to(tl.float32)
        wrong = wrong | (values != values).to(tl.int32)
        where = tl.where(values > best, at, where)
        best = tl.maximum(best, values)
    most = tl.max(best, 0)
    id_ = tl.min(tl.where(best == most, where, _NONE), 0)
    finite = (tl.max(wrong, 0) == 0) & (most < float("inf")) & (most > float("-inf"))
    of_slot = parameters + slot * PARAMETERS
    position = tl.load(positions + line)
    if finite & (tl.load(of_slot + _TEMPERATURE) != 0):
        id_ = _draw(row, most, of_slot, position, VOCABULARY, BLOCK)
    tl.store(last + 2 * slot + position % 2, tl.where(finite, id_, 0))
    tl.store(chosen + line, tl.where(finite, id_, -1))


def choose(
    logits: Tensor,
    tokens: Tensor,
    slots: Tensor,
    positions: Tensor,
    parameters: Tensor,
    last: Tensor,
    chosen: Tensor,
) -> None:
    """From each line of `logits` [n, vocabulary] the next token of a row, into `chosen` and, for
    its slot and position, into `last`. NOT_FINITE into `chosen` where the logits are no numbers.

    `tokens`, `slots` and `positions` INT32 [n]: the row's last token in the step, -1 where there is
    no row; its slot; the position of what is chosen. `parameters` INT32 [slots, PARAMETERS];
    `last` INT32 [slots, 2], of even and odd positions; `chosen` INT32 [n].
    """
    _choose[(len(tokens),)](
        logits, tokens, slots, positions, parameters, last, chosen, logits.stride(0),
        PARAMETERS=PARAMETERS, VOCABULARY=logits.shape[1],
        BLOCK=min(_BLOCK, max(int(triton.next_power_of_2(logits.shape[1])), 64)), num_warps=8,
    )  # fmt: skip


def parameters_of(sampling: Sampling) -> NDArray[np.int32]:
    """A slot's line, INT32 [PARAMETERS]."""
    line = np.zeros(PARAMETERS, np.int32)
    line[:2] = np.array([sampling.seed & (2**64 - 1)], np.uint64).view(np.int32)
    # A zero has no sign.
    floats = np.array([sampling.temperature, sampling.top_p, sampling.min_p], np.float32) + 0.0
    line[2:5] = floats.view(np.int32)
    line[5] = min(sampling.top_k, 2**31 - 1)
    return line
