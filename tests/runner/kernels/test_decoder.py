"""Each kernel between a decoder's products does what decoder.py does, a function at a time."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from predictor.runner import decoder as plain
from predictor.runner.decoder import DecoderWeights, LayerWeights
from predictor.runner.decoder_config import DecoderShape
from predictor.runner.kernels import decoder
from predictor.runner.paged_memory import PAGE_TOKENS, PagedMemory
from tests.runner.kernels import DEVICE

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
EPSILON = 1e-3  # large, so that one that is left out is seen
WIDTH, VOCABULARY = 40, 11


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def agree(made: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        made.cpu(), expected.cpu(), rtol=TOLERANCE[expected.dtype], atol=TOLERANCE[expected.dtype]
    )


def drawn(random: torch.Generator, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=random).to(dtype).to(DEVICE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, WIDTH, 64])
def test_norm(random: torch.Generator, dtype: torch.dtype, width: int) -> None:
    hidden = drawn(random, 3, width, dtype=dtype)
    hidden[1] = 0.0
    weight = drawn(random, width, dtype=dtype)
    normed = torch.empty_like(hidden)
    decoder.norm(hidden, weight, EPSILON, normed)
    agree(normed, plain._norm(hidden, weight, EPSILON))


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_of_some_lines(random: torch.Generator, dtype: torch.dtype) -> None:
    hidden = drawn(random, 5, WIDTH, dtype=dtype)
    hidden[0] = math.nan  # beside those that are asked for
    weight = drawn(random, WIDTH, dtype=dtype)
    tokens = torch.tensor([4, -1, 1, 1], dtype=torch.int32, device=DEVICE)
    normed = torch.full((4, WIDTH), math.nan, dtype=dtype, device=DEVICE)
    decoder.norm_of(hidden, tokens, weight, EPSILON, normed)
    agree(normed[[0, 2, 3]], plain._norm(hidden[[4, 1, 1]], weight, EPSILON))
    assert not normed[1].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [24, 2100])  # the latter is more than a block
def test_gate(random: torch.Generator, dtype: torch.dtype, width: int) -> None:
    joint = drawn(random, 2, 2 * width, dtype=dtype)
    out = torch.empty((2, width), dtype=dtype, device=DEVICE)
    decoder.gate(joint, out)
    first, second = joint.chunk(2, dim=-1)
    agree(out, functional.silu(first) * second)


def weights_of(
    random: torch.Generator, shape: DecoderShape, dtype: torch.dtype, *, head_norms: bool
) -> DecoderWeights:
    """One layer, of which the feed-forward is left out."""
    joined = (shape.heads + 2 * shape.kv_heads) * shape.head_size
    empty = torch.empty(0)
    layer = LayerWeights(
        attention_norm=drawn(random, WIDTH, dtype=dtype),
        qkv=drawn(random, joined, WIDTH, dtype=dtype) / WIDTH**0.5,
        qkv_bias=None,
        qk_norm=drawn(random, shape.heads + shape.kv_heads, shape.head_size, dtype=dtype)
        if head_norms
        else None,
        output=empty,
        output_bias=None,
        mlp_norm=empty,
        gate_up=empty,
        gate_up_bias=None,
        down=empty,
        down_bias=None,
    )
    embedding = drawn(random, VOCABULARY, WIDTH, dtype=dtype)
    frequencies = 100.0 ** -torch.linspace(0, 1, shape.head_size // 2)
    return DecoderWeights(
        shape, embedding, [layer], layer.attention_norm, embedding, frequencies.to(DEVICE), 1.25
    )


def shape_of(heads: int, kv_heads: int, size: int) -> DecoderShape:
    return DecoderShape(
        hidden=WIDTH,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        vocabulary=VOCABULARY,
        context=64,
        epsilon=EPSILON,
        windows=(0,),
    )


def memory_of(shape: DecoderShape, dtype: torch.dtype) -> PagedMemory:
    """Of three slots, whose pages lie in disorder."""
    memory = PagedMemory(shape, pages=9, slots=3, max_tokens=48, dtype=dtype, device=DEVICE)
    pages = (4, 8, 0, 5, 1, 7, 2, 6, 3)
    memory.append(
        [(slot, place, pages[3 * slot + place]) for slot in range(3) for place in (2, 0, 1)]
    )
    return memory


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_norms", [False, True])
@pytest.mark.parametrize("heads", [(4, 2, 8), (3, 1, 10), (1, 1, 2), (8, 1, 12)])
def test_heads_are_rotated_and_kept(
    random: torch.Generator, dtype: torch.dtype, heads: tuple[int, int, int], head_norms: bool
) -> None:
    shape = shape_of(*heads)
    weights = weights_of(random, shape, dtype, head_norms=head_norms)
    layer = weights.layers[0]
    memory = memory_of(shape, dtype)
    slots = torch.tensor([2, 0, 1, 3], device=DEVICE)  # the last is nobody's
    positions = torch.tensor([17, 15, 47, 0], device=DEVICE)
    places = memory.places(slots, positions)
    lines = drawn(random, 4, WIDTH, dtype=dtype)
    cos, sin = plain._rotations(weights, positions)
    query, key, value = plain._heads(layer, shape, lines, cos, sin)
    half = shape.head_size // 2
    rotations = torch.cat((cos[:, 0, :half], sin[:, 0, :half]), dim=-1).contiguous()
    joint = functional.linear(lines, layer.qkv)
    keys, values = memory.keys[0], memory.values[0]
    decoder.rotate_and_keep(
        joint, rotations, places, layer.qk_norm, EPSILON, keys, values, shape.heads
    )
    agree(joint[:, : shape.heads * shape.head_size].view_as(query), query)
    pages, offsets = places // PAGE_TOKENS, places % PAGE_TOKENS
    agree(keys[pages, offsets], key)
    agree(values[pages, offsets], value)
    keys[pages, offsets] = values[pages, offsets] = 0
    assert not keys.any(), "nothing else was written"
    assert not values.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_begin(random: torch.Generator, dtype: torch.dtype) -> None:
    """Ids are those of the host, or what a slot was given last for such a position."""
    shape = shape_of(4, 2, 10)
    weights = weights_of(random, shape, dtype, head_norms=False)
    memory = memory_of(shape, dtype)
    last = torch.tensor([[1, 2], [3, 4], [5, 6], [0, 0]], dtype=torch.int32, device=DEVICE)
    slots = torch.tensor([0, 0, 1, 2, 2, 3], dtype=torch.int32, device=DEVICE)
    ids = torch.tensor([10, -1, -1, -1, 0, 0], dtype=torch.int32, device=DEVICE)
    positions = torch.tensor([0, 16, 47, 30, 15, 0], dtype=torch.int32, device=DEVICE)
    known = torch.tensor([10, 1, 4, 5, 0, 0], device=DEVICE)
    tokens, half = len(ids), shape.head_size // 2
    places = torch.empty(tokens, dtype=torch.int64, device=DEVICE)
    rotations = torch.empty((tokens, shape.head_size), device=DEVICE)
    hidden = torch.empty((tokens, WIDTH), dtype=dtype, device=DEVICE)
    normed = torch.empty_like(hidden)
    decoder.begin(
        ids, positions, slots, last, memory.tables, weights.frequencies, weights.rotation_scale,
        weights.embedding, weights.norm, EPSILON, places, rotations, hidden, normed,
    )  # fmt: skip
    assert places.tolist() == memory.places(slots.long(), positions.long()).tolist()
    cos, sin = plain._rotations(weights, positions.long())
    agree(rotations, torch.cat((cos[:, 0, :half], sin[:, 0, :half]), dim=-1))
    expected = functional.embedding(known, weights.embedding)
    assert torch.equal(hidden, expected)
    agree(normed, plain._norm(expected, weights.norm, EPSILON))
