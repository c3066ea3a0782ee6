"""Each index exactly once, within the limits, padded as little as the server's own split."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from predictor.core.rows import Packing, Row
from predictor.offline.profile import in_order
from predictor.offline.sampler import BatchSampler
from predictor.policy.packing import split
from predictor.policy.service_time import ServiceTimeModel

LENGTHS = st.lists(st.integers(1, 600), max_size=60)
LIMITS = st.tuples(st.integers(1, 9), st.integers(1, 2000), st.integers(1, 70))


@settings(max_examples=60, deadline=None)
@given(LENGTHS, LIMITS, st.booleans())
def test_each_index_once_within_the_limits(
    lengths: list[int], limits: tuple[int, int, int], shuffle: bool
) -> None:
    size, tokens, window = limits
    sampler = BatchSampler(
        lengths, max_batch_size=size, max_batch_tokens=tokens, window=window, shuffle=shuffle
    )
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens
        assert len({index // window for index in batch}) == 1


def test_it_is_the_split_of_the_server() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(1, 500) for _ in range(50)]
    service = ServiceTimeModel(Packing.PADDED, (2e-3, 1e-5, 1e-8))
    rows = [Row("", "", length, 0.0) for length in lengths]
    expected = [[row.tokens for row in batch] for batch in split(rows, service, 8, 2000)]
    sampler = BatchSampler(lengths, max_batch_size=8, max_batch_tokens=2000, cost=service)
    assert [[lengths[i] for i in batch] for batch in sampler] == expected


def test_shuffling_reorders_batches_from_the_seed() -> None:
    lengths = list(range(1, 200))

    def passes(seed: int) -> list[list[list[int]]]:
        sampler = BatchSampler(lengths, max_batch_size=4, shuffle=True, seed=seed)
        return [list(sampler), list(sampler)]

    first, second = passes(1)
    assert passes(1) == [first, second]
    assert first != second != passes(2)[0]
    assert sorted(first) == sorted(second) == sorted(BatchSampler(lengths, max_batch_size=4))
    again = BatchSampler(lengths, max_batch_size=4, shuffle=True, seed=1)
    again.set_epoch(1)
    assert list(again) == second


def test_a_loader_of_torch_takes_it() -> None:
    data = [torch.full((length,), length) for length in (5, 900, 6, 850, 5)]
    loader: DataLoader[torch.Tensor] = DataLoader(
        data,  # type: ignore[arg-type]
        batch_sampler=BatchSampler(list(map(len, data)), max_batch_size=3),
        collate_fn=torch.nn.utils.rnn.pad_sequence,
    )
    assert len(loader) == 2
    assert [tuple(batch.shape) for batch in loader] == [(6, 3), (900, 2)]


@pytest.mark.parametrize(
    ("lengths", "limits", "says"),
    [
        ([3, 0], {}, r"lengths\[1\] is 0"),
        ([3], {"window": 0}, "window is 0"),
        ([3], {"max_batch_size": 0}, "max_batch_size is 0"),
        ([3], {"max_batch_tokens": -1}, "max_batch_tokens is -1"),
    ],
)
def test_impossible_limits(lengths: list[int], limits: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BatchSampler(lengths, **limits)  # type: ignore[arg-type]


def test_in_order_fills_batches_as_they_come() -> None:
    lengths = [10, 20, 5, 90, 5, 5, 5]
    assert in_order(range(7), lengths, 3, 60) == [[0, 1, 2], [3], [4, 5, 6]]
    assert in_order(range(7), lengths, 2, 1000) == [[0, 1], [2, 3], [4, 5], [6]]
    assert in_order([], [], 2, 10) == []
