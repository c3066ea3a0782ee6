"""What the host tells the device of its slots before a step, in one launch."""

import triton
import triton.language as tl
from torch import Tensor

from predictor.runner.kernels.sampling import PARAMETERS

_BLOCK = 128


@triton.jit(do_not_specialize=["pages_told", "rows_begun"])
def _tell(
    pages,
    begun,
    tables,
    parameters,
    pages_told,
    rows_begun,
    table_stride,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    line = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    use = line < pages_told
    slot = tl.load(pages + 3 * line, mask=use, other=0).to(tl.int64)
    place = tl.load(pages + 3 * line + 1, mask=use, other=0)
    page = tl.load(pages + 3 * line + 2, mask=use, other=0)
    tl.store(tables + slot * table_stride + place, page, mask=use)
    use = line < rows_begun
    slot = tl.load(begun + (WIDTH + 1) * line, mask=use, other=0).to(tl.int64)
    item = tl.arange(0, WIDTH)
    use = use[:, None] & (item >= 0)[None, :]
    told = tl.load(begun + (WIDTH + 1) * line[:, None] + 1 + item[None, :], mask=use, other=0)
    tl.store(parameters + slot[:, None] * WIDTH + item[None, :], told, mask=use)


def tell(pages: Tensor, begun: Tensor, tables: Tensor, parameters: Tensor) -> None:
    """Write `pages` INT32 [n, 3] (slot, place, page) into `tables` INT32 [slots, places], and
    `begun` INT32 [n, 1 + PARAMETERS] (slot, parameters) into `parameters` [slots, PARAMETERS]."""
    most = max(len(pages), len(begun))
    _tell[(triton.cdiv(most, _BLOCK),)](
        pages, begun, tables, parameters, len(pages), len(begun), tables.stride(0),
        WIDTH=PARAMETERS, BLOCK=_BLOCK,
    )  # fmt: skip
