"""OpenAI's API, with OpenAI's own client against the real server, in one process and in three."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.edge.server_process import Server
from tests.server.generating import GENERATES, MODEL, all_are_gone
from tests.server.process import document, metrics, serving

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", params=[(), ("--workers", "2")], ids=["one process", "two edges"])
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Server]:
    parameters = tmp_path_factory.mktemp("openai") / "parameters.yaml"
    parameters.write_text(document(models={MODEL: {"max_batch_size": 256}}))
    models = 3 if request.param else 1  # the engine says it is ready, and so does each edge
    with serving(Path(parameters), *GENERATES, *request.param, models=models) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    base_url = f"{server.url}/openai/v1"
    with OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_models(client: OpenAI) -> None:
    (listed,) = client.models.list().data
    assert listed.id == MODEL
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": HELLO, "seed": 5, "max_tokens": 30}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert text
    assert whole.choices[0].finish_reason in {"stop", "length"}
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts if part.choices[0].finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_prompts_of_every_form(client: OpenAI) -> None:
    text = client.completions.create(model=MODEL, prompt="abc", seed=1, max_tokens=8)
    several = client.completions.create(model=MODEL, prompt=["abc", "de"], seed=1, max_tokens=8)
    assert several.choices[0].text == text.choices[0].text
    assert [choice.index for choice in several.choices] == [0, 1]
    ids = client.completions.create(model=MODEL, prompt=[70, 71, 72], seed=1, max_tokens=8)
    lists = client.completions.create(model=MODEL, prompt=[[70, 71, 72]], seed=1, max_tokens=8)
    assert ids.choices[0].text == lists.choices[0].text
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_several_choices_differ_by_their_seeds_and_come_again(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": "abc", "n": 4, "seed": 7, "max_tokens": 12}
    first, again = client.completions.create(**asked), client.completions.create(**asked)
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices]
    assert len(set(texts)) > 1
    streamed = [""] * 4
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


def test_stop_strings_never_show_and_end_the_row(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": "abc", "seed": 2, "extra_body": {"ignore_eos": True}}
    free = client.completions.create(**asked, max_tokens=100).choices[0]
    assert free.finish_reason == "length"
    assert "train" in free.text
    stopped = client.completions.create(**asked, max_tokens=100, stop=["train", "\n\n"])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == free.text.split("train")[0]
    assert stopped.usage is not None
    assert stopped.usage.completion_tokens < 100
    shown = ""
    for chunk in client.completions.create(**asked, max_tokens=100, stop="train", stream=True):
        shown += chunk.choices[0].text
        assert not shown.endswith("train")
    assert shown == stopped.choices[0].text


def test_logprobs_and_echo(client: OpenAI) -> None:
    chat = client.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=1, max_tokens=5
    )
    assert chat.choices[0].logprobs is not None
    content = chat.choices[0].logprobs.content
    assert content is not None
    assert "".join(token.token for token in content) == chat.choices[0].message.content
    assert all(bytes(token.bytes or ()) == token.token.encode() for token in content)
    assert all(len(token.top_logprobs) == 1 for token in content)
    told = client.completions.create(
        model=MODEL, prompt="abc", logprobs=1, max_tokens=5, seed=3, extra_body={"ignore_eos": True}
    )
    assert told.choices[0].logprobs is not None
    assert told.choices[0].logprobs.text_offset == [0, 1, 2, 3, 4]
    echoed = client.completions.create(model=MODEL, prompt="abc", echo=True, max_tokens=5)
    assert echoed.choices[0].text.startswith("abc")


def test_service_tiers(client: OpenAI, server: Server) -> None:
    before = metrics(server).get(_ended("bulk"), 0)
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, service_tier="flex"
    )
    assert answer.service_tier == "flex"
    assert metrics(server)[_ended("bulk")] == before + 1
    with pytest.raises(openai.BadRequestError, match="service_tier"):
        client.chat.completions.create(
            model=MODEL, messages=HELLO, extra_body={"service_tier": "gold"}
        )


def _ended(tier: str) -> str:
    return f'headway_requests_total{{model="{MODEL}",outcome="ok",tier="{tier}"}}'


NONSENSE: list[tuple[str, dict[str, Any]]] = [
    ("temperature", {"temperature": -1}),
    ("temperature", {"temperature": "warm"}),
    ("top_p", {"top_p": 0}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": 1 << 20}),
    ("min_tokens", {"min_tokens": 9, "max_tokens": 8}),
    ("n", {"n": 100_000}),
    ("logit_bias", {"logit_bias": {"100000": 1}}),
    ("logit_bias", {"logit_bias": {"x": 1}}),
    ("stop", {"stop": ["a"] * 1000}),
    ("stop", {"stop": ""}),
    ("stop_token_ids", {"stop_token_ids": [99_999]}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("max_completion_tokens", {"max_tokens": 4, "max_completion_tokens": 5}),
    ("nonsense", {"nonsense": 1}),
    ("messages", {"messages": []}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    (
        "messages[0].content[0]",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ),
    ("messages", {"messages": [{"role": "user", "content": "x" * 40_000}]}),
    ("messages", {"messages": "hello"}),
]


@pytest.mark.parametrize(("field", "given"), NONSENSE)
def test_nonsense_is_refused_by_its_name(server: Server, field: str, given: dict[str, Any]) -> None:
    status, body = post(server, "/chat/completions", {"model": MODEL, "messages": HELLO, **given})
    assert status == 400
    assert field in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] is None or field.startswith(body["error"]["param"].split("[")[0])


@pytest.mark.parametrize("field", ["best_of", "suffix"])
def test_what_completions_lack_is_refused_by_its_name(server: Server, field: str) -> None:
    status, body = post(server, "/completions", {"model": MODEL, "prompt": "a", field: 3})
    assert (status, body["error"]["param"]) == (400, field)


@pytest.mark.parametrize("prompt", [[], "", [-1], [1 << 40], [["a"]], {"a": 1}, [1, "a"], None])
def test_prompts_that_are_none(server: Server, prompt: Any) -> None:
    status, body = post(server, "/completions", {"model": MODEL, "prompt": prompt})
    assert status == 400
    assert "prompt" in body["error"]["message"]


def test_paths_and_models_that_are_not_there(server: Server) -> None:
    status, body = post(server, "/completions", {"model": "nobody", "prompt": "a"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    status, body = post(server, "/embeddings", {"model": MODEL, "input": "a"})
    assert status == 404
    assert "/openai/v1/completions" in body["error"]["message"]


async def test_streams_that_are_dropped_leave_nothing(server: Server) -> None:
    """Two hundred readers leave at their own times; their rows, pages and places come back."""
    base_url = f"{server.url}/openai/v1"
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:

        async def read_some(number: int) -> int:
            stream = await client.completions.create(
                model=MODEL,
                prompt=f"reader {number}",
                max_tokens=1000,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            seen = 0
            async with stream:
                async for _ in stream:
                    seen += 1
                    if seen > number % 40:
                        break
            return seen

        seen = await asyncio.gather(*(read_some(number) for number in range(200)))
    assert all(seen)
    all_are_gone(server)


def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.url}/openai/v1{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("route", "where", "more", "listed", "hidden"),
    [
        ("completions", "shout", {"shout": 1}, "prompt echo n", "best_of messages inputs"),
        ("chat/completions", "shout", {"shout": 1}, "messages n seed", "tools prompt inputs"),
        (
            "chat/completions",
            "messages[0].shout",
            {"messages": [{"role": "user", "content": "a", "shout": 1}]},
            "role content name",
            "tool_calls inputs",
        ),
        (
            "chat/completions",
            "messages[0].content[0].shout",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "", "shout": 1}]}]},
            "type text",
            "image_url",
        ),
        (
            "completions",
            "stream_options.shout",
            {"stream_options": {"shout": 1}},
            "include_usage",
            "inputs",
        ),
    ],
)
def test_an_unknown_field_is_answered_with_those_of_the_route(
    server: Server, route: str, where: str, more: Any, listed: str, hidden: str
) -> None:
    asked = {"model": MODEL, "prompt": "a", "messages": HELLO}
    del asked["messages" if route == "completions" else "prompt"]
    status, answer = server.post(f"/openai/v1/{route}", {**asked, **more})
    error = answer["error"]
    told, _, names = error["message"].partition("not known here; leave it out, or use: ")
    assert (status, error["param"], told) == (400, where, f"{where}: ")
    assert set(listed.split()) <= set(names.split(", "))
    assert not set(hidden.split()) & set(names.split(", "))
