"""Prompts that begin alike are computed once, and say what they say without the cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types import Completion

from tests.edge.server_process import Server
from tests.runner.decoders import write_decoder
from tests.server.process import document, metrics, serving

MODEL = "tiny"
PAGE = 16
SYSTEM = [3 + number * 7 % 90 for number in range(4 * PAGE)]
PROMPTS = {
    "system": [*SYSTEM, 5, 6, 7],
    "another ending": [*SYSTEM, 9, 8],
    "cut within a page": [*SYSTEM[:40], 11, 12, 13, 14, 15],
    "another beginning": [4, *SYSTEM[1:], 5, 6, 7],
    "whole pages": SYSTEM,
}


def serve(folder: Path, checkpoint: str, *flags: str, models: int = 1) -> Any:
    parameters = folder / "parameters.yaml"
    parameters.write_text(document())
    generates = ("--model_name", MODEL, "--task", "text-generation", "--kv_cache_gib", "0.25")
    where = ("--model_dir", checkpoint) if checkpoint else ()
    return serving(parameters, *generates, *where, "--device", "cpu", *flags, models=models)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_decoder(tmp_path_factory.mktemp("tiny"), "llama"))


@pytest.fixture(scope="module")
def plain(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a server without a cache says."""
    with serve(tmp_path_factory.mktemp("p"), checkpoint, "--prefix_cache", "false") as server:
        answers = {name: ask(server, ids, ids) for name, ids in PROMPTS.items()}
        assert [cached(answer) for answer in answers.values()] == [0] * len(PROMPTS)
        assert tokens(server, "cached_prompt") == 0
    return {name: texts_of(answer)[1] for name, answer in answers.items()}


def ask(server: Server, *prompts: Sequence[int], **more: Any) -> Completion:
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key="none", max_retries=0) as client:
        prompt: Any = [list(ids) for ids in prompts]
        asked = {"temperature": 0, "max_tokens": 24, "extra_body": {"ignore_eos": True}, **more}
        answer: Completion = client.completions.create(model=MODEL, prompt=prompt, **asked)
    return answer


def cached(answer: Completion) -> int:
    assert answer.usage is not None
    details = answer.usage.prompt_tokens_details
    assert details is not None
    assert details.cached_tokens is not None
    assert details.cached_tokens < answer.usage.prompt_tokens
    return details.cached_tokens


def texts_of(answer: Completion) -> list[str]:
    texts = [choice.text for choice in answer.choices]
    assert all(texts)
    return texts


def tokens(server: Server, kind: str) -> float:
    found = metrics(server)
    name = f"headway_{kind}_tokens_total{{"
    return sum(value for series, value in found.items() if series.startswith(name))


@pytest.mark.parametrize("edges", [1, 2])
def test_a_prompt_finds_what_it_shares_and_says_the_same(
    checkpoint: str, plain: dict[str, str], tmp_path: Path, edges: int
) -> None:
    flags = ("--workers", str(edges)) if edges > 1 else ()
    with serve(tmp_path, checkpoint, *flags, models=1 if edges == 1 else edges + 1) as server:
        whole = len(SYSTEM)
        expected = {
            "system": 0,
            "another ending": whole,
            "cut within a page": 2 * PAGE,
            "another beginning": 0,
            "whole pages": whole - PAGE,  # the last token gives the first of the text
        }
        for name, ids in PROMPTS.items():
            answer = ask(server, ids)
            assert (name, cached(answer)) == (name, expected[name])
            assert texts_of(answer) == [plain[name]]
        again = ask(server, *PROMPTS.values())
        assert cached(again) == 2 * whole + 2 * PAGE + whole + whole - PAGE
        assert texts_of(again) == list(plain.values())
        assert tokens(server, "cached_prompt") == sum(expected.values()) + cached(again)
        assert tokens(server, "prompt") == 2 * sum(map(len, PROMPTS.values()))


def test_choices_of_one_prompt_share_it(
    checkpoint: str, plain: dict[str, str], tmp_path: Path
) -> None:
    with serve(tmp_path, checkpoint) as server:
        answer = ask(server, PROMPTS["system"], n=3)
        assert texts_of(answer) == [plain["system"]] * 3
        assert cached(answer) == 0  # the prompt was computed, once
        assert tokens(server, "cached_prompt") == 2 * len(SYSTEM)
        echoed = ask(server, PROMPTS["system"], echo=True)
        assert echoed.choices[0].text.endswith(plain["system"])
        assert cached(echoed) == len(SYSTEM)


def test_the_default_model_says_the_same(tmp_path: Path) -> None:
    rules = "You answer in one short sentence, in plain words, and you never repeat yourself. "

    def answer(server: Server, question: str) -> tuple[str, int]:
        messages: Any = [
            {"role": "system", "content": 3 * rules},
            {"role": "user", "content": question},
        ]
        with OpenAI(base_url=f"{server.url}/openai/v1", api_key="none", timeout=120) as client:
            said = client.chat.completions.create(
                model=MODEL, messages=messages, temperature=0, max_tokens=24
            )
        assert said.usage is not None
        assert said.usage.prompt_tokens_details is not None
        text = said.choices[0].message.content
        assert text
        return text, said.usage.prompt_tokens_details.cached_tokens or 0

    with serve(tmp_path, "") as server:
        computed, none = answer(server, "What is the capital of France?")
        other, shared = answer(server, "Why is the sky blue?")
        again, most = answer(server, "What is the capital of France?")
    assert none == 0
    assert 3 * PAGE <= shared <= most
    assert again == computed != other
