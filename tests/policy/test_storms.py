"""Deadlines of generation where steps do not take as long as predicted, and more comes than can be
served. In virtual time: a device with a tail, or behind a host that is slower than it.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import pytest

from loadtest.bench.generation_world import CHAT, LONG_PROMPTS, Mix, is_good
from predictor.core.model import GenerationSpec
from predictor.core.parameters import parse_plain
from predictor.core.rows import Batch, Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Run, Settlement, Simulator

MODEL, URGENT, BULK = "model", "interactive", "bulk"
ROWS = 64
FIXED_S, ROW_S, TOKEN_S, CONTEXT_S = 1.05e-3, 1.2e-5, 3.4e-6, 4e-8
ITL_S = 0.02
SPREAD = 0.05  # of a step's time, as the sigma of a lognormal
LONGEST = 1500
STORM_S, SETTLED_S = 5.0, 2.0

Law = Callable[[Batch], float]


def law(batch: Batch) -> float:
    work = batch.work
    assert work is not None
    prompts_s = TOKEN_S * (work.tokens - work.rows)
    return FIXED_S + ROW_S * work.rows + prompts_s + CONTEXT_S * work.context


def with_tail(share: float, slowest: float, host_row_s: float = 0.0) -> Law:
    """A step in 1/`share` takes 1.5 to `slowest` times as long; none is shorter than what the host
    needs for its rows."""
    rng = random.Random(1)

    def service_s(batch: Batch) -> float:
        host_s = host_row_s * len(batch.rows)
        step_s = max(law(batch), host_s) * math.exp(rng.gauss(0.0, SPREAD))
        return step_s * rng.uniform(1.5, slowest) if rng.random() < share else step_s

    return service_s


def device() -> Law:
    return with_tail(0.03, 2.0)


def slow_host() -> Law:
    """Decoding takes three times as long as the device needs for it."""
    return with_tail(0.02, 1.9, host_row_s=1.5e-4)


WORLDS = pytest.mark.parametrize(
    ("world", "capacity"), [(device, 56.0), (slow_host, 38.0)], ids=["device", "slow host"]
)


def scheduler() -> Scheduler:
    document = {
        "generation": 1,
        "models": {MODEL: {"max_batch_size": ROWS, "max_batch_tokens": 8192}},
        "tiers": {
            URGENT: {
                "priority": 1,
                "slo_ms": 200,
                "itl_slo_ms": 1e3 * ITL_S,
                "max_queue_size": 20_000,
            },
            BULK: {"priority": 2, "max_queue_size": 20_000, "min_share": 0.05},
        },
    }
    made = Scheduler(parse_plain(document))
    weights = (FIXED_S, ROW_S, TOKEN_S, CONTEXT_S, 0.0, 0.0)
    spec = GenerationSpec(page_tokens=16, pages=131_072, slots=ROWS, end_ids=())
    made.add_model(MODEL, [ServiceTimeModel(Packing.PAGED, weights)], spec)
    return made


def a_request(lengths: Iterator[tuple[int, int]], time_s: float, tier: str) -> Arrival:
    """One that `max_tokens` ends."""
    prompt, output = (min(each, LONGEST) for each in next(lengths))
    return Arrival(time_s, prompt, MODEL, tier, output_tokens=output + 1, max_tokens=output)


def poisson(
    rate: float, begin_s: float, seconds: float, mix: Mix, seed: int = 1
) -> Iterator[Arrival]:
    rng = random.Random(seed)
    lengths = mix.lengths(random.Random(seed + 1))
    time_s = begin_s + rng.expovariate(rate)
    while time_s < begin_s + seconds:
        yield a_request(lengths, time_s, URGENT)
        time_s += rng.expovariate(rate)


def good(run: Run, begin_s: float, seconds: float) -> tuple[int, int]:
    """Of the urgent requests that came in this time, how many met both deadlines, and all."""
    came = [
        each
        for each in run.settlements
        if each.row.tier == URGENT and begin_s <= each.row.arrival_s < begin_s + seconds
    ]
    return sum(is_good(each, ITL_S) for each in came), len(came)


def served(world: Callable[[], Law], *phases: tuple[float, float]) -> Run:
    """Rates that follow one another, each for some seconds."""
    begins = [sum(seconds for _, seconds in phases[:index]) for index in range(len(phases))]
    streams = [
        poisson(rate, begin_s, seconds, LONG_PROMPTS)
        for (rate, seconds), begin_s in zip(phases, begins, strict=True)
    ]
    return Simulator(scheduler(), world()).simulate(chain(*streams))


@WORLDS
def test_after_a_storm_requests_are_in_time_again(
    world: Callable[[], Law], capacity: float
) -> None:
    calm_s = 12.0
    run = served(world, (2.0 * capacity, STORM_S), (0.7 * capacity, calm_s))
    met, came = good(run, STORM_S + SETTLED_S, calm_s - SETTLED_S)
    assert came > 200
    assert met >= 0.995 * came


@WORLDS
@pytest.mark.parametrize("load", [1.5, 2.0])
def test_in_a_storm_as_many_are_in_time_as_at_capacity(
    world: Callable[[], Law], capacity: float, load: float
) -> None:
    seconds = 8.0
    peak, came = good(served(world, (capacity, seconds)), 0.0, seconds)
    assert peak >= 0.98 * came, "it is no more than the capacity"
    met, _ = good(served(world, (load * capacity, seconds)), 0.0, seconds)
    assert met >= 0.95 * peak


@WORLDS
def test_beside_bulk_that_always_waits_both_deadlines_hold(
    world: Callable[[], Law], capacity: float
) -> None:
    load = 0.3
    alone, _, _ = beside_bulk(world, 0.0)
    tokens, met, came = beside_bulk(world, load * capacity)
    assert came > 200
    assert met >= 0.99 * came
    assert tokens >= 0.90 * (1.0 - load) * alone


def beside_bulk(world: Callable[[], Law], rate: float) -> tuple[int, int, int]:
    """Tokens of bulk, recomputed ones not counted; urgent requests that met both deadlines, and
    all that came. Bulk is under way when the first of them comes."""
    begin_s, seconds = 1.0, 20.0
    lengths = LONG_PROMPTS.lengths(random.Random(3))

    def follow(ended: Settlement) -> Sequence[Arrival]:
        return [] if ended.row.tier == URGENT else [a_request(lengths, ended.settled_s, BULK)]

    made = scheduler()
    backlog = [a_request(lengths, 0.0, BULK) for _ in range(2 * ROWS)]
    urgent = poisson(rate, begin_s, seconds, CHAT) if rate else ()
    simulator = Simulator(made, world(), follow=follow)
    run = simulator.simulate(chain(backlog, urgent), begin_s + seconds)
    (seen,) = made.snapshot(begin_s + seconds).generation
    pieces = chain.from_iterable(step.batch.pieces for step in run.executions)
    tokens = sum(piece.tokens for piece in pieces if piece.row.tier == BULK)
    return tokens - seen.recomputed_tokens, *good(run, begin_s, seconds)
