"""The forward pass of a decoder: plain functions over joined weights.

Llama, Mistral, Qwen2 and Qwen3 are one model with parts left out: RMSNorm, attention with rotated
queries and keys that groups of heads share, SiLU-gated feed-forward, each with a residual. All
tokens of a step lie one behind the other, [T, hidden], whatever rows they belong to. Attention
alone knows rows; it is an argument, because it differs between devices.

Queries, keys and values come from one product, and so do gate and up: a small step is bound by
the number of its operations. Norms and rotations compute in float32, as transformers does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from predictor.runner.decoder_config import DecoderShape

# Layer, queries [T, heads, size], keys and values [T, kv_heads, size] -> [T, heads * size]. It
# keeps the keys and values for later steps.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Linear weights are [out, in]. `qk_norm` [heads + kv_heads, size], where heads are normed."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Tensor | None
    output: Tensor
    output_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class DecoderWeights:
    """`head` may be `embedding` itself. Positions rotate by `frequencies` [size / 2] in float32,
    and `rotation_scale` is what some scalings of them multiply queries and keys with."""

    shape: DecoderShape
    embedding: Tensor
    layers: Sequence[LayerWeights]
    norm: Tensor
    head: Tensor
    frequencies: Tensor
    rotation_scale: float


def forward(weights: DecoderWeights, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
    """Hidden states [T, hidden] of tokens `ids` at `positions`, both INT64 [T]."""
    shape = weights.shape
    cos, sin = _rotations(weights, positions)
    hidden = functional.embedding(ids, weights.embedding)
    for index, layer in enumerate(weights.layers):
        normed = _norm(hidden, layer.attention_norm, shape.epsilon)
        query, key, value = _heads(layer, shape, normed, cos, sin)
        attended = attend(index, query, key, value)
        hidden = hidden + functional.linear(attended, layer.output, layer.output_bias)
        normed = _norm(hidden, layer.mlp_norm, shape.epsilon)
        hidden = hidden + _feed_forward(layer, normed)
    return hidden


def logits(weights: DecoderWeights, hidden: Tensor) -> Tensor:
    """Float32 [n, vocabulary] of hidden states [n, hidden]."""
    normed = _norm(hidden, weights.norm, weights.shape.epsilon)
    return functional.linear(normed, weights.head).float()


def _norm(hidden: Tensor, weight: Tensor | None, epsilon: float) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], weight, epsilon)


def _rotations(weights: DecoderWeights, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [T, 1, size], each half the same."""
    angles = positions[:, None].float() * weights.frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    return angles.cos() * weights.rotation_scale, angles.sin() * weights.rotation_scale


def _heads(
    layer: LayerWeights, shape: DecoderShape, normed: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values."""
    joint = functional.linear(normed, layer.qkv, layer.qkv_bias).view(
        len(normed), shape.heads + 2 * shape.kv_heads, shape.head_size
    )
    rotated = joint[:, : shape.heads + shape.kv_heads]
    if layer.qk_norm is not None:
        rotated = _norm(rotated, None, shape.epsilon) * layer.qk_norm
    rotated = _rotate(rotated, cos, sin)
    return rotated[:, : shape.heads], rotated[:, shape.heads :], joint[:, -shape.kv_heads :]


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (heads * cos + turned * sin).to(heads.dtype)


def _feed_forward(layer: LayerWeights, normed: Tensor) -> Tensor:
    gate, up = functional.linear(normed, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
    return functional.linear(functional.silu(gate) * up, layer.down, layer.down_bias)
