"""Rows that run more than once, through the real engine: how each can end."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from predictor.core.errors import RowFailed
from predictor.core.facts import TokensCame
from predictor.core.generation import Finish, Generated, Sampling
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Outcome
from predictor.engine.local import LocalEngine
from predictor.engine.port import RowInput, Submission
from predictor.policy.pages import chained_hashes
from predictor.runner.simulated_generation import PAGE_TOKENS, SimulatedGenerator
from tests.engine.fakes import Memory, parameters

MODEL = "words"


def prompt(*ids: int, **asked: Any) -> RowInput:
    sampling = Sampling(**{"max_tokens": 20, **asked})
    return RowInput(array("q", ids).tobytes(), len(ids), sampling)


def submission(*rows: RowInput, streams: bool = False) -> Submission:
    return Submission(model=MODEL, rows=list(rows), arrived_s=0.0, streams=streams)


@asynccontextmanager
async def generating() -> AsyncIterator[tuple[LocalEngine, Memory]]:
    memory = Memory()
    settings = ModelSettings(
        name=MODEL,
        task=Task.SIMULATED,
        simulated_fixed_ms=0.2,
        simulated_token_us=1,
        simulated_output_tokens=40,
    )
    engine = LocalEngine(
        [MODEL], parameters(), memory, exposition=lambda _: (b"", ""), batch_timeout_s=60
    )
    await engine.start({MODEL: lambda: SimulatedGenerator(settings)})
    yield engine, memory


async def test_a_row_that_fails_ends_alone() -> None:
    async with generating() as (engine, memory):
        parts: list[Generated] = []

        def take(generated: Generated) -> bool:
            parts.append(generated)
            return True

        rows = [prompt(1, 2), prompt(3, -1), prompt(4, 5, 6)]
        futures = [engine.submit(submission(row)) for row in rows]
        streamed = engine.submit(submission(prompt(7), streams=True), take)
        first, failed, third = await asyncio.gather(*futures, return_exceptions=True)
        await streamed
        assert isinstance(failed, RowFailed)
        assert "the prompt has a negative id" in failed.message
        for reply in (first, third):
            assert not isinstance(reply, BaseException)
            (generated,) = reply.generated
            assert (len(generated.tokens), generated.finish) == (20, Finish.LENGTH)
        assert sum(len(part.tokens) for part in parts) == 20
        assert [part.finish for part in parts if part.finish] == [Finish.LENGTH]
        assert sorted(memory.outcomes) == [Outcome.FAILED, *[Outcome.OK] * 3]


async def test_equal_beginnings_are_computed_once() -> None:
    async with generating() as (engine, memory):
        ids = list(range(100))

        async def cached(*prompts: list[int]) -> list[int]:
            rows = [prompt(*each) for each in prompts]
            rows = [
                msgspec.structs.replace(
                    row, page_hashes=tuple(chained_hashes(row.payload, PAGE_TOKENS * 8))
                )
                for row in rows
            ]
            reply = await engine.submit(submission(*rows))
            return [each.cached_tokens for each in reply.generated]

        assert await cached(ids) == [0]
        assert await cached(ids, [*ids[:50], 200], [200, *ids]) == [96, 48, 0]
        firsts = [each for step in memory.of(TokensCame) for each in step.firsts]
        assert sum(each.cached_tokens for each in firsts) == 96 + 48
        assert sum(each.prompt_tokens for each in firsts) == 100 + 100 + 51 + 101


async def test_one_bad_row_fails_its_whole_request() -> None:
    """The others of the request are not run to their end for nobody."""
    async with generating() as (engine, memory):
        with pytest.raises(RowFailed, match="a negative id"):
            await engine.submit(
                submission(prompt(1, max_tokens=30_000), prompt(-2), prompt(3, max_tokens=30_000))
            )
        reply = await engine.submit(submission(prompt(1, 2)))
        assert len(reply.generated[0].tokens) == 20
        assert memory.outcomes == [Outcome.FAILED, Outcome.OK]


async def test_a_reader_that_has_enough_ends_its_row() -> None:
    async with generating() as (engine, memory):
        seen = 0

        def take(generated: Generated) -> bool:
            nonlocal seen
            seen += len(generated.tokens)
            return seen < 5

        row = prompt(1, 2, max_tokens=30_000)
        await engine.submit(submission(row, streams=True), take)
        assert 5 <= seen < 10
        assert memory.outcomes == [Outcome.OK]


async def test_a_reader_that_is_gone_ends_its_row() -> None:
    async with generating() as (engine, memory):
        came = asyncio.Event()

        def take(_: Generated) -> bool:
            came.set()
            return True

        row = prompt(1, 2, max_tokens=30_000)
        future = engine.submit(submission(row, streams=True), take)
        await came.wait()
        future.cancel()
        reply = await engine.submit(submission(prompt(1, 2)))
        assert len(reply.generated[0].tokens) == 20
        assert sorted(memory.outcomes) == [Outcome.CANCELLED, Outcome.OK]
