"""Who shares a padded batch: the split of a snapshot of rows that costs the least.

Sorted by length, an optimal partition into padded batches is contiguous: swapping a longer
row into a batch of shorter ones never helps when cost grows with b * longest. So dynamic
programming over the sorted lengths finds it:

    T[j] = min over k of  T[j - k] + l(k, length_j)        with k <= rows, k * length_j <= tokens

(The recurrence is that of TurboTransformers, Fang et al., PPoPP 2021.) Rows that would be
late may not be asked to wait for the cheapest batch, so the split only says which rows
belong together; the adaptive policy says which of the batches goes first.
"""

from collections.abc import Sequence

import numpy as np

from predictor.core.rows import Packing, Row
from predictor.policy.service_time import ServiceTime, Work


def split(
    rows: Sequence[Row], service: ServiceTime, max_rows: int, max_tokens: int
) -> list[list[Row]]:
    """Rows in padded batches of least total predicted time, shortest rows first.

    A row longer than `max_tokens` gets a batch of its own.
    """
    by_length = sorted(rows, key=lambda row: row.tokens)
    lengths = np.array([row.tokens for row in by_length], dtype=np.float64)
    most = min(max_rows, len(by_length))
    cost = _cost_table(lengths, service, most, max_tokens)
    total = np.zeros(len(by_length) + 1)
    sizes = np.zeros(len(by_length) + 1, dtype=np.int64)
    for j in range(1, len(by_length) + 1):
        reach = min(j, most)
        candidates = total[j - reach : j][::-1] + cost[j - 1, :reach]
        best = int(candidates.argmin())
        total[j] = candidates[best]
        sizes[j] = best + 1
    batches = []
    j = len(by_length)
    while j > 0:
        size = int(sizes[j])
        batches.append(by_length[j - size : j])
        j -= size
    batches.reverse()
    return batches


def _cost_table(
    lengths: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    service: ServiceTime,
    most: int,
    max_tokens: int,
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """cost[j, k - 1]: predicted seconds of k rows padded to lengths[j]; inf where over budget.

    The prediction is affine in k for a given length, so two points give the whole line.
    """
    one = np.array([service.predict_s(Work.alike(1, n)) for n in lengths])
    two = np.array([service.predict_s(Work.alike(2, n)) for n in lengths])
    sizes = np.arange(1, most + 1, dtype=np.float64)
    cost = one[:, None] + np.outer(two - one, sizes - 1)
    over = np.outer(lengths, sizes) > max_tokens
    over[:, 0] = False
    cost[over] = np.inf
    return cost


def padding_share(rows: Sequence[Row], packing: Packing) -> float:
    """Share of the computed tokens that nobody asked for, were these rows one batch."""
    work = Work.of(rows)
    computed = work.computed(packing)
    return 1.0 - work.tokens / computed if computed else 0.0
