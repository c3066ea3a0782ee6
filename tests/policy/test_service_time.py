"""The service-time model learns what it is shown, fast, and never absurdly."""

import random
from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.rows import Packing
from predictor.core.work import NOTHING
from predictor.policy.service_time import MAX_MARGIN, ServiceTimeModel, Work

Truth = Callable[[Work], float]


def padded_s(work: Work) -> float:
    return 5e-3 + 1e-5 * work.rows * work.longest


def packed_s(work: Work) -> float:
    return 0.7e-3 + 2e-6 * work.rows + 4.5e-7 * work.tokens + 1e-10 * work.pairs


def a_batch(rng: random.Random) -> Work:
    lengths = [
        min(512, max(8, int(rng.lognormvariate(4.16, 0.8)))) for _ in range(rng.randint(1, 64))
    ]
    return Work(len(lengths), sum(lengths), sum(n * n for n in lengths), max(lengths))


def teach(model: ServiceTimeModel, truth: Truth, rng: random.Random, batches: int) -> None:
    for _ in range(batches):
        work = a_batch(rng)
        model.learn(work, truth(work) * rng.gauss(1, 0.03))


def error(model: ServiceTimeModel, truth: Truth, rng: random.Random) -> float:
    works = [a_batch(rng) for _ in range(200)]
    return median(abs(model.predict_s(work) / truth(work) - 1) for work in works)


@pytest.mark.parametrize(
    ("packing", "truth"), [(Packing.PADDED, padded_s), (Packing.PACKED, packed_s)]
)
@pytest.mark.parametrize("change", [3.0, 1 / 3])
def test_error_is_small_within_200_batches_of_a_change(
    packing: Packing, truth: Truth, change: float
) -> None:
    rng = random.Random(1)
    model = ServiceTimeModel(packing)
    teach(model, truth, rng, 200)
    assert error(model, truth, rng) <= 0.05
    teach(model, lambda work: change * truth(work), rng, 200)
    assert error(model, lambda work: change * truth(work), rng) <= 0.05
    assert model.error_ratio <= 0.05
    assert 0 <= model.margin <= MAX_MARGIN


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 512), st.floats(1e-6, 10)), max_size=60)
)
def test_predictions_are_positive_and_grow_with_the_work(
    taught: list[tuple[int, int, float]],
) -> None:
    for packing in Packing:
        model = ServiceTimeModel(packing)
        for rows, length, seconds in taught:
            model.learn(Work.alike(rows, length), seconds)
        assert all(weight >= 0 for weight in model.weights.values())
        times = [model.predict_s(Work.alike(rows, 64)) for rows in (1, 2, 8, 64)]
        assert times == sorted(times)
        assert times[0] > 0
        longer = [model.predict_s(Work.alike(8, tokens)) for tokens in (1, 16, 512)]
        assert longer == sorted(longer)


def paged_s(work: Work) -> float:
    """What an H200 takes for steps of a model of 1.2 B parameters, about."""
    prompt_tokens = work.tokens - work.rows
    return 1.13e-3 + 1.8e-6 * work.rows + 4.6e-6 * prompt_tokens + 9e-9 * work.context


def a_step(rng: random.Random) -> Work:
    rows = rng.randint(0, 400)
    work = NOTHING.with_decodes(rows, rows * rng.randint(50, 3000))
    for _ in range(rng.choice([0, 0, 1, 2, 5])):
        work = work.with_piece(rng.randint(16, 2048), rng.choice([0, 0, rng.randint(0, 8000)]))
    return work if work.rows else a_step(rng)


@pytest.mark.parametrize("change", [1.0, 3.0, 1 / 3])
def test_step_times_are_learned(change: float) -> None:
    rng = random.Random(5)
    model = ServiceTimeModel(Packing.PAGED)
    for factor in (1.0, change):
        for _ in range(200):
            work = a_step(rng)
            model.learn(work, factor * paged_s(work) * rng.gauss(1, 0.03))
    steps = [a_step(rng) for _ in range(300)]
    errors = [abs(model.predict_s(work) / (change * paged_s(work)) - 1) for work in steps]
    assert median(errors) <= 0.05
    assert model.error_ratio <= 0.05


def cpu_s(work: Work) -> float:
    """What a CPU takes for steps of a model of 135 M parameters: one token is no matrix."""
    several_s = 0.024 if work.tokens > 1 else 0.0
    tokens_s = 5.7e-3 * work.rows + 2.6e-3 * (work.tokens - work.rows)
    return 0.055 + several_s + tokens_s + 8e-6 * work.context + 7e-7 * work.pairs


def test_a_step_of_one_token_takes_less_than_the_others_say() -> None:
    rng = random.Random(7)
    model = ServiceTimeModel(Packing.PAGED)

    def step() -> Work:
        rows = rng.choice([0, 1, 1, 2, 4, 8, 16])
        work = NOTHING.with_decodes(rows, rows * rng.randint(10, 600))
        if rng.random() < 0.5 or not rows:
            work = work.with_piece(rng.randint(8, 128), rng.choice([0, rng.randint(0, 600)]))
        return work

    for _ in range(200):
        work = step()
        model.learn(work, cpu_s(work) * rng.gauss(1, 0.03))
    errors = [abs(model.predict_s(work) / cpu_s(work) - 1) for work in (step() for _ in range(300))]
    assert median(errors) <= 0.03
    for rows in (1, 2):
        few = NOTHING.with_decodes(rows, rows * 300)
        assert model.predict_s(few) == pytest.approx(cpu_s(few), rel=0.08)


def test_a_row_that_decodes_costs_less_than_a_token_of_a_prompt() -> None:
    model = ServiceTimeModel(Packing.PAGED, (1e-3, 2e-6, 5e-6, 1e-8, 0.0, 0.0))
    decodes = model.predict_s(NOTHING.with_decodes(100, 100))
    prompt = model.predict_s(NOTHING.with_piece(100, 0))
    assert decodes == pytest.approx(1e-3 + 2e-4 + 1e-6)
    assert prompt == pytest.approx(1e-3 + 2e-6 + 99 * 5e-6 + 1e-6)


def test_one_size_only_does_not_spoil_the_rest() -> None:
    rng = random.Random(2)
    model = ServiceTimeModel(Packing.PADDED)
    teach(model, padded_s, rng, 200)
    for _ in range(500):
        model.learn(Work.alike(4, 100), padded_s(Work.alike(4, 100)) * rng.gauss(1, 0.02))
    assert error(model, padded_s, rng) <= 0.15


def test_lessons_are_bounded_in_time() -> None:
    model = ServiceTimeModel(Packing.PADDED)
    for tick in range(100):
        model.learn_at(tick * 1e-4, Work.alike(1, 1), 1e-4)
    assert model.batches == 5


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0, 0.0)])
def test_bad_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weights of 0 or more"):
        ServiceTimeModel(Packing.PADDED, weights)
