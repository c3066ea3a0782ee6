"""What each command of `python -m loadtest` does, from its options to its exit code."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from loadtest.bench.errors import BenchError
from loadtest.bench.report import Table
from loadtest.capacity import Found, Pace, compared, table_of
from loadtest.driving import Driver, Load, RunK6
from loadtest.options import MODEL
from loadtest.progress import progress
from loadtest.replay import replay_table, replayed
from loadtest.serving import LENGTHS, Served, served, task_of
from loadtest.sweep.cells import Cell, Grid
from loadtest.sweep.measuring import Sweep, SweepPlan, read_plan
from loadtest.sweep.report import PAGE_FILE, write_report
from loadtest.target import Target

OK, NOT_MET = 0, 1
K6_FOLDER = "k6"


def run_capacity(options: argparse.Namespace, folder: Path, run_k6: RunK6, console: Console) -> int:
    with _served(options) as there:
        load = _load(options, there)
        driver = Driver(run_k6, load, folder, options.prometheus_url)
        pace = Pace(resolution=options.resolution, limit_s=options.limit_s)
        with progress(console) as say:
            found = compared(
                there.target, driver, pace, say, live=there.live, policies=options.compare
            )
    _show(console, table_of(found, load.slo_ms))
    missed = [each for each in found if not each.measured.rate_per_s]
    for each in missed:
        console.print(f"{each.policy}: {_why_none(each, load.slo_ms)}", markup=False)
    return NOT_MET if missed else OK


def _why_none(found: Found, slo_ms: float) -> str:
    if found.generator_gave_up:
        return f"{found.stopped_by}; run this where nothing else uses the machine"
    return (
        f"no rate met p99 ≤ {slo_ms:g} ms without an error, down to "
        f"{found.measured.failing_rate_per_s or 0:g}/s ({found.stopped_by}); raise --slo_ms, or "
        "see what a single request takes"
    )


def run_sweep(options: argparse.Namespace, folder: Path, run_k6: RunK6, console: Console) -> int:
    plan: SweepPlan | None = None
    if options.resume is not None:
        folder = options.resume
        plan = read_plan(folder)
        options.serve, options.model = plan.serve, plan.load.model
        options.url = plan.load.url if plan.serve is None else options.url
        options.slo_ms = plan.load.slo_ms
    with _served(options) as there:
        if plan is None:
            plan = _new_plan(options, there)
            folder.mkdir(parents=True, exist_ok=True)
            plan.write(folder)
        # A server of the sweep's own has another port each time.
        driver = Driver(
            run_k6, plan.load.at(there.target.url), folder / K6_FOLDER, options.prometheus_url
        )
        sweep = Sweep(plan, folder, there.target, driver, there.live)
        try:
            total = len(sweep.cells) + len(sweep.remaining)
            with progress(console, total, len(sweep.cells)) as say:
                sweep.run(lambda cell: say(_told(cell)))
        finally:
            _report(plan, folder, sweep, console)
    return OK


def _report(plan: SweepPlan, folder: Path, sweep: Sweep, console: Console) -> None:
    """Also of a sweep that was stopped, and how to go on with it."""
    if sweep.cells:
        table = write_report(folder, sweep.cells, plan.grid, plan.title, plan.command)
        _show(console, table)
        console.print(f"Charts and figures: {folder}, in {PAGE_FILE} above all", markup=False)
    if sweep.remaining:
        console.print(
            f"{len(sweep.remaining)} cells are left: python -m loadtest sweep --resume {folder}",
            markup=False,
        )


def _told(cell: Cell) -> str:
    at = f"{cell.setting}, {cell.rate_per_s:g}/s: p99 {cell.p99_ms:.0f} ms"
    return at if cell.valid else f"{at}, INVALID: k6 could not keep up"


def run_replay(options: argparse.Namespace, folder: Path, run_k6: RunK6, console: Console) -> int:
    target = Target(options.url, options.model)
    target.check()
    task = task_of(target) if options.task == "auto" else options.task
    result = replayed(
        options.file,
        options.speed,
        target=target,
        task=task,
        tier=options.tier,
        slo_ms=options.slo_ms,
        folder=folder,
        run_k6=run_k6,
        prometheus_url=options.prometheus_url,
    )
    _show(console, replay_table(result, options.speed))
    if not result.thresholds_ok:
        console.print(result.verdict, markup=False)
    return OK if result.thresholds_ok else NOT_MET


@contextmanager
def _served(options: argparse.Namespace) -> Iterator[Served]:
    with served(
        url=options.url,
        model=options.model,
        parameters=options.parameters,
        serve=options.serve,
        server_slo_ms=options.server_slo_ms or options.slo_ms,
    ) as there:
        yield there


def _load(options: argparse.Namespace, there: Served) -> Load:
    parameters = there.live.original
    tier = options.tier or parameters.default_tier
    if tier not in parameters.tiers:
        raise BenchError(f"--tier {tier}: the server has {', '.join(parameters.tiers)}")
    slo_ms = options.slo_ms or parameters.tiers[tier].slo_ms
    if slo_ms is None:
        raise BenchError(f"tier {tier} has no SLO; say with --slo_ms what p99 must be")
    task = task_of(there.target) if options.task == "auto" else options.task
    return Load(
        url=there.target.url,
        model=there.target.model,
        task=task,
        tier=tier,
        slo_ms=slo_ms,
        seconds=options.seconds,
        arrivals=options.arrivals,
        lengths=options.lengths or LENGTHS[task],
    )


def _new_plan(options: argparse.Namespace, there: Served) -> SweepPlan:
    try:
        grid = Grid(
            waits_ms=options.waits_ms,
            sizes=options.sizes,
            rates_per_s=options.rates,
            rounds=options.rounds,
        )
    except ValueError as error:
        raise BenchError(str(error)) from None
    return SweepPlan(
        grid=grid,
        load=_load(options, there),
        price_per_hour=options.price_per_hour,
        serve=options.serve,
        title=options.title or f"Sweep of {options.model}",
        command=_command(options),
    )


def _command(options: argparse.Namespace) -> str:
    """What measures the same again, without what is of this machine alone."""
    lists = {
        "--waits_ms": options.waits_ms,
        "--sizes": options.sizes,
        "--rates": options.rates,
    }
    words = ["python", "-m", "loadtest", "sweep"]
    if options.model != MODEL:
        words += ["--model", options.model]
    if options.serve is not None:
        words += ["--serve", options.serve]
    if options.slo_ms is not None:
        words += ["--slo_ms", f"{options.slo_ms:g}"]
    words += ["--seconds", f"{options.seconds:g}"]
    for flag, numbers in lists.items():
        words += [flag, ",".join(f"{number:g}" for number in numbers)]
    if options.rounds > 1:
        words += ["--rounds", str(options.rounds)]
    return shlex.join(words)


def _show(console: Console, table: Table) -> None:
    shown = RichTable(title=table.title, caption="\n".join(table.notes) or None)
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*row)
    console.print(table.intro, markup=False, highlight=False)
    console.print(shown)
