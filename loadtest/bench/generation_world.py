"""A simulated device that generates, its traffic, and what counts as in time.

The law of a step's time is a fit to what one H200 takes with a model of 1.2 B parameters; the mixes
are those of chats, of long prompts, of long outputs and of summaries. Lengths are lognormal.
"""

import math
import random
from collections.abc import Iterator
from itertools import islice

import msgspec

from predictor.core.model import GenerationSpec
from predictor.core.parameters import Parameters, parse_plain
from predictor.core.rows import Batch, Packing
from predictor.policy.scheduler import Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Run, Settlement, Simulator
from predictor.simulation.traffic import unit_gaps

MODEL = "model"
URGENT, BULK = "interactive", "bulk"
FIXED_S, ROW_S, PROMPT_TOKEN_S, CONTEXT_S = 1.13e-3, 1.8e-6, 4.6e-6, 9e-9
TTFT_S = 0.5
ROWS = 1024  # that decode together
STEP_TOKENS = 16384
PAGE_TOKENS = 16
PLENTY = 1 << 17  # pages: two million positions
LONGEST_PROMPT, LONGEST_OUTPUT = 16_000, 2_000
LENGTHS = 2000  # that a mean is taken of
MISSES = 0.01  # of the requests of a rate that is sustained


class Mix(msgspec.Struct, frozen=True):
    """Medians and sigmas of lognormal lengths, in tokens."""

    name: str
    prompt: float
    prompt_sigma: float
    output: float
    output_sigma: float

    def lengths(self, rng: random.Random) -> Iterator[tuple[int, int]]:
        while True:
            prompt = self.prompt * math.exp(rng.gauss(0.0, self.prompt_sigma))
            output = self.output * math.exp(rng.gauss(0.0, self.output_sigma))
            yield (
                min(LONGEST_PROMPT, max(8, round(prompt))),
                min(LONGEST_OUTPUT, max(4, round(output))),
            )


CHAT = Mix("chat", 200, 1.0, 150, 0.8)
LONG_PROMPTS = Mix("long prompts", 2000, 1.0, 100, 0.8)
LONG_OUTPUTS = Mix("long outputs", 100, 0.8, 500, 0.7)
SUMMARIES = Mix("summaries", 4000, 0.7, 200, 0.5)
MIXES = (CHAT, LONG_PROMPTS, LONG_OUTPUTS, SUMMARIES)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic, and what is promised to it."""

    mix: Mix
    itl_s: float
    burstiness: float = 1.0  # 1: Poisson arrivals; more: gamma, in clumps
    pages: int = PLENTY
    least_requests: int = 2000
    span_s: float = 25.0  # of requests as fast as the device can: many times what one takes
    seed: int = 1

    @property
    def requests(self) -> int:
        return max(self.least_requests, int(self.span_s / self.work_s()))

    def arrivals(self, rate: float, tier: str = URGENT) -> Iterator[Arrival]:
        """The same lengths and the same pattern at every rate, without end."""
        rng = random.Random(self.seed)
        lengths = self.mix.lengths(random.Random(self.seed + 1))
        time_s = 0.0
        for gap, (prompt, output) in zip(unit_gaps(rng, self.burstiness), lengths, strict=False):
            time_s += gap / rate
            yield Arrival(
                time_s, prompt, MODEL, tier, output_tokens=output, max_tokens=LONGEST_OUTPUT
            )

    def work_s(self) -> float:
        """Device seconds that a request costs beside others, on average."""
        lengths = islice(self.mix.lengths(random.Random(self.seed + 1)), LENGTHS)
        work_s = sum(
            prompt * PROMPT_TOKEN_S + output * (ROW_S + (prompt + output / 2) * CONTEXT_S)
            for prompt, output in lengths
        )
        return work_s / LENGTHS

    def parameters(self) -> Parameters:
        return parse_plain(
            {
                "generation": 1,
                "models": {MODEL: {"max_batch_size": ROWS, "max_batch_tokens": STEP_TOKENS}},
                "tiers": {
                    URGENT: {
                        "priority": 1,
                        "slo_ms": TTFT_S * 1e3,
                        "itl_slo_ms": self.itl_s * 1e3,
                        "max_queue_size": 1_000_000,
                    },
                    BULK: {"priority": 2, "max_queue_size": 1_000_000, "min_share": 0.05},
                },
            }
        )

    def scheduler(self) -> Scheduler:
        """Ours. It knows the law from its warm-up."""
        made = Scheduler(self.parameters())
        weights = (FIXED_S, ROW_S, PROMPT_TOKEN_S, CONTEXT_S, 0.0, 0.0)
        spec = GenerationSpec(page_tokens=PAGE_TOKENS, pages=self.pages, slots=ROWS, end_ids=())
        made.add_model(MODEL, [ServiceTimeModel(Packing.PAGED, weights)], spec)
        return made


def step_s(batch: Batch) -> float:
    """How long a step takes."""
    work = batch.work
    assert work is not None
    prompt_tokens = work.tokens - work.rows  # a row's first new token is the row's own
    tokens_s = ROW_S * work.rows + PROMPT_TOKEN_S * prompt_tokens
    return FIXED_S + tokens_s + CONTEXT_S * work.context


def is_good(ended: Settlement, itl_s: float) -> bool:
    """Both deadlines met."""
    return ended.in_time and ended.itl_s <= itl_s


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the requests of a run."""

    offered: int
    good: int
    per_s: float  # good ones

    @property
    def sustained(self) -> bool:
        return self.good >= (1.0 - MISSES) * self.offered


def serve(world: World, scheduler: Scheduler, rate: float, *, to_the_end: bool = False) -> Outcome:
    """Offer requests at a rate. Unless `to_the_end`, no more come once too many were missed."""
    simulator = Simulator(scheduler, step_s)
    run = simulator.run
    requests = world.requests
    good, seen = 0, 0
    last_s = 0.0

    def judged() -> int:
        nonlocal good, seen
        for ended in run.settlements[seen:]:
            good += is_good(ended, world.itl_s)
        seen = len(run.settlements)
        return seen - good

    def arrivals() -> Iterator[Arrival]:
        nonlocal last_s
        for arrival in islice(world.arrivals(rate), requests):
            if not to_the_end and judged() > MISSES * requests:
                return
            last_s = arrival.time_s
            yield arrival

    simulator.simulate(arrivals())
    judged()
    return Outcome(offered=requests, good=good, per_s=good / last_s)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What interactive and bulk requests got of a device that both use."""

    good_share: float  # of the interactive requests
    bulk_tokens_per_s: float  # of prompts and outputs, those of recomputed rows once
    recomputed: float  # tokens of prompts and outputs computed again, per one computed once
    longest_bulk_s: float  # from a bulk row's begin to its end


def serve_both(world: World, rate: float, seconds: float, bulk_rows: int) -> Shared:
    """Interactive requests at a rate (0: none) beside bulk that waits from the start."""
    scheduler = world.scheduler()
    simulator = Simulator(scheduler, step_s)
    lengths = world.mix.lengths(random.Random(world.seed + 2))
    backlog = [
        Arrival(0.0, prompt, MODEL, BULK, output_tokens=output, max_tokens=LONGEST_OUTPUT)
        for prompt, output in islice(lengths, bulk_rows)
    ]
    urgent = world.arrivals(rate) if rate else iter(())
    run = simulator.simulate(_until(seconds, backlog, urgent), seconds)
    return _shared(world, scheduler, run, seconds)


def _until(seconds: float, backlog: list[Arrival], urgent: Iterator[Arrival]) -> Iterator[Arrival]:
    yield from backlog
    for arrival in urgent:
        if arrival.time_s > seconds:
            return
        yield arrival


def _shared(world: World, scheduler: Scheduler, run: Run, seconds: float) -> Shared:
    ended = [each for each in run.settlements if each.row.tier == URGENT]
    tokens = 0
    computed = 0
    longest_s = 0.0
    for execution in run.executions:
        for piece in execution.batch.pieces:
            computed += piece.tokens
            if piece.row.tier == BULK:
                tokens += piece.tokens
    for each in run.settlements:
        if each.row.tier == BULK:
            longest_s = max(longest_s, each.settled_s - each.started_s)
    (seen,) = scheduler.snapshot(seconds).generation
    again = seen.recomputed_tokens
    good = sum(is_good(each, world.itl_s) for each in ended)
    return Shared(
        good_share=good / len(ended) if ended else math.nan,
        bulk_tokens_per_s=(tokens - again) / seconds,
        recomputed=again / max(computed - again, 1),
        longest_bulk_s=longest_s,
    )
