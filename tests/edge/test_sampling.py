"""What clients ask of sampling, as the runner gets it."""

from typing import Any

import msgspec
import pytest

from predictor.core.errors import InvalidRequest
from predictor.core.generation import Sampling
from predictor.core.model import GenerationSpec, ModelSpec, Task
from predictor.edge.sampling import MAX_BIASES, SamplingFields, sampling_of, seeds_for


def spec(**defaults: float) -> ModelSpec:
    return ModelSpec(
        name="words",
        task=Task.TEXT_GENERATION,
        row_datatype="INT64",
        result_datatype="INT64",
        result_width=1,
        max_tokens=100,
        vocabulary_size=50,
        generation=GenerationSpec(
            page_tokens=16, pages=64, slots=8, end_ids=(48, 49), defaults=defaults
        ),
    )


def sampled(model: ModelSpec | None = None, prompt: int = 10, **asked: Any) -> Sampling:
    fields = msgspec.convert(asked, SamplingFields)
    return sampling_of(fields, model or spec(), prompt_tokens=prompt, max_tokens=fields.max_tokens)


def test_nothing_asked_is_what_the_protocols_say() -> None:
    sampling = sampled()
    assert sampling.max_tokens == 90
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1, 1, 0, 0)
    assert sampling.repetition_penalty == 1
    assert list(sampling.stop_ids) == [48, 49]
    assert sampling.logprobs is None


def test_the_checkpoint_s_defaults_hold_until_the_client_says_otherwise() -> None:
    model = spec(temperature=0.6, top_k=20, top_p=0.95, repetition_penalty=1.1)
    sampling = sampled(model)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 20, 0.95)
    assert sampling.repetition_penalty == 1.1
    sampling = sampled(model, temperature=0, top_k=-1, top_p=1)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0, 0, 1)


def test_what_ends_a_row() -> None:
    assert list(sampled(stop_token_ids=[3]).stop_ids) == [48, 49, 3]
    assert list(sampled(stop_token_ids=[3], ignore_eos=True).stop_ids) == [3]
    assert list(sampled(ignore_eos=True).stop_ids) == []


def test_biases() -> None:
    assert list(sampled(logit_bias={"3": -100, "49": 1.5}).logit_bias) == [(3, -100), (49, 1.5)]


@pytest.mark.parametrize(
    ("problem", "asked"),
    [
        ("max_tokens: 91", {"max_tokens": 91}),
        ("min_tokens: 6 is over max_tokens, 5", {"max_tokens": 5, "min_tokens": 6}),
        ("min_tokens: 91", {"min_tokens": 91}),
        ("prompt: has 100 tokens", {"prompt": 100}),
        ("prompt: has 4000 tokens", {"prompt": 4000}),
        ("logit_bias: '50'", {"logit_bias": {"50": 1}}),
        ("logit_bias: '-1'", {"logit_bias": {"-1": 1}}),
        ("logit_bias: '1.0'", {"logit_bias": {"1.0": 1}}),
        ("logit_bias: '²'", {"logit_bias": {"²": 1}}),
        ("logit_bias: ''", {"logit_bias": {"": 1}}),
        ("logit_bias: has 1025", {"logit_bias": dict.fromkeys(map(str, range(MAX_BIASES + 1)), 1)}),
        ("stop_token_ids: '50'", {"stop_token_ids": [50]}),
    ],
)
def test_what_does_not_fit_the_model(problem: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        sampled(**asked)
    assert raised.value.message.startswith(problem)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-0.1, 2.1, "warm", float("nan")]),
        ("top_p", [0, 1.1, float("nan")]),
        ("top_k", [-2, 1.5]),
        ("min_p", [-0.1, 1.1]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [-2.1, float("inf")]),
        ("repetition_penalty", [0, -1, 11]),
        ("max_tokens", [0, -1, 1.5, True]),
        ("min_tokens", [-1]),
        ("seed", [1 << 64, 0.5]),
        ("stop", ["", [""], ["a"] * 17, "a" * 257, 3]),
        ("stop_token_ids", [[-1], list(range(65)), 3]),
        ("logit_bias", [{"1": 101}, {"1": float("nan")}, [1]]),
        ("ignore_eos", [1, "yes"]),
        ("shout", [1]),
    ],
)
def test_what_is_out_of_every_range(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.convert({name: value}, SamplingFields)


def test_seeds() -> None:
    assert seeds_for(7, 3) == seeds_for(7, 3)
    assert seeds_for(7, 3)[:2] == seeds_for(7, 2)
    assert len(set(seeds_for(7, 100) + seeds_for(8, 100))) == 200
    assert all(0 <= seed < 1 << 63 for seed in [*seeds_for(-(1 << 63), 5), *seeds_for(None, 5)])
    assert seeds_for(None, 4) != seeds_for(None, 4)
