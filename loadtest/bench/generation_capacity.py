"""The highest rate that a way of planning steps sustains, in the simulator."""

import math
from collections.abc import Callable

from loadtest.bench.generation_rivals import PREFILL_FIRST, Rival
from loadtest.bench.generation_world import (
    FIXED_S,
    MODEL,
    PROMPT_TOKEN_S,
    ROWS,
    STEP_TOKENS,
    World,
    serve,
)
from predictor.policy.scheduler import Scheduler

RESOLUTION = 1.02
BRACKET_STEP = 1.15
LOWEST_SHARE = 0.02  # of what the device could do: less is none
HIGHEST_SHARE = 4.0
CHUNK_STEP = 1.2
USUAL_CHUNK = 512

Planner = Callable[[World], Scheduler]
Sustains = Callable[[float], bool]


def ours(world: World) -> Scheduler:
    return world.scheduler()


def static(chunk: int) -> Planner:
    return lambda world: Rival(world.parameters(), MODEL, chunk, ROWS, STEP_TOKENS)


def prefill_first(world: World) -> Scheduler:
    return static(PREFILL_FIRST)(world)


def capacity(world: World, planner: Planner, start: float | None = None) -> float:
    """Requests a second; 0 where nearly none."""
    most = 1.0 / world.work_s()

    def sustains(rate: float) -> bool:
        return serve(world, planner(world), rate).sustained

    return highest(sustains, start or 0.8 * most, LOWEST_SHARE * most, HIGHEST_SHARE * most)


def highest(sustains: Sustains, start: float, lowest: float, most: float) -> float:
    """The highest rate that is sustained, within RESOLUTION: 0 where it is below `lowest`, and at
    least `most` where that is sustained, as it may be by a run of few requests."""
    passing, failing = 0.0, math.inf
    rate, step = start, BRACKET_STEP
    while not passing or failing == math.inf:
        if sustains(rate):
            passing = rate
            if rate >= most:
                return rate
            rate *= BRACKET_STEP
        else:
            failing = rate
            if rate <= lowest:
                return 0.0
            rate = max(rate / step, lowest)
            step *= step  # far below the start, it is found soon
        if passing and failing < math.inf:
            break
    while failing / passing > RESOLUTION:
        middle = math.sqrt(passing * failing)
        if sustains(middle):
            passing = middle
        else:
            failing = middle
    return passing


def best_static(world: World) -> tuple[float, int]:
    """The capacity with the chunk that is best for this traffic, and that chunk."""
    chunk = max(int(0.8 * (world.itl_s - FIXED_S) / PROMPT_TOKEN_S), USUAL_CHUNK)
    best = capacity(world, static(chunk))
    for factor in (CHUNK_STEP, 1.0 / CHUNK_STEP):
        size = int(chunk * factor)
        while USUAL_CHUNK <= size <= STEP_TOKENS and _sustains(world, size, best * RESOLUTION):
            best = capacity(world, static(size), best * RESOLUTION)
            chunk, size = size, int(size * factor)
    return best, chunk


def _sustains(world: World, chunk: int, rate: float) -> bool:
    return serve(world, static(chunk)(world), rate).sustained
