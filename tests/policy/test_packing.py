"""The split costs as little as the best of all partitions; the queue keeps its order."""

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.parameters import Order
from predictor.core.rows import Packing, Row
from predictor.policy.packing import padding_share, split
from predictor.policy.queue import RowQueue
from predictor.policy.service_time import ServiceTimeModel, Work

SERVICE = ServiceTimeModel(Packing.PADDED, (5e-3, 1e-5, 1e-8))


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row("model", "tier", length, 0.0) for length in lengths]


def cost_s(batches: list[list[Row]]) -> float:
    return sum(SERVICE.predict_s(Work.of(batch)) for batch in batches)


def best_cost_s(lengths: list[int], max_rows: int, max_tokens: int) -> float:
    ordered = sorted(lengths)
    best = float("inf")
    for cuts in range(len(ordered)):
        for places in combinations(range(1, len(ordered)), cuts):
            edges = [0, *places, len(ordered)]
            parts = [ordered[a:b] for a, b in pairwise(edges)]
            if any(
                len(part) > max_rows or (len(part) > 1 and len(part) * part[-1] > max_tokens)
                for part in parts
            ):
                continue
            best = min(best, cost_s([rows_of(part) for part in parts]))
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 512), min_size=1, max_size=8),
    st.integers(1, 8),
    st.integers(64, 2048),
)
def test_split_is_optimal(lengths: list[int], max_rows: int, max_tokens: int) -> None:
    batches = split(rows_of(lengths), SERVICE, max_rows, max_tokens)
    assert sorted(row.tokens for batch in batches for row in batch) == sorted(lengths)
    assert cost_s(batches) == pytest.approx(best_cost_s(lengths, max_rows, max_tokens))


def test_padding_share() -> None:
    assert padding_share(rows_of([10, 40]), Packing.PADDED) == pytest.approx(30 / 80)
    assert padding_share(rows_of([10, 40]), Packing.PACKED) == 0
    assert padding_share([], Packing.PADDED) == 0


KEYS = {
    Order.ARRIVAL: lambda row: (row.arrival_s, row.sequence),
    Order.DEADLINE: lambda row: (row.deadline_s, row.sequence),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Order.ARRIVAL, Order.DEADLINE]), st.randoms(use_true_random=False))
def test_queue_is_a_sorted_list(order: Order, rng: random.Random) -> None:
    queue = RowQueue(order)
    model: list[Row] = []
    for step in range(80):
        if model and rng.random() < 0.4:
            gone = (
                queue.window(rng.randint(1, len(model)))
                if rng.random() < 0.5
                else rng.sample(model, rng.randint(1, len(model)))
            )
            queue.remove(gone)
            model = [row for row in model if row not in gone]
        else:
            row = Row("model", "tier", rng.randint(1, 9), step, step + rng.choice([1.0, 5.0]))
            assert queue.ahead_of(row) == sum(
                KEYS[order](other)[0] <= KEYS[order](row)[0] for other in model
            )
            queue.add(row)
            model.append(row)
        if rng.random() < 0.1:
            order = rng.choice(list(KEYS))
            queue.reorder(order)
        model.sort(key=KEYS[order])
        assert list(queue) == model
        assert len(queue) == len(model)
        assert queue.tokens == sum(row.tokens for row in model)
        assert queue.earliest_deadline_s == min(
            (row.deadline_s for row in model), default=float("inf")
        )
        due = sorted((row.deadline_s, row.sequence) for row in model if row.deadline_s < step)
        assert [(row.deadline_s, row.sequence) for row in queue.due_before(step, 999)] == due
        assert queue.count_before(step) == len(due)
        assert all(row in queue for row in model)


def test_short_rows_overtake_but_age_bounds_it() -> None:
    queue = RowQueue(Order.SHORTEST)
    long = Row("model", "tier", 500, 0.0)
    soon, late = Row("model", "tier", 5, 0.3), Row("model", "tier", 5, 0.6)
    for row in (long, soon, late):
        queue.add(row)
    assert list(queue) == [soon, long, late]
