"""Batches of like length for `torch.utils.data.DataLoader`, by the split that the server uses."""

import random
from collections.abc import Iterator, Sequence

from predictor.core.rows import Packing, Row
from predictor.policy.packing import split
from predictor.policy.service_time import ServiceTime, ServiceTimeModel

# A guess that suits GPUs: launching a batch costs as much as 500 to 1,000 tokens of it.
DEFAULT_WEIGHTS = (5e-3, 1e-5, 0.0)


class BatchSampler:
    """Lists of indices, each index exactly once; hand it to a DataLoader as `batch_sampler`.

        sampler = BatchSampler(lengths, max_batch_tokens=16_384, shuffle=True)
        loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=pad)

    `lengths` are those of the dataset's items, in any unit that `max_batch_tokens` shares: a
    batch takes at most `max_batch_size` items, and at most `max_batch_tokens` once they are
    padded to the longest. An item over that has a batch of its own.

    `window` items, in the dataset's order, are split at a time: memory and time grow with
    window x max_batch_size, padding shrinks. `cost` predicts the time of a batch; a
    `ServiceTimeModel` that learned on the device splits better than the default guess.

    With `shuffle` the batches, not what is in them, come in another order in each pass. The
    orders follow from `seed`; `set_epoch` says which pass comes next, as samplers of torch do.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        max_batch_size: int = 64,
        max_batch_tokens: int = 16_384,
        window: int = 4096,
        cost: ServiceTime | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        """Raises ValueError for a length or a limit below 1."""
        for name, value in (
            ("max_batch_size", max_batch_size),
            ("max_batch_tokens", max_batch_tokens),
            ("window", window),
            *((f"lengths[{index}]", length) for index, length in enumerate(lengths)),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        service = cost or ServiceTimeModel(Packing.PADDED, DEFAULT_WEIGHTS)
        rows = [Row("", "", int(length), 0.0, index=i) for i, length in enumerate(lengths)]
        self._batches = [
            [row.index for row in batch]
            for start in range(0, len(rows), window)
            for batch in split(
                rows[start : start + window], service, max_batch_size, max_batch_tokens
            )
        ]
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """Batches in a pass."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self._batches)))
        if self._shuffle:
            random.Random(f"{self._seed} {self._epoch}").shuffle(order)
        self._epoch += 1
        return (list(self._batches[place]) for place in order)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch
