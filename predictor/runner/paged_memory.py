"""Keys and values of the rows that generate, by page, and which pages each slot's row has.

The policy owns the numbers of the pages and slots; here is what lies under them. A page holds the
keys and values of PAGE_TOKENS positions in every layer. One page more than the policy knows of
stays zero: attention that gathers rows of different lengths fills the shorter ones up with it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from predictor.core.errors import StartupError
from predictor.runner.decoder_config import DecoderShape

PAGE_TOKENS = 16
DEVICE_SHARE = 0.5  # of the memory that is free once the weights are loaded
HOST_SHARE = 0.25
HOST_MOST_BYTES = 1 << 30  # where nobody says: others live on the host too
_LEAST_PAGES = 4

_MEMORY_INFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


class PagedMemory:
    """`keys` and `values`: of each layer [pages + 1, PAGE_TOKENS, kv_heads, size]; `tables` INT32
    [slots + 1, pages of the longest row]: a row's pages in order of its positions.

    On a GPU, what one head has in a page lies together, because one program reads it.
    """

    def __init__(
        self,
        shape: DecoderShape,
        *,
        pages: int,
        slots: int,
        max_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.pages = pages
        self.slots = slots
        self.max_tokens = max_tokens
        self.row_pages = math.ceil(max_tokens / PAGE_TOKENS)
        page = (PAGE_TOKENS, shape.kv_heads, shape.head_size)
        if device.type == "cpu":
            self._memory = _zeros((shape.layers, 2, pages + 1, *page), dtype, device)
        else:
            by_head = (page[1], page[0], page[2])
            memory = _zeros((shape.layers, 2, pages + 1, *by_head), dtype, device)
            self._memory = memory.transpose(-3, -2)
        self.keys = [layer[0] for layer in self._memory]
        self.values = [layer[1] for layer in self._memory]
        self.tables = torch.full(
            (slots + 1, self.row_pages), pages, dtype=torch.int32, device=device
        )
        self.bytes = self._memory.nbytes

    def append(self, added: Sequence[tuple[int, int, int]]) -> None:
        """Write pages into tables: slot, place in its table, page."""
        slots, places, pages = torch.tensor(added, device=self.tables.device).unbind(1)
        self.tables[slots, places] = pages.int()

    def clear(self, pages: Sequence[int]) -> None:
        """Zero `pages`, which a row is given and has not written yet.

        What another row left there may be infinite or no number, and a weight of 0 does not
        remove that from a sum.
        """
        self._memory[:, :, torch.tensor(pages, device=self._memory.device)] = 0

    def places(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Where the tokens at `positions` of the rows in `slots` lie, INT64 [T]: page and offset
        in one number."""
        pages = self.tables[slots, positions // PAGE_TOKENS].long()
        return pages * PAGE_TOKENS + positions % PAGE_TOKENS

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keep keys and values [T, kv_heads, size] of one layer."""
        self.keys[layer].flatten(0, 1).index_copy_(0, places, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, places, values)


def _zeros(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    # By numpy, the system hands out zeros only when they are touched: what is never used is free.
    lazy = np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(lazy).view(dtype).view(*size)


def page_bytes(shape: DecoderShape, dtype: torch.dtype) -> int:
    per_token = 2 * shape.layers * shape.kv_heads * shape.head_size * dtype.itemsize
    return PAGE_TOKENS * per_token


def choose_pages(
    shape: DecoderShape,
    *,
    slots: int,
    max_tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    asked_gib: float | None,
) -> int:
    """How many pages to have: no more than all slots could use, within the memory asked for.

    Raises StartupError where that holds next to nothing.
    """
    room = int(asked_gib * 2**30) if asked_gib is not None else _usual_bytes(device)
    each = page_bytes(shape, dtype)
    if room // each < _LEAST_PAGES:
        raise StartupError(
            f"{room / 2**30:.3g} GiB for keys and values hold {room // each} pages of {PAGE_TOKENS}"
            f" tokens ({each / 2**20:.3g} MiB each); give more with kv_cache_gib"
        )
    return min(room // each, slots * math.ceil(max_tokens / PAGE_TOKENS))


def _usual_bytes(device: torch.device) -> int:
    if device.type == "cpu":
        return min(int(HOST_SHARE * _free_host_bytes()), HOST_MOST_BYTES)
    return int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0])


def _free_host_bytes() -> float:
    """What this process can still take; a container's limit counts, if it has one."""
    free = math.inf
    for line in _MEMORY_INFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = float(line.split()[1]) * 1024
    try:
        limit = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text())
        return min(free, max(limit, 0))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return free
