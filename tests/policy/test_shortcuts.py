"""What the policy computes in a short way is what the long way gives."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from predictor.core.model import Step
from predictor.core.parameters import Order
from predictor.core.rows import NO_DEADLINE, DispatchReason, Row
from predictor.policy import adaptive
from predictor.policy.admission import BATCHES_AHEAD, COUNTED_ARRIVALS, Door
from predictor.policy.plan import Terms
from predictor.policy.queue import RowQueue
from predictor.policy.search import largest
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import SteppedServiceTime
from tests.policy.worlds import MODEL, PACKINGS

STEPS = (Step(64, 8), Step(128, 16), Step(256, 16), Step(512, 32))
seeds = st.integers(0, 2**32)


def service_of(rng: random.Random) -> ServiceTimeModel:
    if rng.random() < 0.4:
        model: ServiceTimeModel = SteppedServiceTime(STEPS)
    else:
        model = ServiceTimeModel(rng.choice(PACKINGS))
    for _ in range(rng.randint(0, 20)):
        rows, tokens = rng.randint(1, 20), rng.randint(1, 40)
        model.learn(Work.alike(rows, tokens), 1e-3 + 2e-5 * rows * tokens * rng.uniform(0.8, 1.3))
    return model


def terms_of(rng: random.Random) -> Terms:
    service = service_of(rng)
    return Terms(
        start_s=rng.uniform(0, 0.05),
        service=service,
        packing=service.packing,
        max_rows=rng.randint(1, 40),
        max_tokens=rng.randint(40, 1000),
        slo_s=rng.choice([NO_DEADLINE, rng.uniform(0.005, 0.1)]),
    )


def rows_of(rng: random.Random, most: int = 60) -> list[Row]:
    def deadline_s() -> float:
        return NO_DEADLINE if rng.random() < 0.1 else rng.uniform(0, 0.2)

    return [
        Row(MODEL, "interactive", rng.randint(1, 40), rng.uniform(-0.1, 0), deadline_s())
        for _ in range(rng.randint(1, most))
    ]


@given(st.integers(1, 600), st.integers(-5, 700), st.integers(0, 700))
def test_the_largest_is_found_from_any_guess(most: int, guess: int, true: int) -> None:
    asked: list[int] = []

    def holds(size: int) -> bool:
        asked.append(size)
        return size <= true

    assert largest(holds, most, guess) == max(1, min(most, true))
    assert len(asked) <= 2 * most.bit_length() + 2
    assert all(1 < size <= most for size in asked)
    if guess == true:
        assert len(asked) <= 2


@given(seeds)
def test_what_is_remembered_is_what_is_predicted(seed: int) -> None:
    rng = random.Random(seed)
    model = service_of(rng)
    for _ in range(30):
        rows, tokens = rng.randint(1, 20), rng.uniform(1, 40)
        assert model.alike_s(rows, tokens) == model.predict_s(Work.alike(rows, tokens))
        if rng.random() < 0.3:
            model.learn(Work.alike(rows, tokens), rng.uniform(1e-3, 2e-2))


def prefix_row_by_row(rows: Sequence[Row], terms: Terms) -> tuple[int, DispatchReason]:
    target = terms.target_rows(sum(row.tokens for row in rows) / len(rows))
    work = Work(0, 0, 0, 0)
    deadline_s = NO_DEADLINE
    for row in rows:
        grown = work.plus(row)
        tightest_s = min(deadline_s, row.deadline_s)
        if work.rows and (work.rows >= target or not terms.fits(grown)):
            return work.rows, DispatchReason.FULL
        cautious_s = terms.service.predict_s(grown) * terms.caution
        if work.rows and terms.start_s + cautious_s > tightest_s:
            return work.rows, DispatchReason.DEADLINE
        work, deadline_s = grown, tightest_s
    return work.rows, DispatchReason.IDLE


@given(seeds)
def test_a_prefix_is_as_long_as_row_by_row(seed: int) -> None:
    rng = random.Random(seed)
    rows, terms = rows_of(rng), terms_of(rng)
    plan = adaptive._plan_prefix(rows, terms)
    assert (len(plan.rows), plan.reason) == prefix_row_by_row(rows, terms)
    assert list(plan.rows) == rows[: len(plan.rows)]
    assert plan.predicted_s == terms.service_s(plan.rows)


def feasible_row_by_row(rows: Sequence[Row], size: int, terms: Terms) -> list[Row]:
    ends_s = terms.start_s + terms.service_s(rows[-size:]) * terms.caution
    chosen: list[Row] = []
    work = Work(0, 0, 0, 0)
    for row in rows:
        if row.deadline_s < ends_s:
            continue
        work = work.plus(row)
        if not terms.fits(work) or len(chosen) == size:
            break
        chosen.append(row)
    finish_s = terms.start_s + terms.service_s(chosen) * terms.caution
    return [row for row in chosen if row.deadline_s >= finish_s]


@given(seeds)
def test_rows_are_feasible_as_they_are_row_by_row(seed: int) -> None:
    rng = random.Random(seed)
    rows, terms = rows_of(rng), terms_of(rng)
    size = rng.randint(1, min(terms.max_rows, len(rows)))
    assert adaptive._feasible(rows, size, terms) == feasible_row_by_row(rows, size, terms)


def served_by_halving(
    deadline_s: float,
    place: int,
    queue: RowQueue,
    terms: Terms,
    tokens: float,
    rate: float,
) -> bool:
    """At time 0: each batch ahead is looked for among all sizes."""

    def ends_s(size: int) -> float:
        return starts_s + terms.service.predict_s(Work.alike(size, tokens)) * terms.caution

    taken, starts_s = 0, terms.start_s
    everyone = len(queue) + 1 + int(COUNTED_ARRIVALS * rate * starts_s)
    if everyone <= terms.max_rows and deadline_s >= ends_s(everyone):
        return True
    for _ in range(BATCHES_AHEAD):
        coming = COUNTED_ARRIVALS * rate * starts_s
        low, high = 1, terms.max_rows
        while low < high:
            middle = (low + high + 1) // 2
            present = len(queue) - max(queue.count_before(ends_s(middle)), taken)
            if present + coming + (deadline_s >= ends_s(middle)) >= middle:
                low = middle
            else:
                high = middle - 1
        end_s = ends_s(low)
        if deadline_s < end_s:
            return False
        taken = max(queue.count_before(end_s), taken) + low
        if place < taken:
            return True
        starts_s = end_s
    return True


@given(seeds)
def test_the_door_decides_as_if_it_looked_at_every_size(seed: int) -> None:
    rng = random.Random(seed)
    terms, door = terms_of(rng), Door()
    queue = RowQueue(rng.choice(list(Order)))
    for row in rows_of(rng, most=120):
        queue.add(row)
    tokens, rate = rng.uniform(1, 40), rng.choice([0.0, 100.0, 3000.0])
    for row in rows_of(rng, most=10):
        door.factor = 1.0
        expected = served_by_halving(
            row.deadline_s, queue.ahead_of(row), queue, terms, tokens, rate
        )
        assert door.admits(row, queue, terms, tokens, rate, 0.0) == expected
