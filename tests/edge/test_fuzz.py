"""Bodies that nobody meant: only 200 and 4xx come back, and the app still answers.

The real server, by all its ways in, is in tests/faults/test_storm.py.
"""

import random

import pytest

from predictor.edge.http import EdgeApp
from tests.edge.asgi import answered, ids_input, infer
from tests.fuzz.bodies import BINARY, FLAT, HEAD, NESTED, TEXT
from tests.fuzz.mutations import mutated

BODIES = 10_000
SIM = "/v2/models/sim/infer"
TOPICS = "/v2/models/topics/infer"
SEEDS = [
    (SIM, FLAT),
    (SIM, NESTED),
    (TOPICS, TEXT),
    (SIM, BINARY),
]


async def check(app: EdgeApp, path: str, body: bytes, headers: dict[str, str]) -> int:
    answer = await answered(app, path, body, headers=headers)
    # A mutated id may be negative, which the fake model raises for, as it should.
    poison = answer.status == 500 and "raised for this row" in answer.error
    assert poison or answer.status == 200 or 400 <= answer.status < 500, (body, answer)
    return answer.status


@pytest.mark.parametrize("kind", ["random", "mutated"])
async def test_nothing_breaks_the_app(app: EdgeApp, kind: str) -> None:
    chance = random.Random(7)
    statuses = set()
    for _ in range(BODIES):
        path, seed = chance.choice(SEEDS)
        headers = {}
        if seed.startswith(HEAD):
            headers["inference-header-content-length"] = str(
                len(HEAD) + chance.choice((0, 0, 0, -1, 1))
            )
        body = (
            chance.randbytes(chance.randrange(200)) if kind == "random" else mutated(seed, chance)
        )
        statuses.add(await check(app, path, body, headers))
    assert 400 in statuses
    assert kind == "random" or 200 in statuses
    assert (await infer(app, "sim", {"inputs": [ids_input(1, 2)]})).status == 200
