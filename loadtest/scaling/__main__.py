"""`python -m loadtest.scaling`: a day, and a reclaim of spot, simulated with the manifests."""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import Manager
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from loadtest.scaling.pictures import write_picture
from loadtest.scaling.scenarios import (
    AS_APPLIED,
    PEAK,
    QUEUE_TRIGGER,
    TROUGH,
    Lived,
    Reclaimed,
    day,
    one_pool,
    only,
    reclaim,
    two_pools,
)
from loadtest.scaling.world import BASE, applied, leaving, world
from manifests.check.build import BuildError
from predictor.simulation.day import DAY_S
from predictor.simulation.fleet import Pool
from predictor.simulation.keda import ScaledObject

HOUR_S = 3600.0
WIDTH_OF_FILES = 140
EXIT_WRONG = 2
NOTICES_S = (120.0, 30.0, 15.0, 0.0)
SLOWER = 20.0  # the day's replicas; a reclaim is short, so it can afford faster ones
RECLAIM_SLOWER = 5.0
BEGINS_AT_LOAD = 0.7


@dataclass(frozen=True, slots=True)
class Variant:
    """A way of scaling: the manifest's, its queue depth alone with a threshold, or two pools."""

    name: str
    queue_threshold: float | None = None
    two_pools: bool = False


def main(arguments: Sequence[str]) -> int:
    given = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    try:
        COMMANDS[given.command](given, console)
    except (OSError, ValueError, BuildError) as error:
        Console(stderr=True).print(
            f"loadtest.scaling: {error}", markup=False, highlight=False, soft_wrap=True
        )
        return EXIT_WRONG
    return 0


def run_day(given: argparse.Namespace, console: Console) -> None:
    variants = [Variant(AS_APPLIED)]
    variants += [
        Variant(f"queue depth alone, {rows:g} rows a replica", rows) for rows in given.queue_alone
    ]
    if given.two_pools:
        variants.append(Variant("on-demand and spot", two_pools=True))
    with Manager() as manager, ProcessPoolExecutor(given.processes) as pool:
        minutes: Queue[str | None] = manager.Queue()
        running = {each: pool.submit(_lived, given, each, minutes) for each in variants}
        with _progress(console) as progress:
            total = round(given.hours * HOUR_S / 60.0)
            tasks = {each.name: progress.add_task(each.name, total=total) for each in variants}
            ended = 0
            while ended < len(variants):
                name = minutes.get()
                if name is None:
                    ended += 1
                else:
                    progress.advance(tasks[name])
        days = {each.name: future.result() for each, future in running.items()}
    console.print(_day_table(days))
    if given.picture is not None:
        shown = dict(list(days.items())[:2])
        write_picture(given.picture, shown, "A simulated day")
        console.print(f"Picture: {given.picture}", markup=False)


def _lived(given: argparse.Namespace, variant: Variant, minutes: "Queue[str | None]") -> Lived:
    try:
        there = world(given.slower, bulk=variant.two_pools)  # a trigger asks for that tier
        rhythm, begins_s = there.rhythm(TROUGH, PEAK, given.seed), given.begins * HOUR_S
        needed = math.ceil(rhythm.rate(begins_s) / there.capacity / BEGINS_AT_LOAD)
        return day(
            there,
            _pools(applied(given.scaled_object), variant, needed),
            rhythm,
            begins_s=begins_s,
            lasts_s=given.hours * HOUR_S,
            seed=given.seed,
            lived=lambda _: minutes.put(variant.name),
        )
    finally:
        minutes.put(None)


def _pools(scaling: ScaledObject, variant: Variant, begins_with: int) -> Sequence[Pool]:
    if variant.two_pools:
        return two_pools(on_demand=1, spot=begins_with - 1)
    if variant.queue_threshold is not None:
        scaling = only(scaling, QUEUE_TRIGGER, threshold=variant.queue_threshold)
    return one_pool(scaling, begins_with)


def run_reclaim(given: argparse.Namespace, console: Console) -> None:
    there = world(RECLAIM_SLOWER, bulk=True)
    seen = {}
    with _progress(console) as progress:
        task = progress.add_task("reclaim", total=len(NOTICES_S))
        for notice_s in NOTICES_S:
            seen[notice_s] = reclaim(there, leaving(notice_s), seed=given.seed)
            progress.advance(task)
    console.print(_reclaim_table(seen))


def _day_table(days: Mapping[str, Lived]) -> Table:
    table = _table(
        "A simulated day",
        "scaled by",
        "requests",
        "minutes with p99 of answers ≤ SLO",
        "minutes with 99% of all in time",
        "refused",
        "replicas",
        "reversals, most in 10 min",
        "replica hours",
    )
    for name, lived in days.items():
        seen = lived.verdict
        table.add_row(
            name,
            f"{sum(each.offered for each in lived.minutes):,}",
            f"{seen.answers_in_time:.2%}",
            f"{seen.all_in_time:.2%}",
            f"{seen.refused:.3%}",
            f"{seen.least_serving} to {seen.most_wanted}",
            f"{seen.reversals}, {seen.most_reversals}",
            f"{seen.replica_hours:.0f}",
        )
    return table


def _reclaim_table(seen: Mapping[float, Reclaimed]) -> Table:
    table = _table(
        "Half of the spot replicas are taken back at the peak",
        "notice",
        "replicas before, after",
        "let in and lost",
        "refused: before, first minute, second",
        "p99 of answers, worst minute",
        "lines given back",
        "lines done",
    )
    for notice_s, each in seen.items():
        refused = [m.refused / m.offered for m in (each.before[-1], *each.after[:2])]
        table.add_row(
            f"{notice_s:g} s" if notice_s else "none",
            f"{each.taken + each.stayed}, {each.stayed}",
            str(each.lost),
            ", ".join(f"{share:.1%}" for share in refused),
            f"{max(m.p99_s for m in each.after) / each.slo_s:.0%} of the SLO",
            str(each.returned),
            f"{each.done:,} of {each.lines:,}",
        )
    return table


def _table(title: str, what: str, *figures: str) -> Table:
    table = Table(what, title=title)
    for figure in figures:
        table.add_column(figure, justify="right")
    return table


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], None]] = {
    "day": run_day,
    "reclaim": run_reclaim,
}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scaling", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for_day = commands.add_parser("day", help="scaled by the manifest, and by queue depth alone")
    for_day.add_argument("--hours", type=_hours, default=DAY_S / HOUR_S, help="default 24")
    for_day.add_argument("--begins", type=_hour, default=0.0, help="hour of the day; default 0")
    for_day.add_argument(
        "--queue_alone",
        type=_thresholds,
        default=(64.0, 16.0),
        help="thresholds, in rows of a replica; default 64,16",
    )
    for_day.add_argument(
        "--two_pools", action="store_true", help="on-demand and spot as well, as that overlay has"
    )
    for_day.add_argument("--scaled_object", type=Path, default=BASE, help="a manifest to try")
    for_day.add_argument("--slower", type=_factor, default=SLOWER, help="than a GPU; default 20")
    for_day.add_argument("--processes", type=int, choices=range(1, 65), metavar="N", default=2)
    for_day.add_argument("--picture", type=Path, help="as manifests/pictures/day.png")
    for_reclaim = commands.add_parser("reclaim", help="with each cloud's notice, and with none")
    for each in (for_day, for_reclaim):
        each.add_argument("--seed", type=int, default=7, help="default 7")
    return parser.parse_args(arguments)


def _between(least: float, most: float, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
    return number


def _hours(text: str) -> float:
    return _between(1 / 60, 24.0, text)


def _hour(text: str) -> float:
    return _between(0.0, 24.0, text)


def _factor(text: str) -> float:
    return _between(1.0, 100.0, text)


def _thresholds(text: str) -> Sequence[float]:
    return [_between(0.001, 1e6, part) for part in text.split(",")]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
