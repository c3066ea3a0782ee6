"""What tests of any parameter store ask of its watch."""

import asyncio
from collections.abc import AsyncGenerator

import yaml

from predictor.core.errors import ParametersRefused
from predictor.core.parameters import Parameters

BOUND_S = 30.0  # only a hang takes this long

Watch = AsyncGenerator[Parameters | ParametersRefused, None]


def document(generation: int) -> bytes:
    tiers = {"interactive": {"priority": 1, "slo_ms": 200}}
    return yaml.safe_dump({"generation": generation, "tiers": tiers}).encode()


async def accepted(watch: Watch) -> int:
    """The generation of the next document, which must be accepted."""
    async with asyncio.timeout(BOUND_S):
        news = await anext(watch)
    assert isinstance(news, Parameters), news
    return news.generation


async def refused(watch: Watch) -> str:
    async with asyncio.timeout(BOUND_S):
        news = await anext(watch)
    assert isinstance(news, ParametersRefused), news
    return news.message
