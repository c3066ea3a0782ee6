"""What a client asks of a row that generates, and what comes back for it.

These are plain values: they cross the socket between edge and engine as they are. The row itself
and its part of a step are in rows.py.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

GREEDY = 0.0  # the temperature that always takes the likeliest token


class Sampling(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """How a row's tokens are chosen, and when it ends. Checked by the edge.

    `seed` and the token's position alone decide what is drawn, so the text does not depend on who
    shares a step. `stop_ids` end the row once `min_tokens` were generated: the model's own end
    tokens, unless the client ignores them, and those that it names. `logprobs` None: none are
    asked for; n: that of the chosen token and of the n likeliest.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Sequence[tuple[int, float]] = ()
    seed: int = 0
    stop_ids: Sequence[int] = ()
    logprobs: int | None = None


class Finish(StrEnum):
    """Why a row generates no more."""

    STOP = "stop"  # a stop token, or at the edge a stop string
    LENGTH = "length"  # max_tokens, or the model's context


class Sampled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One generated token. `logprob` and `top` (ids and logprobs, likeliest first) where asked."""

    id: int
    logprob: float = 0.0
    top: Sequence[tuple[int, float]] = ()


class Generated(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens of one row of a request, in order: those of a turn, or all. `finish` with the last.

    `cached_tokens`: how much of the prompt the prefix cache held.
    """

    index: int
    tokens: Sequence[Sampled]
    finish: Finish | None = None
    cached_tokens: int = 0
