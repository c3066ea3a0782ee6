"""A device that runs in steps: predicted by a table, whose entries help each other a little."""

import random
from collections.abc import Sequence
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.model import Step
from predictor.core.rows import Batch, Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import (
    MOST_CHANGE,
    OWN_RATE,
    SHARED_RATE,
    SteppedServiceTime,
    restored,
)
from predictor.simulation.simulator import Simulator
from predictor.simulation.traffic import poisson_traffic
from tests.policy.worlds import MODEL, parameters

STEPS = [Step(tokens, rows) for tokens in (64, 128, 256, 512) for rows in (8, tokens // 4)]
LARGEST = STEPS[-1]


def full(step: Step) -> Work:
    """As many tokens as the step holds, in as many rows; they need not be alike."""
    return Work(step.rows, step.tokens, step.tokens * step.tokens // step.rows, step.tokens)


def time_s(step: Step) -> float:
    return 0.7e-3 + 5e-6 * step.tokens + 1e-6 * step.rows


def step_of(work: Work) -> Step:
    return next(step for step in STEPS if step.tokens >= work.tokens and step.rows >= work.rows)


def warmed_up(steps: Sequence[Step] = STEPS) -> SteppedServiceTime:
    model = SteppedServiceTime(steps)
    for step in steps:
        model.learn(full(step), time_s(step))
    return model


def a_batch(rng: random.Random) -> Work:
    """It fits into one of the steps."""
    tokens = rng.randint(1, LARGEST.tokens)
    rows = rng.randint(1, max(tokens // 4, 1))
    return Work(rows, tokens, tokens * tokens // rows, tokens)


def test_predictions_are_the_measured_steps() -> None:
    model = warmed_up()
    rng = random.Random(1)
    for work in [full(step) for step in STEPS] + [a_batch(rng) for _ in range(200)]:
        assert model.predict_s(work) == pytest.approx(time_s(step_of(work)))


def test_the_device_computes_the_whole_step() -> None:
    model = warmed_up()
    assert model.computed_tokens(Work.alike(1, 1)) == 64
    assert model.computed_tokens(Work.alike(1, 64)) == 64
    assert model.computed_tokens(Work.alike(1, 65)) == 128
    assert model.computed_tokens(Work.alike(40, 1)) == 256  # for the room for so many rows
    assert model.computed_tokens(Work.alike(3, 200)) == 600  # without a step: no more than asked


def test_beyond_the_last_step_the_smooth_model_answers() -> None:
    model = warmed_up()
    rng = random.Random(2)
    for _ in range(200):
        work = Work.alike(rng.randint(1, 40), 600)
        measured_s = 1e-3 + 5e-6 * work.tokens
        model.learn(work, measured_s)
    assert model.predict_s(Work.alike(10, 600)) == pytest.approx(31e-3, rel=0.05)
    for step in STEPS:  # and what it learned changed no step
        assert model.predict_s(full(step)) == pytest.approx(time_s(step))


WORKS = st.tuples(st.integers(1, 200), st.integers(1, 60))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(WORKS, st.floats(1e-5, 1.0)), max_size=40), WORKS, WORKS)
def test_more_work_never_takes_less(
    taught: list[tuple[tuple[int, int], float]], one: tuple[int, int], other: tuple[int, int]
) -> None:
    """Whatever was measured, in whatever order, of some steps or of none."""
    model = SteppedServiceTime(STEPS)
    for (rows, length), measured_s in taught:
        model.learn(Work.alike(rows, length), measured_s)
    less = Work.alike(min(one[0], other[0]), min(one[1], other[1]))
    more = Work.alike(max(one[0], other[0]), max(one[1], other[1]))
    assert 0 < model.predict_s(less) <= model.predict_s(more)


def test_a_step_that_got_slower_is_learned_within_50_batches_and_drags_the_others_a_little() -> (
    None
):
    model = warmed_up()
    slow = STEPS[2]
    for _ in range(50):
        model.learn(full(slow), 1.2 * time_s(slow))
    assert model.predict_s(full(slow)) == pytest.approx(1.2 * time_s(slow), rel=0.01)
    for step in STEPS:
        if step.tokens > 2 * slow.tokens:  # far enough not to be pushed up by the slow one
            dragged = model.predict_s(full(step)) / time_s(step)
            assert 1.01 < dragged < 1.0 + 0.2 * 2 * SHARED_RATE / OWN_RATE


def test_a_hiccup_moves_a_step_by_no_more_than_a_bounded_share() -> None:
    model = warmed_up()
    model.learn(full(STEPS[-1]), 10 * time_s(STEPS[-1]))
    moved = model.predict_s(full(STEPS[-1])) / time_s(STEPS[-1])
    assert 1.0 < moved <= 1.0 + OWN_RATE * (MOST_CHANGE - 1.0) + 1e-12
    others = model.predict_s(full(STEPS[0])) / time_s(STEPS[0])
    assert 1.0 < others <= 1.0 + SHARED_RATE * (MOST_CHANGE - 1.0) + 1e-12


@pytest.mark.parametrize("change", [1.5, 1 / 1.5, 3.0, 1 / 3])
@pytest.mark.parametrize("steps_used", [len(STEPS), 3, 1])
def test_error_is_small_within_200_batches_of_a_change(change: float, steps_used: int) -> None:
    """On the traffic it sees: steps that it does not see must not spoil those that it does."""
    rng = random.Random(1)
    model = warmed_up()
    used = rng.sample(STEPS, steps_used)

    def batch() -> Work:
        return next(work for work in iter(lambda: a_batch(rng), None) if step_of(work) in used)

    for _ in range(200):
        work = batch()
        model.learn(work, change * time_s(step_of(work)) * rng.gauss(1, 0.03))
    works = [batch() for _ in range(200)]
    errors = [abs(model.predict_s(each) / (change * time_s(step_of(each))) - 1) for each in works]
    assert median(errors) <= 0.05


def test_batches_account_for_the_room_left_in_their_step() -> None:
    def truth(batch: Batch) -> float:
        return time_s(step_of(Work.of(batch.rows)))

    made = Scheduler(parameters(max_batch_tokens=LARGEST.tokens))
    made.add_model(MODEL, [warmed_up()])
    ran = Simulator(made, truth).simulate(poisson_traffic(2000, 2.0, seed=4, tokens=20))
    assert len(ran.answered) > 3000
    assert {step_of(Work.of(each.batch.rows)) for each in ran.executions} != {STEPS[0]}
    for each in ran.executions:
        batch = each.batch
        step = step_of(Work.of(batch.rows))
        assert batch.padding_tokens == step.tokens - batch.tokens
        assert batch.predicted_s == pytest.approx(each.finished_s - each.started_s, rel=1e-6)


def test_what_one_model_tells_makes_another_that_predicts_the_same() -> None:
    stepped = warmed_up()
    padded = ServiceTimeModel(Packing.PADDED, (5e-3, 1e-5, 1e-9))
    for model in (stepped, padded):
        copy = restored(model.packing, model.weights)
        assert copy.weights == model.weights
        for rows, tokens in ((1, 10), (8, 30), (500, 100)):
            work = Work.alike(rows, tokens)
            assert copy.predict_s(work) == model.predict_s(work)
