"""Attention over rows that lie one behind the other, without padding.

A packed batch is one sequence of T tokens for everything that works token by token. Only
attention must know where a row ends: it gets the cumulative lengths and never looks across.
Transformers hands its queries, keys and values to a function that we register under a name
(its attention interface), so the models themselves stay as they are.

Three kernels do it. FlashAttention's own package, where it is installed; torch's
variable-length attention, which holds the same algorithm, on CUDA in 16 bits; and elsewhere
torch's attention for one row after the other, which costs a call a row: much on a GPU, little
on a CPU, where a row's own arithmetic takes longer than the call.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

PACKED = "headway_packed"  # our name in transformers' attention interface

Window = tuple[int, int]  # tokens seen to the left and right; -1: all


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """Where rows begin and end in a packed batch.

    `starts` INT32 [R + 1] are cumulative lengths on the model's device; rows that are not
    there have length 0. `bounds` are the same as plain numbers, for kernels that need them.
    """

    starts: Tensor
    longest: int  # no row is longer; may be more than the longest that is there
    bounds: Sequence[int] = ()


# Of queries, keys, values [T, heads, size], the layout, the scale and the window, to [T, heads,
# size]. Tokens behind the last row get anything.
Kernel = Callable[[Tensor, Tensor, Tensor, RowLayout, float | None, Window], Tensor]


def choose_kernel(device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """The fastest kernel that runs there, or None where packing would be slower than padding."""
    if device.type == "cpu":
        return row_by_row
    if dtype not in (torch.float16, torch.bfloat16):
        return None
    return flash_kernel() if importlib.util.find_spec("flash_attn") else varlen


_kernels: dict[str, Kernel] = {}  # by type of device: models on several share one process


def use_kernel(device: torch.device, kernel: Kernel) -> None:
    """Have every model on such a device whose attention is named PACKED use this kernel."""
    _kernels[device.type] = kernel

    def attend(
        _module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: None,
        *,
        layout: RowLayout,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **_: object,
    ) -> tuple[Tensor, None]:
        """All are [1, heads, T, size]; returns [1, T, heads, size]."""
        # Transformers counts a token itself into its window, the kernels do not.
        reach = -1 if sliding_window is None else sliding_window - 1
        window = (reach, reach)
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
        return _kernels[q.device.type](q, k, v, layout, scaling, window)[None], None

    AttentionInterface.register(PACKED, attend)


def row_by_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: RowLayout,
    scale: float | None,
    window: Window,
) -> Tensor:
    """Works everywhere, in any dtype; the reference for the others."""
    out = torch.zeros_like(query)
    bounds = layout.bounds or layout.starts.tolist()
    for start, end in pairwise(bounds):
        if start == end:
            continue
        q, k, v = (each[start:end].transpose(0, 1)[None] for each in (query, key, value))
        mask = _band(end - start, window, query.device)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        out[start:end] = attended[0].transpose(0, 1)
    return out


def varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: RowLayout,
    scale: float | None,
    window: Window,
) -> Tensor:
    """torch's own: CUDA, 16-bit."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = layout.starts, layout.longest
    out = varlen_attn(
        *(query, key, value, starts, starts, longest, longest), scale=scale, window_size=window
    )
    assert isinstance(out, Tensor)
    return out


def flash_kernel() -> Kernel:
    """That of the flash-attn package, which must be installed."""
    from flash_attn import flash_attn_varlen_func

    def flash(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: RowLayout,
        scale: float | None,
        window: Window,
    ) -> Tensor:
        starts, longest = layout.starts, layout.longest
        out: Tensor = flash_attn_varlen_func(
            *(query, key, value, starts, starts, longest, longest),
            softmax_scale=scale,
            window_size=window,
        )
        return out

    return flash


def _band(length: int, window: Window, device: torch.device) -> Tensor | None:
    """True where a token may look, [length, length]; None where it may look everywhere."""
    left, right = (length if reach < 0 else reach for reach in window)
    if left >= length and right >= length:
        return None
    at = torch.arange(length, device=device)
    ahead = at - at[:, None]
    return (ahead >= -left) & (ahead <= right)
