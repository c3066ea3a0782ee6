"""Greedy text is transformers' own, however the steps are made. In float32 on a CPU."""

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from predictor.core.generation import GREEDY, Sampled, Sampling
from predictor.core.rows import Piece
from predictor.engine.step_warmup import warm_up_steps
from predictor.runner.generator import Generator
from predictor.runner.step_inputs import StepInputs
from tests.runner.decoders import (
    CONTEXT,
    VARIANTS,
    VOCABULARY,
    Reference,
    load_decoder,
    write_variant,
)
from tests.runner.stepping import Habits, Stepper, greedy, task_of, texts

TOKENS = 16
LENGTHS = (1, 2, 15, 16, 17, 31, 33, 40)
HABITS = {
    "alone": Habits(most_rows=1),
    "in a full batch": Habits(most_rows=8),
    "in chunks": Habits(most_rows=8, chunk=(1, 7), seed=1),
    "paused": Habits(most_rows=8, chunk=(3, 20), share=0.4, seed=2),
    "evicted": Habits(most_rows=8, chunk=(5, 30), evicted=0.08, seed=3, pages=50),
    "all at once": Habits(
        most_rows=5, chunk=(1, 9), share=0.6, evicted=0.05, prefix_cache=True, pages=60
    ),
}


def prompts_of(seed: int = 0) -> list[list[int]]:
    drawn = random.Random(seed)
    return [[drawn.randrange(VOCABULARY) for _ in range(length)] for length in LENGTHS]


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_variant(tmp_path_factory.mktemp("decoder"), request.param)


@pytest.fixture(scope="module")
def runner(folder: Path) -> Generator:
    return load_decoder(folder)


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[list[int]]:
    reference = Reference(folder)
    return [reference.greedy(prompt, TOKENS) for prompt in prompts_of()]


def test_texts_say_something(expected: list[list[int]]) -> None:
    assert all(len(text) == TOKENS for text in expected)
    assert len({tuple(text) for text in expected}) == len(LENGTHS)
    assert sum(len(set(text)) for text in expected) > 5 * len(LENGTHS)


@pytest.mark.parametrize("how", HABITS)
def test_greedy_text_is_that_of_generate(
    runner: Generator, expected: list[list[int]], how: str
) -> None:
    stepper = Stepper(runner, HABITS[how])
    assert stepper.run([task_of(each, greedy(TOKENS)) for each in prompts_of()]) == expected
    assert bool(stepper.evictions) == bool(HABITS[how].evicted)


def test_a_prefix_hit_changes_nothing(runner: Generator, folder: Path) -> None:
    drawn = random.Random(5)
    shared = [drawn.randrange(VOCABULARY) for _ in range(50)]
    prompts = [shared + [index] * index for index in range(6)]
    stepper = Stepper(runner, Habits(prefix_cache=True, most_rows=2, chunk=(1, 40)))
    tasks = [task_of(prompt, greedy(8)) for prompt in prompts]
    reference = Reference(folder)
    assert stepper.run(tasks) == [reference.greedy(prompt, 8) for prompt in prompts]
    assert stepper.prefix_hits >= 3 * 3


def test_text_fills_the_context(runner: Generator, folder: Path) -> None:
    assert runner.spec.max_tokens == CONTEXT
    prompt = prompts_of()[-1]
    tokens = CONTEXT - len(prompt)
    assert texts(runner, [prompt], greedy(tokens)) == [Reference(folder).greedy(prompt, tokens)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load_decoder(
        write_variant(tmp_path_factory.mktemp("llama"), "qwen2, windows in some layers")
    )


@pytest.fixture(scope="module")
def alone(llama: Generator) -> list[list[int]]:
    return texts(llama, prompts_of(), mixed_sampling(), most_rows=1)


def mixed_sampling() -> list[Sampling]:
    """One asks for each thing, some for several."""
    return [
        Sampling(max_tokens=TOKENS, seed=1),
        Sampling(max_tokens=TOKENS, seed=2, temperature=3.0, top_p=0.8),
        Sampling(max_tokens=TOKENS, seed=3, top_k=5, repetition_penalty=1.3),
        Sampling(max_tokens=TOKENS, temperature=GREEDY, frequency_penalty=1.5),
        Sampling(max_tokens=TOKENS, seed=5, temperature=2.0, min_p=0.05, presence_penalty=1.0),
        Sampling(max_tokens=TOKENS, temperature=GREEDY, logit_bias=((7, 5.0), (8, -100.0))),
        Sampling(max_tokens=TOKENS, seed=7, min_tokens=9, stop_ids=tuple(range(40))),
        Sampling(max_tokens=TOKENS, temperature=GREEDY),
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.builds(
        Habits,
        most_rows=st.integers(1, 8),
        chunk=st.tuples(st.integers(1, 5), st.integers(5, 40)),
        share=st.floats(0.3, 1.0),
        evicted=st.floats(0.0, 0.1),
        prefix_cache=st.booleans(),
        seed=st.integers(0, 1000),
    )
)
def test_sampled_text_depends_on_its_row_alone(
    llama: Generator, alone: list[list[int]], habits: Habits
) -> None:
    tasks = [
        task_of(prompt, sampling)
        for prompt, sampling in zip(prompts_of(), mixed_sampling(), strict=True)
    ]
    assert Stepper(llama, habits).run(tasks) == alone


def test_min_tokens_comes_before_stop_ids(alone: list[list[int]]) -> None:
    text = alone[6]
    assert len(text) > 9
    assert all(token >= 40 for token in text[:9])
    assert text[-1] < 40
    assert len(text) < TOKENS


def test_what_a_row_left_in_its_pages_harms_nobody(llama: Generator) -> None:
    """Not-a-number times nothing is not nothing."""
    sick_id = 3
    prompts = [[id_ for id_ in prompt if id_ != sick_id] for prompt in prompts_of()]
    asked = [
        Sampling(max_tokens=TOKENS, temperature=GREEDY, logit_bias=((sick_id, -1000.0),))
    ] * len(prompts)
    expected = texts(llama, prompts, asked)
    embedding = llama._weights.embedding
    kept = embedding[sick_id].clone()
    embedding[sick_id] = float("nan")
    try:
        healthy = [task_of(*each) for each in zip(prompts, asked, strict=True)]
        sick = [task_of([5, sick_id, *range(10, 40)], greedy(4)) for _ in prompts]
        both = [task for pair in zip(sick, healthy, strict=True) for task in pair]
        Stepper(llama, Habits(most_rows=4, chunk=(3, 11), pages=24)).run(both)
    finally:
        embedding[sick_id] = kept
    assert all("not finite" in str(task.failure) for task in sick)
    assert [task.text for task in healthy] == expected


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**40])
def test_a_bad_id_ends_its_row_alone(llama: Generator, wrong: int) -> None:
    prompts = prompts_of()
    expected = texts(llama, prompts, greedy(6))
    bad = task_of([5, wrong, 6], greedy(6))
    tasks = [task_of(prompt, greedy(6)) for prompt in prompts]
    tasks.insert(3, bad)
    Stepper(llama, Habits(chunk=(1, 9))).run(tasks)
    assert isinstance(bad.failure, ValueError)
    assert f"0 to {VOCABULARY - 1}" in str(bad.failure)
    assert [task.text for task in tasks if task is not bad] == expected


def test_a_piece_that_is_not_the_slots_row_fails_alone(llama: Generator) -> None:
    row, other = (task_of([4, 5, 6], greedy(3)).row for _ in range(2))
    first = Piece(row, 0, 0, 3, (0,), fresh=True, samples=True)
    pieces = [
        Piece(other, 0, 3, 1, (), fresh=False, samples=True),
        Piece(row, 0, 3, 1, (), fresh=False, samples=True),
        Piece(other, 999, 0, 3, (1,), fresh=True, samples=True),
        Piece(other, 1, 0, 3, (10**6,), fresh=True, samples=True),
        Piece(other, 2, 0, 3, (), fresh=True, samples=True),
    ]
    assert not isinstance(llama.run_step([first])[0], Exception)
    results = llama.run_step(pieces)
    assert [isinstance(each, ValueError) for each in results] == [True, False, True, True, True]


def test_a_step_that_raised_can_be_run_again(
    llama: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of its pieces begin rows, some go on with pages, some decode."""
    prompts = prompts_of()
    asked = mixed_sampling()
    expected = texts(llama, prompts, asked)

    class Insistent:
        spec = llama.spec

        def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
            try:
                return llama.run_step(pieces)
            except RuntimeError:
                return [each for piece in pieces for each in self.run_step([piece])]

    monkeypatch.setattr(llama, "_hidden", _failing_after(llama))
    assert texts(Insistent(), prompts, asked, chunk=(2, 9)) == expected


def test_warm_up_times_its_steps(tmp_path: Path) -> None:
    runner = load_decoder(write_variant(tmp_path, "llama"))
    timed = list(warm_up_steps(runner))
    assert len(timed) > 3
    assert all(step.seconds > 0 for step in timed)
    assert len({step.work for step in timed}) == len(timed)


def _failing_after(runner: Generator) -> Callable[[StepInputs], Tensor]:
    hidden, calls = runner._hidden, itertools.count()

    def failing(step: StepInputs) -> Tensor:
        made = hidden(step)
        if next(calls) % 4 == 2:
            raise RuntimeError("the device said no")
        return made

    return failing
