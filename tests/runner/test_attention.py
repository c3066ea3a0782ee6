"""Kernels see a row and nothing else, and no further than its window."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from itertools import accumulate
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predictor.runner.attention import (
    RowLayout,
    Window,
    choose_kernel,
    flash_kernel,
    row_by_row,
    varlen,
)

HEADS, SIZE = 2, 4
CUDA = torch.device("cuda")  # named, not used
LENGTHS = st.lists(st.integers(0, 20), min_size=1, max_size=6)
REACH = st.integers(-1, 25)


def states(tokens: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [tokens, heads, size]."""
    random = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, tokens, HEADS, SIZE, generator=random)
    return query, key, value


def layout_of(lengths: Sequence[int], *, bounds: bool = False) -> RowLayout:
    starts = list(accumulate(lengths, initial=0))
    return RowLayout(
        torch.tensor(starts, dtype=torch.int32), max(lengths), starts if bounds else ()
    )


def dense(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float, window: Window
) -> Tensor:
    """The definition: a softmax over all pairs of which the forbidden ones are masked."""
    left, right = window
    row_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = torch.arange(len(row_of))
    ahead = at[None, :] - at[:, None]
    allowed = row_of[:, None] == row_of[None, :]
    if left >= 0:
        allowed &= ahead >= -left
    if right >= 0:
        allowed &= ahead <= right
    scores = torch.einsum("ihd,jhd->hij", query, key) * scale
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, REACH, REACH, st.booleans(), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_row_by_row_is_a_masked_softmax(
    lengths: Sequence[int], left: int, right: int, bounds: bool, unused: int, seed: int
) -> None:
    """Of rows of any length, 0 too, whatever lies behind the last."""
    total = sum(lengths)
    query, key, value = states(total + unused, seed)
    layout = layout_of(lengths, bounds=bounds)
    found = row_by_row(query, key, value, layout, 0.3, (left, right))
    assert found.shape == query.shape
    expected = dense(query[:total], key[:total], value[:total], lengths, 0.3, (left, right))
    torch.testing.assert_close(found[:total], expected, rtol=0, atol=1e-5)


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the package, which wants a GPU to be installed.

    Its function takes what the package documents, and computes it row by row.
    """

    def flash_attn_varlen_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        *,
        softmax_scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:
        assert q.shape == k.shape == v.shape
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert max_seqlen_q == max_seqlen_k >= int(cu_seqlens_q.diff().max())
        layout = RowLayout(cu_seqlens_q, max_seqlen_q)
        return row_by_row(q, k, v, layout, softmax_scale, window_size)

    module = ModuleType("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", None)
    monkeypatch.setattr(module, "flash_attn_varlen_func", flash_attn_varlen_func, raising=False)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return module


@pytest.mark.usefixtures("flash_attn")
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("window", [(-1, -1), (3, 3)])
def test_the_package_gets_its_arguments(scale: float | None, window: Window) -> None:
    query, key, value = states(20, seed=1)
    layout = layout_of([7, 0, 13])
    torch.testing.assert_close(
        flash_kernel()(query, key, value, layout, scale, window),
        row_by_row(query, key, value, layout, scale, window),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_gpu_16_bits_get_torchs_kernel_or_that_of_the_package(
    dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    assert choose_kernel(CUDA, dtype) is varlen
    request.getfixturevalue("flash_attn")
    chosen = choose_kernel(CUDA, dtype)
    assert chosen is not None
    assert chosen is not varlen


def test_on_a_gpu_32_bits_have_no_kernel_and_on_a_cpu_all_have() -> None:
    assert choose_kernel(CUDA, torch.float32) is None
    assert choose_kernel(torch.device("cpu"), torch.float32) is row_by_row
    assert choose_kernel(torch.device("cpu"), torch.bfloat16) is row_by_row
