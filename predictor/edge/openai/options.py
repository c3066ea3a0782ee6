"""From what a client asked to how its rows are sampled; what cannot be is refused by its name."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from predictor.core.errors import InvalidRequest
from predictor.core.generation import Sampling
from predictor.core.model import ModelSpec
from predictor.edge.openai.schema import MAX_BIASES, ChatRequest, Common, CompletionRequest

COMPLETION_TOKENS = 16  # where a completion names no max_tokens; OpenAI's default
URGENT_TIERS = ("auto", "default", "priority")
BULK_TIER = "flex"
_SEED_BITS = 63
_CHOICE_STEP = 0x9E3779B97F4A7C15  # of the golden ratio: seeds of neighbours share no pattern


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the choices of a request are generated, whatever their prompts are."""

    choices: int  # of each prompt
    stop: Sequence[str]
    streams: bool
    include_usage: bool
    logprobs: int | None  # of the likeliest, beside each token's own; None: none at all


def options_of(request: CompletionRequest | ChatRequest) -> Options:
    """Raises InvalidRequest for options that contradict each other."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options: is for streams; set stream, or leave it out")
    stop = request.stop
    return Options(
        choices=request.n or 1,
        stop=[stop] if isinstance(stop, str) else stop or (),
        streams=bool(request.stream),
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        logprobs=_logprobs(request),
    )


def bulk_asked(service_tier: str | None) -> bool:
    """Whether OpenAI's service tier asks for bulk. Raises InvalidRequest for an unknown one."""
    if service_tier is None or service_tier in URGENT_TIERS:
        return False
    if service_tier == BULK_TIER:
        return True
    raise InvalidRequest(
        f"service_tier: must be one of {', '.join((*URGENT_TIERS, BULK_TIER))},"
        f" not {service_tier[:32]!r}"
    )


def max_tokens_of(request: CompletionRequest | ChatRequest) -> int | None:
    """What the client allows at most; None for a chat that may fill the context."""
    if isinstance(request, CompletionRequest):
        return request.max_tokens or COMPLETION_TOKENS
    named = request.max_completion_tokens
    if named is not None and request.max_tokens is not None and named != request.max_tokens:
        raise InvalidRequest("max_completion_tokens: differs from max_tokens; send one of the two")
    return named or request.max_tokens


def sampling_of(
    request: Common,
    spec: ModelSpec,
    *,
    prompt_tokens: int,
    max_tokens: int | None,
    logprobs: int | None,
    seeds: Sequence[int],
) -> list[Sampling]:
    """One for each seed. Where the client is silent, the checkpoint's own defaults hold.

    Raises InvalidRequest for what does not fit the model.
    """
    assert spec.generation is not None
    room = spec.max_tokens - prompt_tokens
    if room < 1 or (max_tokens is not None and max_tokens > room):
        asked = "" if max_tokens is None else f" and max_tokens {max_tokens}"
        raise InvalidRequest(
            f"max_tokens: the prompt has {prompt_tokens} tokens{asked}, but the context of this"
            f" model is {spec.max_tokens}; shorten the prompt or lower max_tokens"
        )
    most = room if max_tokens is None else max_tokens
    least = request.min_tokens or 0
    if least > most:
        raise InvalidRequest(f"min_tokens: {least} is over max_tokens {most}")
    defaults = spec.generation.defaults
    plain = Sampling(
        max_tokens=most,
        min_tokens=least,
        temperature=_given(request.temperature, defaults, "temperature", 1.0),
        top_p=_given(request.top_p, defaults, "top_p", 1.0),
        top_k=max(int(_given(request.top_k, defaults, "top_k", 0)), 0),
        min_p=_given(request.min_p, defaults, "min_p", 0.0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=_given(request.repetition_penalty, defaults, "repetition_penalty", 1.0),
        logit_bias=_biases(request.logit_bias, spec.vocabulary_size),
        stop_ids=_stop_ids(request, spec),
        logprobs=logprobs,
    )
    return [msgspec.structs.replace(plain, seed=seed) for seed in seeds]


def seeds_for(seed: int | None, rows: int) -> list[int]:
    """A seed for each choice: derived from the client's, or drawn where it gave none."""
    if seed is None:
        return [random.getrandbits(_SEED_BITS) for _ in range(rows)]
    mask = (1 << _SEED_BITS) - 1
    return [(seed + index * _CHOICE_STEP) & mask for index in range(rows)]


def _given(
    asked: float | None, defaults: Mapping[str, float], name: str, otherwise: float
) -> float:
    return defaults.get(name, otherwise) if asked is None else asked


def _logprobs(request: CompletionRequest | ChatRequest) -> int | None:
    if isinstance(request, CompletionRequest):
        return request.logprobs
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs: needs logprobs; set it to true")
    return (request.top_logprobs or 0) if request.logprobs else None


def _biases(given: Mapping[str, float] | None, vocabulary: int) -> list[tuple[int, float]]:
    if not given:
        return []
    if len(given) > MAX_BIASES:
        raise InvalidRequest(f"logit_bias: has {len(given)} entries; at most {MAX_BIASES}")
    return [(_token_id(key, vocabulary, "logit_bias"), bias) for key, bias in given.items()]


def _stop_ids(request: Common, spec: ModelSpec) -> list[int]:
    assert spec.generation is not None
    named = [
        _token_id(each, spec.vocabulary_size, "stop_token_ids")
        for each in request.stop_token_ids or ()
    ]
    return named if request.ignore_eos else [*spec.generation.end_ids, *named]


def _token_id(given: Any, vocabulary: int, name: str) -> int:
    text = str(given)
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= vocabulary:
        raise InvalidRequest(
            f"{name}: {text[:32]!r} is no token of this model; ids are 0 to {vocabulary - 1}"
        )
    return int(text)
