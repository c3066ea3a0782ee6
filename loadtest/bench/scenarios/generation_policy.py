"""How steps of a generating model are planned: ours beside what other servers do, simulated.

A capacity is the highest rate at which 99% of the requests have their first token and all that
follow in time, those refused counted as missed. Nothing but the policy is measured: all run in the
same simulator, on the same law of a step's time.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec

from loadtest.bench.generation_capacity import (
    USUAL_CHUNK,
    best_static,
    capacity,
    ours,
    prefill_first,
    static,
)
from loadtest.bench.generation_world import (
    MISSES,
    MIXES,
    PLENTY,
    TTFT_S,
    Mix,
    Shared,
    World,
    serve,
    serve_both,
)
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import QUICK, Context

POISSON, CLUMPS = 1.0, 4.0
CASES = ((POISSON, 0.040), (POISSON, 0.020), (CLUMPS, 0.020))
OVERLOADS = (1.5, 2.0)
LONG = ("long prompts", "summaries")
MOST_PROCESSES = 2  # a simulated run takes a core, and the machine has other work
QUICK_REQUESTS, QUICK_SPAN_S = 400, 0.0
REQUESTS, SPAN_S = 2000, 20.0

# Asked: ours ÷ the best static chunk, and where prompts are long; ÷ a chunk of 512.
LEAST_OF_BEST, LEAST_OF_BEST_LONG, LEAST_OF_USUAL = 1.0, 1.1, 1.5
LEAST_GOODPUT = 0.95

BULK_ITL_S = 0.040
BULK_LOAD = 0.3
BULK_SECONDS = 25.0
LEAST_OF_REST = 0.90
MOST_RECOMPUTED = 0.05
SHORT_PAGES = 12_000  # a third to a tenth of what bulk would fill


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic. Rates are in requests a second."""

    world: World
    prefill_first: float
    usual: float
    best: float
    best_chunk: int
    ours: float
    goodput: Sequence[float]  # ÷ ours, at each of OVERLOADS

    @property
    def least(self) -> float:
        return LEAST_OF_BEST_LONG if self.world.mix.name in LONG else LEAST_OF_BEST

    @property
    def asked(self) -> float:
        """The capacity that is asked of ours."""
        return max(self.least * self.best, LEAST_OF_USUAL * self.usual)

    @property
    def limit(self) -> float:
        return 1.0 / self.world.work_s()

    @property
    def held(self) -> bool:
        return self.ours >= self.asked and min(self.goodput) >= LEAST_GOODPUT


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Interactive requests at a part of the capacity, beside bulk that always waits."""

    mix: str
    plenty: Shared
    alone_tokens_per_s: float
    short: Shared

    @property
    def of_the_rest(self) -> float:
        return self.plenty.bulk_tokens_per_s / (self.alone_tokens_per_s * (1.0 - BULK_LOAD))


class GenerationPolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    cells: Sequence[Cell]
    beside: Sequence[Beside]

    def table(self) -> Table:
        return Table(
            title="Generation: the policy of a step",
            intro=(
                "Capacity in requests/s, simulated, with a step of 1.13 ms + 1.8 µs a row + 4.6 µs"
                " a token of prompts + 9 ns a position of context: the highest rate at which"
                f" {1.0 - MISSES:.0%} have their first token within {TTFT_S * 1e3:.0f} ms and the"
                " later ones within the ITL (p99 of a request's gaps); refused is missed. *Limit*:"
                " what the device could do without the fixed cost of a step, were every request"
                " served. *Best chunk* is found by search for each row. Goodput is ÷ our capacity."
            ),
            columns=(
                "arrivals",
                "mix",
                "ITL ms",
                "limit",
                "prefill first",
                f"chunk {USUAL_CHUNK}",
                "best chunk",
                "ours",
                "÷ best (asked)",
                f"÷ {USUAL_CHUNK}",
                *(f"goodput, load {load:g}" for load in OVERLOADS),
                "held",
            ),
            rows=[_row(cell) for cell in self.cells],
            notes=[*self._impossible(), *(note for each in self.beside for note in _notes(each))],
        )

    def _impossible(self) -> Sequence[str]:
        """Where what is asked is more than the device could do, were nobody refused."""
        asked = [cell for cell in self.cells if cell.asked > cell.limit]
        if not asked:
            return ()
        told = "; ".join(
            f"{cell.world.mix.name}, {_arrivals(cell.world)}, {cell.world.itl_s * 1e3:.0f} ms:"
            f" {cell.asked:.0f} of {cell.limit:.0f}"
            for cell in asked
        )
        return (f"more requests/s are asked for than the limit: {told}",)


def _arrivals(world: World) -> str:
    return "Poisson" if world.burstiness == POISSON else f"gamma, {world.burstiness:g}"


def _row(cell: Cell) -> Sequence[str]:
    world = cell.world
    return (
        _arrivals(world),
        world.mix.name,
        f"{world.itl_s * 1e3:.0f}",
        f"{cell.limit:.0f}",
        f"{cell.prefill_first:.0f}",
        f"{cell.usual:.0f}",
        f"{cell.best:.1f} ({cell.best_chunk})",
        f"{cell.ours:.1f}",
        f"{cell.ours / cell.best:.2f} (≥ {cell.least:g})" if cell.best else "-",
        f"{cell.ours / cell.usual:.2f}" if cell.usual else "-",
        *(f"{each:.2f}" for each in cell.goodput),
        verdict(cell.held),
    )


def _notes(beside: Beside) -> Sequence[str]:
    plenty, short = beside.plenty, beside.short
    kept = plenty.good_share >= 1.0 - MISSES and beside.of_the_rest >= LEAST_OF_REST
    few = short.recomputed <= MOST_RECOMPUTED
    bulk = (
        f"{beside.mix}, load {BULK_LOAD:g} beside bulk that always waits, ITL"
        f" {BULK_ITL_S * 1e3:.0f} ms: {plenty.good_share:.1%} in time, bulk has"
        f" {beside.of_the_rest:.2f} of what is left (asked: {1.0 - MISSES:.0%} and"
        f" {LEAST_OF_REST:.2f}; held: {verdict(kept)})"
    )
    shortage = (
        f"{beside.mix}, the same with {SHORT_PAGES} pages for {PLENTY}: {short.good_share:.1%} in"
        f" time, recomputed tokens {short.recomputed:.1%} (asked: ≤ {MOST_RECOMPUTED:.0%}; held:"
        f" {verdict(few)}), the longest bulk row took {short.longest_bulk_s:.1f} s"
    )
    return bulk, shortage


def run(context: Context) -> GenerationPolicyResult:
    quick = context.pace == QUICK
    requests, span_s = (QUICK_REQUESTS, QUICK_SPAN_S) if quick else (REQUESTS, SPAN_S)
    worlds = [
        World(mix=mix, itl_s=itl_s, burstiness=burstiness, least_requests=requests, span_s=span_s)
        for burstiness, itl_s in CASES
        for mix in MIXES
    ]
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    with ProcessPoolExecutor(processes) as pool:
        cells = []
        for world, cell in zip(worlds, pool.map(measure, worlds), strict=True):
            cells.append(cell)
            context.say(f"generation_policy: {world.mix.name}, {len(cells)} of {len(worlds)}")
        context.say("generation_policy: beside bulk")
        capacities = {cell.world.mix.name: cell.ours for cell in cells if _is_bulk_case(cell)}
        seconds = BULK_SECONDS if not quick else 2.0
        rates = [capacities[mix.name] for mix in MIXES]
        beside = list(pool.map(measure_beside, MIXES, rates, [seconds] * len(MIXES)))
    return GenerationPolicyResult(cells=cells, beside=beside)


def _is_bulk_case(cell: Cell) -> bool:
    return (cell.world.burstiness, cell.world.itl_s) == (POISSON, BULK_ITL_S)


def measure(world: World) -> Cell:
    best, chunk = best_static(world)
    own = capacity(world, ours, best)
    over = [serve(world, ours(world), own * load, to_the_end=True).per_s for load in OVERLOADS]
    return Cell(
        world=world,
        prefill_first=capacity(world, prefill_first, best / 2),
        usual=capacity(world, static(USUAL_CHUNK), best / 1.5),
        best=best,
        best_chunk=chunk,
        ours=own,
        goodput=[each / own for each in over],
    )


def measure_beside(mix: Mix, rate: float, seconds: float) -> Beside:
    world = World(mix=mix, itl_s=BULK_ITL_S)
    short = msgspec.structs.replace(world, pages=SHORT_PAGES)
    bulk_rows = int(1.6 * rate * seconds)
    return Beside(
        mix=mix.name,
        plenty=serve_both(world, BULK_LOAD * rate, seconds, bulk_rows),
        alone_tokens_per_s=serve_both(world, 0.0, seconds, bulk_rows).bulk_tokens_per_s,
        short=serve_both(short, BULK_LOAD * rate, seconds, bulk_rows),
    )
