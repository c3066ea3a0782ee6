"""Bodies and chunks in OpenAI's forms, for completions and for chats.

A chunk goes out for almost every token, so what all chunks of an answer share is encoded once.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from predictor.core.generation import Sampled
from predictor.edge.token_texts import TokenTexts

DONE = b"data: [DONE]\n\n"
_ENCODER = msgspec.json.Encoder()
encode = _ENCODER.encode


class Usage(msgspec.Struct, frozen=True):
    """What a request cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Choice(msgspec.Struct, frozen=True):
    """One whole text."""

    index: int
    text: str
    tokens: Sequence[Sampled]
    finish: str


class Form(Protocol):
    """How one of the two APIs writes what was generated."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The body of an answer that is no stream."""
        ...

    def first(self, index: int) -> bytes:
        """The chunk with which a choice begins; empty where there is none."""
        ...

    def chunk(self, index: int, text: str, tokens: Sequence[Sampled]) -> bytes: ...

    def last(self, index: int, finish: str) -> bytes: ...

    def usage(self, usage: Usage) -> bytes:
        """The chunk without choices that ends a stream, where the client asks for it."""
        ...


class _Answer:
    """What all bodies and chunks of one answer say."""

    object_whole = ""
    object_chunk = ""

    def __init__(
        self,
        request_id: str,
        model: str,
        service_tier: str | None,
        texts: TokenTexts | None,
        *,
        says_usage: bool = False,
    ) -> None:
        """`texts`: of tokens, where logprobs are asked for. `says_usage`: the stream ends with it,
        and until then each chunk says null."""
        self._texts = texts
        self.says_logprobs = texts is not None
        self._common: dict[str, Any] = {"created": int(time.time()), "model": model}
        if service_tier is not None:
            self._common["service_tier"] = service_tier
        self._id = request_id
        head = encode({"id": request_id, "object": self.object_chunk, **self._common})
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if says_usage else b"]}\n\n"

    def usage(self, usage: Usage) -> bytes:
        return self._head + b'],"usage":' + encode(usage.body()) + b"}\n\n"

    def _body(self, choices: Sequence[dict[str, Any]], usage: Usage) -> bytes:
        return encode(
            {
                "id": self._id,
                "object": self.object_whole,
                **self._common,
                "choices": choices,
                "usage": usage.body(),
            }
        )


class ChatForm(_Answer):
    """Of /chat/completions."""

    object_whole = "chat.completion"
    object_chunk = "chat.completion.chunk"

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return self._body(
            [
                {
                    "index": choice.index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": self._logprobs(choice.tokens),
                    "finish_reason": choice.finish,
                }
                for choice in choices
            ],
            usage,
        )

    def first(self, index: int) -> bytes:
        return self._delta(index, b'{"role":"assistant","content":""}', b"null", b"null")

    def chunk(self, index: int, text: str, tokens: Sequence[Sampled]) -> bytes:
        logprobs = b"null" if self._texts is None else encode(self._logprobs(tokens))
        return self._delta(index, b'{"content":%b}' % encode(text), logprobs, b"null")

    def last(self, index: int, finish: str) -> bytes:
        return self._delta(index, b"{}", b"null", encode(finish))

    def _delta(self, index: int, delta: bytes, logprobs: bytes, finish: bytes) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            delta,
            logprobs,
            finish,
            self._tail,
        )

    def _logprobs(self, tokens: Sequence[Sampled]) -> dict[str, Any] | None:
        if self._texts is None:
            return None
        texts = self._texts
        return {
            "content": [
                {
                    **_scored(texts, token.id, token.logprob),
                    "top_logprobs": [_scored(texts, *each) for each in token.top],
                }
                for token in tokens
            ],
            "refusal": None,
        }


class CompletionForm(_Answer):
    """Of /completions. Offsets of tokens count characters from the beginning of each text."""

    object_whole = "text_completion"
    object_chunk = "text_completion"

    def __init__(
        self,
        request_id: str,
        model: str,
        service_tier: str | None,
        texts: TokenTexts | None,
        *,
        says_usage: bool = False,
        echoed: Sequence[str] = (),
    ) -> None:
        """`echoed`: the prompt of each choice, where it is to stand before its text."""
        super().__init__(request_id, model, service_tier, texts, says_usage=says_usage)
        self._echoed = echoed
        self._offsets: dict[int, int] = {}

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return self._body(
            [
                {
                    "index": choice.index,
                    "text": self._echo(choice.index) + choice.text,
                    "logprobs": self._logprobs(choice.index, choice.tokens),
                    "finish_reason": choice.finish,
                }
                for choice in choices
            ],
            usage,
        )

    def first(self, index: int) -> bytes:
        echo = self._echo(index)
        return self._part(index, encode(echo), b"null", b"null") if echo else b""

    def chunk(self, index: int, text: str, tokens: Sequence[Sampled]) -> bytes:
        logprobs = b"null" if self._texts is None else encode(self._logprobs(index, tokens))
        return self._part(index, encode(text), logprobs, b"null")

    def last(self, index: int, finish: str) -> bytes:
        return self._part(index, b'""', b"null", encode(finish))

    def _echo(self, index: int) -> str:
        return self._echoed[index] if self._echoed else ""

    def _part(self, index: int, text: bytes, logprobs: bytes, finish: bytes) -> bytes:
        return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            text,
            logprobs,
            finish,
            self._tail,
        )

    def _logprobs(self, index: int, tokens: Sequence[Sampled]) -> dict[str, Any] | None:
        if self._texts is None:
            return None
        offset = self._offsets.get(index, len(self._echo(index)))
        texts = [self._texts.text(token.id) for token in tokens]
        offsets = []
        for text in texts:
            offsets.append(offset)
            offset += len(text)
        self._offsets[index] = offset
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {self._texts.text(each): logprob for each, logprob in token.top} for token in tokens
            ],
            "text_offset": offsets,
        }


def _scored(texts: TokenTexts, token: int, logprob: float) -> dict[str, Any]:
    return {
        "token": texts.text(token),
        "logprob": logprob,
        "bytes": list(texts.raw(token)),
    }
