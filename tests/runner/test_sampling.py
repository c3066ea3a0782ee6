"""What is drawn, from logits that are known."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predictor.core.generation import GREEDY, Sampled, Sampling
from predictor.runner.sampling import Draw, Sampler, draw_tokens, uniforms

VOCABULARY = 12
DRAWS = 4000
PROBABILITIES = torch.tensor(
    [0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.01, 0.007, 0.003]
)
LOGITS = PROBABILITIES.log() + 3.0
CHI_SQUARE_LIMIT = 35.0  # of 11 degrees of freedom; seeds are fixed, so chance enters once


def choose(
    sampling: Sampling,
    logits: Tensor = LOGITS,
    *,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    count: int = 0,
    position: int = 7,
) -> Sampled | None:
    """The token of one row that stands beside two others."""
    sampler = Sampler(3, VOCABULARY, torch.device("cpu"))
    beside = Sampling(max_tokens=9, seed=5, top_p=0.5, presence_penalty=1.0)
    sampler.begin(0, beside, np.array([1, 2]), [3])
    sampler.begin(1, sampling, np.array(prompt, dtype=np.int64), output)
    sampler.begin(2, Sampling(max_tokens=9, temperature=GREEDY), np.array([1]), [])
    draws = [Draw(0, 3, 1), Draw(1, position, count), Draw(2, 1, 0)]
    return sampler.choose(torch.stack([LOGITS, logits, LOGITS]), draws).sampled()[1]


def chosen(sampling: Sampling, **options: Any) -> int:
    sampled = choose(sampling, **options)
    assert sampled is not None
    return sampled.id


def frequencies(**fields: Any) -> Tensor:
    """Of each token, over many seeds and positions."""
    asked = [Sampling(max_tokens=1, seed=seed, **fields) for seed in range(DRAWS)]
    uniform = torch.from_numpy(uniforms([each.seed for each in asked], [3] * DRAWS))
    ids = draw_tokens(LOGITS.expand(DRAWS, -1), asked, uniform)
    return torch.bincount(ids, minlength=VOCABULARY) / DRAWS


def check_distribution(measured: Tensor, expected: Tensor) -> None:
    expected = expected / expected.sum()
    assert float(measured[expected == 0].sum()) == 0
    there = expected > 0
    apart = (measured[there] - expected[there]).square() / expected[there]
    assert DRAWS * float(apart.sum()) < CHI_SQUARE_LIMIT


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_temperature(temperature: float) -> None:
    check_distribution(frequencies(temperature=temperature), (LOGITS / temperature).softmax(dim=-1))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"top_k": 1}, 1),
        ({"top_k": 4}, 4),
        ({"top_k": VOCABULARY + 5}, VOCABULARY),
        ({"top_p": 1e-6}, 1),
        ({"top_p": 0.3}, 1),
        ({"top_p": 0.31}, 2),
        ({"top_p": 0.8}, 5),
        ({"min_p": 0.25}, 5),  # at least a quarter of the likeliest
        ({"min_p": 1.0}, 1),
        ({"top_k": 4, "top_p": 0.8}, 3),  # of what top_k left: 0.75, of which 0.65 are 0.87
        ({"min_p": 0.25, "top_k": 4}, 4),
    ],
)
def test_what_is_cut_off_is_never_drawn(fields: dict[str, float], kept: int) -> None:
    expected = PROBABILITIES.where(torch.arange(VOCABULARY) < kept, 0.0)
    check_distribution(frequencies(**fields), expected)


def test_positions_of_one_seed_are_independent() -> None:
    uniform = uniforms([42] * DRAWS, list(range(DRAWS)))
    ids = draw_tokens(
        LOGITS.expand(DRAWS, -1), [Sampling(max_tokens=1)] * DRAWS, torch.from_numpy(uniform)
    )
    check_distribution(torch.bincount(ids, minlength=VOCABULARY) / DRAWS, PROBABILITIES)
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.05


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**31))
def test_a_uniform_is_below_one_and_the_same_again(seed: int, position: int) -> None:
    first, _, again = uniforms([seed, 1, seed], [position, 2, position])
    assert first == again
    assert 0 <= first < 1


def test_the_largest_uniform_chooses_what_has_weight() -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf, -200.0]])
    most = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert draw_tokens(logits, [Sampling(max_tokens=1)], most).tolist() == [1]
    none = torch.zeros(1, dtype=torch.float64)
    hidden = torch.tensor([[-math.inf, -math.inf, 0.0, 1.0]])
    assert draw_tokens(hidden, [Sampling(max_tokens=1)], none).tolist() == [2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40),
    st.floats(0.01, 0.99),
    st.integers(0, 10**6),
)
def test_a_nucleus_is_that_of_sorting(values: list[float], top_p: float, seed: int) -> None:
    logits = torch.tensor([values])
    asked = [Sampling(max_tokens=1, top_p=top_p, seed=seed)]
    (drawn,) = draw_tokens(logits, asked, torch.from_numpy(uniforms([seed], [1]))).tolist()
    probabilities = logits[0].double().softmax(dim=-1)
    # In float32, what lies closer than that may be as large.
    larger = probabilities[probabilities > probabilities[drawn] * (1 + 1e-5)].sum()
    assert float(larger) < top_p + 1e-5  # all that is likelier was not yet enough


def test_a_tiny_temperature_is_greedy() -> None:
    assert {chosen(Sampling(max_tokens=1, temperature=1e-30, seed=s)) for s in range(20)} == {0}


def test_greedy_takes_the_likeliest() -> None:
    assert chosen(Sampling(max_tokens=1, temperature=GREEDY)) == 0


@pytest.mark.parametrize("temperature", [GREEDY, 1e-3])
@pytest.mark.parametrize(
    ("fields", "prompt", "output", "expected"),
    [
        ({"logit_bias": ((5, 9.0),)}, (), (), 5),
        ({"logit_bias": ((0, -100.0),)}, (), (), 1),
        ({"logit_bias": ((5, 2.0), (5, 2.0))}, (), (), 5),  # named twice, added twice
        ({"presence_penalty": 1.0}, (0,), (), 0),  # not of the prompt
        ({"presence_penalty": 1.0}, (), (0,), 1),
        ({"presence_penalty": -2.0}, (), (5,), 5),
        ({"frequency_penalty": 0.3}, (), (0,), 0),
        ({"frequency_penalty": 0.3}, (), (0, 0), 1),
        ({"repetition_penalty": 1.5}, (0,), (), 1),
        ({"repetition_penalty": 1.5}, (), (0,), 1),
        ({"repetition_penalty": 0.5}, (5,), (), 0),
        ({"min_tokens": 1, "stop_ids": (0, 1)}, (), (), 2),
    ],
)
def test_each_parameter_does_what_it_says(
    temperature: float,
    fields: dict[str, Any],
    prompt: Sequence[int],
    output: Sequence[int],
    expected: int,
) -> None:
    sampling = Sampling(max_tokens=9, temperature=temperature, **fields)
    assert chosen(sampling, prompt=prompt, output=output) == expected


def test_stop_ids_are_free_from_min_tokens_on() -> None:
    sampling = Sampling(max_tokens=9, temperature=GREEDY, min_tokens=3, stop_ids=(0,))
    assert [chosen(sampling, count=count) for count in range(5)] == [1, 1, 1, 0, 0]


def test_repetition_pushes_negative_logits_down() -> None:
    logits = LOGITS - 10.0
    sampling = Sampling(max_tokens=9, temperature=GREEDY, repetition_penalty=2.0)
    assert chosen(sampling, logits=logits, prompt=(0,)) == 1


def test_what_was_chosen_counts_and_a_new_row_begins_at_nothing() -> None:
    sampler = Sampler(2, VOCABULARY, torch.device("cpu"))
    sampling = Sampling(max_tokens=9, temperature=GREEDY, frequency_penalty=100.0)
    for _ in range(2):
        sampler.begin(1, sampling, np.array([0]), [])
        text = []
        for position in range(5):
            draws = [Draw(1, position, position)]
            choice = sampler.choose(LOGITS[None].clone(), draws)
            sampler.count(draws, choice.ids)
            text += choice.ids.tolist()
        assert text == [0, 1, 2, 3, 4]


def test_logprobs_are_the_models_own() -> None:
    sampling = Sampling(
        max_tokens=1, temperature=GREEDY, logprobs=3, logit_bias=((5, 50.0),), top_k=2
    )
    sampled = choose(sampling)
    assert sampled is not None
    assert sampled.id == 5
    assert sampled.logprob == pytest.approx(math.log(0.06), abs=1e-5)
    assert [id_ for id_, _ in sampled.top] == [0, 1, 2]
    assert [math.exp(value) for _, value in sampled.top] == pytest.approx([0.3, 0.2, 0.15])


def test_logprobs_of_none_and_of_more_than_there_are() -> None:
    none = choose(Sampling(max_tokens=1, logprobs=0))
    assert none is not None
    assert none.top == ()
    assert none.logprob < 0
    everything = choose(Sampling(max_tokens=1, logprobs=VOCABULARY + 3))
    assert everything is not None
    assert len(everything.top) == VOCABULARY
    assert choose(Sampling(max_tokens=1, temperature=GREEDY)) == Sampled(0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [GREEDY, 1.0])
def test_what_is_no_number_is_no_token(value: float, temperature: float) -> None:
    logits = LOGITS.clone()
    logits[4] = value
    assert choose(Sampling(max_tokens=1, temperature=temperature), logits=logits) is None


def test_a_row_with_every_token_banned_has_none() -> None:
    sampling = Sampling(
        max_tokens=9, temperature=GREEDY, min_tokens=2, stop_ids=tuple(range(VOCABULARY))
    )
    assert choose(sampling) is None
