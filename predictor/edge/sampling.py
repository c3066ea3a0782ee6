"""What clients may ask of how a text is generated, in whatever protocol, and what becomes of it.

Names and ranges are those of OpenAI's API, and vLLM's for what that lacks.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from predictor.core.errors import InvalidRequest
from predictor.core.generation import Sampling
from predictor.core.model import ModelSpec

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_STOP_IDS = 64
MAX_BIASES = 1024
MAX_LOGPROBS = 20
_SEED_BITS = 63
_CHOICE_STEP = 0x9E3779B97F4A7C15  # of the golden ratio: seeds of neighbours share no pattern

StopString = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARACTERS)]
TokenId = Annotated[int, Meta(ge=0, le=1 << 31)]


class SamplingFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """None: the client does not say, and the checkpoint's own default holds."""

    max_tokens: Annotated[int, Meta(ge=1, le=1 << 31)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=1 << 31)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MAX_STOP_IDS)] | None = None
    ignore_eos: bool | None = None
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1 << 31)] | None = None  # -1 and 0: all
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    logit_bias: Mapping[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None

    @property
    def asked(self) -> Sequence[str]:
        """Names of the fields that the client set."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]

    @property
    def stop_strings(self) -> Sequence[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or ()


def sampling_of(
    fields: SamplingFields,
    spec: ModelSpec,
    *,
    prompt_tokens: int,
    max_tokens: int | None,
    logprobs: int | None = None,
    prompt: str = "prompt",
) -> Sampling:
    """How a row with a prompt of so many tokens is sampled. Its seed is yet to be set.

    `max_tokens` None: as many as the context has room for. `prompt` is what the client calls it.
    Raises InvalidRequest for what does not fit the model.
    """
    assert spec.generation is not None
    room = spec.max_tokens - prompt_tokens
    if room < 1:
        raise InvalidRequest(
            f"{prompt}: has {prompt_tokens} tokens, and the context of this model is"
            f" {spec.max_tokens}, output included; send a shorter one"
        )
    if max_tokens is not None and max_tokens > room:
        raise InvalidRequest(
            f"max_tokens: {max_tokens} and the {prompt_tokens} tokens of the prompt are over the"
            f" context of this model, {spec.max_tokens}; ask for at most {room}"
        )
    most = room if max_tokens is None else max_tokens
    least = fields.min_tokens or 0
    if least > most:
        raise InvalidRequest(f"min_tokens: {least} is over max_tokens, {most}")
    given = _Given(fields, spec.generation.defaults)
    return Sampling(
        max_tokens=most,
        min_tokens=least,
        temperature=given("temperature", 1.0),
        top_p=given("top_p", 1.0),
        top_k=max(int(given("top_k", 0)), 0),
        min_p=given("min_p", 0.0),
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=given("repetition_penalty", 1.0),
        logit_bias=_biases(fields.logit_bias, spec.vocabulary_size),
        stop_ids=_stop_ids(fields, spec),
        logprobs=logprobs,
    )


def seeds_for(seed: int | None, rows: int) -> list[int]:
    """A seed for each row: derived from the client's, or drawn where it gave none."""
    if seed is None:
        return [random.getrandbits(_SEED_BITS) for _ in range(rows)]
    mask = (1 << _SEED_BITS) - 1
    return [(seed + index * _CHOICE_STEP) & mask for index in range(rows)]


class _Given:
    """A field's value: the client's, the checkpoint's, or the protocol's."""

    def __init__(self, fields: SamplingFields, defaults: Mapping[str, float]) -> None:
        self._fields = fields
        self._defaults = defaults

    def __call__(self, name: str, otherwise: float) -> float:
        asked: float | None = getattr(self._fields, name)
        return self._defaults.get(name, otherwise) if asked is None else asked


def _biases(given: Mapping[str, float] | None, vocabulary: int) -> list[tuple[int, float]]:
    if not given:
        return []
    if len(given) > MAX_BIASES:
        raise InvalidRequest(f"logit_bias: has {len(given)} entries; send at most {MAX_BIASES}")
    return [(_token_id(key, vocabulary, "logit_bias"), bias) for key, bias in given.items()]


def _stop_ids(fields: SamplingFields, spec: ModelSpec) -> list[int]:
    assert spec.generation is not None
    named = [
        _token_id(each, spec.vocabulary_size, "stop_token_ids")
        for each in fields.stop_token_ids or ()
    ]
    return named if fields.ignore_eos else [*spec.generation.end_ids, *named]


def _token_id(given: Any, vocabulary: int, name: str) -> int:
    text = str(given)
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= vocabulary:
        raise InvalidRequest(
            f"{name}: {text[:32]!r} is no token of this model; ids are 0 to {vocabulary - 1}"
        )
    return int(text)
