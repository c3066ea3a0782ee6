"""Bodies, chunks, errors and options in OpenAI's forms, read by OpenAI's own types."""

import json
from typing import Any

import msgspec
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from predictor.core import errors
from predictor.core.errors import HeadwayError, InvalidRequest
from predictor.core.generation import Sampled
from predictor.edge.openai.answers import ChatForm, Choice, CompletionForm, Usage
from predictor.edge.openai.errors import openai_error
from predictor.edge.openai.options import (
    asks_for_bulk,
    asks_for_usage,
    logprobs_of,
    max_tokens_of,
)
from predictor.edge.openai.schema import (
    ChatRequest,
    CompletionRequest,
    check_refused,
    texts_of_messages,
)
from predictor.edge.token_texts import TokenTexts

USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
HELLO = [{"role": "user", "content": "hello"}]


def token_texts() -> TokenTexts:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {each: place for place, each in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return TokenTexts(tokenizer)


def tokens(texts: TokenTexts, text: str) -> list[Sampled]:
    ids = {texts.raw(each): each for each in range(256)}
    parts = [ids[bytes([byte])] for byte in text.encode()]
    return [Sampled(each, -0.5, [(each, -0.5), (0, -2.0)]) for each in parts]


def data(chunk: bytes) -> Any:
    assert chunk.startswith(b"data: ")
    assert chunk.endswith(b"\n\n")
    assert chunk.count(b"\n") == 2, "an event is one line"
    return json.loads(chunk.removeprefix(b"data: "))


def test_a_chat_in_chunks_and_whole() -> None:
    texts = token_texts()
    said = 'né "\n'
    form = ChatForm("id", "words", "default", texts, says_usage=True)
    chunks = [
        ChatCompletionChunk.model_validate(data(each), strict=True)
        for each in (
            form.first(1),
            form.chunk(1, said, tokens(texts, said)),
            form.last(1, "stop"),
            form.usage(USAGE),
        )
    ]
    assert [chunk.choices[0].delta.content for chunk in chunks[:3]] == ["", said, None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[2].choices[0].finish_reason == "stop"
    assert chunks[3].choices == []
    assert chunks[3].usage is not None
    assert chunks[3].usage.total_tokens == 10
    assert all(chunk.usage is None for chunk in chunks[:3])
    assert {(chunk.id, chunk.model, chunk.service_tier) for chunk in chunks} == {
        ("id", "words", "default")
    }
    scored = chunks[1].choices[0].logprobs
    assert scored is not None
    assert scored.content is not None
    raw = b"".join(bytes(token.bytes or ()) for token in scored.content)
    assert raw == said.encode()
    assert [len(token.top_logprobs) for token in scored.content] == [2] * len(raw)
    whole = ChatCompletion.model_validate_json(
        form.whole([Choice(0, said, tokens(texts, said), "length")], USAGE), strict=True
    )
    assert whole.choices[0].message.content == said
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 2


def test_a_completion_in_chunks_and_whole() -> None:
    texts = token_texts()
    form = CompletionForm("id", "words", None, texts, echoed=["abc", "de"])
    assert data(form.first(1))["choices"][0]["text"] == "de"
    (one,) = data(form.chunk(1, "xy", tokens(texts, "xy")))["choices"]
    (two,) = data(form.chunk(1, "z", tokens(texts, "z")))["choices"]
    assert (one["index"], one["text"], one["finish_reason"]) == (1, "xy", None)
    assert one["logprobs"]["text_offset"] == [2, 3]
    assert one["logprobs"]["tokens"] == ["x", "y"]
    assert one["logprobs"]["token_logprobs"] == [-0.5, -0.5]
    assert two["logprobs"]["text_offset"] == [4]
    assert Completion.model_validate(data(form.last(1, "stop"))).choices[0].finish_reason == "stop"
    assert "usage" not in data(form.chunk(0, "x", []))
    plain = CompletionForm("id", "words", None, None)
    assert plain.first(0) == b""
    whole = Completion.model_validate_json(
        plain.whole([Choice(0, "xyz", [], "stop"), Choice(1, "", [], "length")], USAGE)
    )
    assert [choice.text for choice in whole.choices] == ["xyz", ""]
    assert whole.choices[0].logprobs is None


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (InvalidRequest("top_p: too high"), 400, "invalid_request_error", None, "top_p"),
        (
            InvalidRequest("messages[0].content[1]: no"),
            400,
            "invalid_request_error",
            None,
            "messages[0].content[1]",
        ),
        (InvalidRequest("what is this"), 400, "invalid_request_error", None, None),
        (
            errors.UnknownModel("model 'x' is not served"),
            404,
            "invalid_request_error",
            "model_not_found",
            "model",
        ),
        (errors.Shed("later", 2.0), 429, "rate_limit_error", "rate_limit_exceeded", None),
        (errors.DeadlineExceeded("late"), 504, "timeout_error", None, None),
        (errors.Unavailable("loading"), 503, "service_unavailable_error", None, None),
        (HeadwayError("broken"), 500, "server_error", None, None),
    ],
)
def test_errors(
    error: HeadwayError, status: int, kind: str, code: str | None, param: str | None
) -> None:
    found, body, headers = openai_error(error)
    assert found == status
    assert json.loads(body) == {
        "error": {"message": error.message, "type": kind, "code": code, "param": param}
    }
    assert (b"retry-after" in dict(headers)) == (status in {429, 503})


def chat(**asked: Any) -> ChatRequest:
    return msgspec.convert({"model": "words", "messages": HELLO, **asked}, ChatRequest)


def completion(**asked: Any) -> CompletionRequest:
    return msgspec.convert({"model": "words", "prompt": "a", **asked}, CompletionRequest)


def test_options() -> None:
    assert [asks_for_bulk(tier) for tier in (None, "auto", "default", "priority", "flex")] == [
        False,
        False,
        False,
        False,
        True,
    ]
    with pytest.raises(InvalidRequest, match="service_tier: must be one of auto"):
        asks_for_bulk("gold")
    usage = {"include_usage": True}
    assert asks_for_usage(chat(stream=True, stream_options=usage))
    assert not asks_for_usage(chat(stream=True))
    with pytest.raises(InvalidRequest, match="stream_options"):
        asks_for_usage(completion(stream_options=usage))
    assert (max_tokens_of(completion()), max_tokens_of(completion(max_tokens=3))) == (16, 3)
    assert max_tokens_of(chat()) is None
    assert max_tokens_of(chat(max_tokens=3)) == max_tokens_of(chat(max_completion_tokens=3)) == 3
    with pytest.raises(InvalidRequest, match="max_completion_tokens"):
        max_tokens_of(chat(max_tokens=3, max_completion_tokens=4))
    assert (logprobs_of(completion()), logprobs_of(completion(logprobs=0))) == (None, 0)
    assert (logprobs_of(chat()), logprobs_of(chat(logprobs=True))) == (None, 0)
    assert logprobs_of(chat(logprobs=True, top_logprobs=4)) == 4
    with pytest.raises(InvalidRequest, match="top_logprobs"):
        logprobs_of(chat(top_logprobs=4))


def test_messages_become_texts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "user", "content": parts, "name": "me"}, HELLO[0]])
    assert texts_of_messages(request.messages) == [
        {"role": "user", "content": "ab", "name": "me"},
        HELLO[0],
    ]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("messages[0].content: is missing", {"role": "assistant"}),
        ("messages[0].tool_calls", {"role": "assistant", "content": "a", "tool_calls": [{}]}),
        ("messages[0].tool_call_id", {"role": "tool", "content": "a", "tool_call_id": "x"}),
        ("messages[0].audio", {"role": "assistant", "content": "a", "audio": {"id": "x"}}),
        ("messages[0].content[0].text", {"role": "user", "content": [{"type": "text"}]}),
        (
            "messages[0].content[0]: 'refusal'",
            {"role": "user", "content": [{"type": "refusal"}]},
        ),
        (
            "messages[0].content[0]: 'input_audio'",
            {"role": "user", "content": [{"type": "text", "text": "a", "input_audio": {}}]},
        ),
    ],
)
def test_messages_that_are_not_taken(field: str, message: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        texts_of_messages(chat(messages=[message]).messages)
    assert raised.value.message.startswith(field)


@pytest.mark.parametrize(
    ("field", "values", "harmless"),
    [
        ("tools", [[{}]], [[], None]),
        ("tool_choice", ["required", {}], ["none", "auto"]),
        ("response_format", [{"type": "json_object"}], [{"type": "text"}]),
        ("modalities", [["audio"], ["text", "audio"]], [["text"]]),
        ("store", [True], [False]),
        ("reasoning_effort", ["low"], ["none"]),
        ("prediction", [{}], [None]),
        ("audio", [{}], [None]),
        ("web_search_options", [{}], [None]),
    ],
)
def test_fields_that_ask_for_what_is_not_done(
    field: str, values: list[Any], harmless: list[Any]
) -> None:
    for value in values:
        with pytest.raises(InvalidRequest, match=f"^{field}: is not supported here"):
            check_refused(chat(**{field: value}))
    for value in harmless:
        check_refused(chat(**{field: value}))
