"""Runs of load tests, side by side."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo

from dashboard.ports import LoadRun, Sweep
from dashboard.views.times import clock

REVISION_CHARS = 12

Cell = str | float | None
Curve = tuple[list[float], list[float]]  # along, up


def run_table(runs: Sequence[LoadRun], zone: tzinfo) -> list[dict[str, Cell]]:
    """A row for each tier of each run, newest run first."""
    return [
        {
            "run": run.name,
            "started": clock(run.started_s, zone),
            "script": run.script,
            "tier": tier,
            "generation": run.generation,
            "sent /s": seen.requests / run.seconds if run.seconds else None,
            "goodput /s": seen.within_slo / run.seconds if run.seconds else None,
            "refused": seen.refused,
            "failed": seen.failed,
            "p50 ms": seen.p50_ms,
            "p95 ms": seen.p95_ms,
            "p99 ms": seen.p99_ms,
            "valid": "yes" if run.valid else f"INVALID: {_why_invalid(run)}",
            "missed": " ".join(run.missed),
            "revision": run.revision and run.revision[:REVISION_CHARS],
            "machine": run.machine,
        }
        for run in runs
        for tier, seen in run.tiers.items()
    ]


def _why_invalid(run: LoadRun) -> str:
    return f"{run.dropped} not sent" if run.dropped else "k6 was too busy"


def compared_settings(runs: Sequence[LoadRun]) -> list[dict[str, str]]:
    """Only the settings in which the runs differ: a row for each."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = []
    for name in names:
        values = [run.settings.get(name, "") for run in runs]
        if len(set(values)) > 1:
            rows.append(
                {"setting": name, **dict(zip((run.name for run in runs), values, strict=True))}
            )
    return rows


def in_order(runs: Sequence[LoadRun]) -> Sequence[LoadRun]:
    """Those that a person started, newest first; then the probes of searches and sweeps, whose
    folders lie within their own: the ones that held before those that were meant to fail."""

    def rank(run: LoadRun) -> tuple[bool, bool]:
        is_probe = "/" in run.name
        return is_probe, is_probe and not (run.valid and not run.missed)

    return sorted(runs, key=rank)


RATE, P99 = "rate_per_s", "p99_ms"
THROUGHPUT = ("throughput_per_s", "goodput_per_s", RATE)


def numeric_columns(sweep: Sweep) -> Sequence[str]:
    """Columns that can be an axis: numbers wherever there is a value, and not all alike."""
    found = []
    for index, name in enumerate(sweep.columns):
        values = [row[index] for row in sweep.rows if row[index] is not None]
        if len(set(values)) > 1 and all(isinstance(value, int | float) for value in values):
            found.append(name)
    return found


def varying_columns(sweep: Sweep) -> Sequence[str]:
    """Columns that tell rows apart."""
    return [
        name
        for index, name in enumerate(sweep.columns)
        if len({row[index] for row in sweep.rows}) > 1
    ]


def setting_columns(sweep: Sweep, along: str) -> Sequence[str]:
    """What was set: the columns before the rate that differ, without the one that is an axis."""
    last = sweep.columns.index(RATE) + 1 if RATE in sweep.columns else 1
    return [
        name for name in sweep.columns[:last] if name != along and name in varying_columns(sweep)
    ]


def sweep_groups(sweep: Sweep, x: str, y: str, by: Sequence[str]) -> dict[str, Curve]:
    """Points in the order of x, a line for each combination of values in the columns `by`."""
    x_at, y_at = sweep.columns.index(x), sweep.columns.index(y)
    by_at = [sweep.columns.index(name) for name in by]
    points: dict[str, list[tuple[float, float]]] = {}
    for row in sweep.rows:
        along, up = row[x_at], row[y_at]
        if isinstance(along, int | float) and isinstance(up, int | float):
            group = ", ".join(_value(sweep.columns[at], row[at]) for at in by_at)
            points.setdefault(group, []).append((along, up))
    return {
        group: ([x for x, _ in sorted(pairs)], [y for _, y in sorted(pairs)])
        for group, pairs in points.items()
    }


def _value(name: str, value: Cell) -> str:
    return f"{name} {value:g}" if isinstance(value, int | float) else str(value)


def front_axes(sweep: Sweep) -> tuple[str, str] | None:
    """Throughput and p99; None where the sweep does not have both."""
    axes = numeric_columns(sweep)
    along = next((name for name in THROUGHPUT if name in axes), None)
    return (along, P99) if along is not None and P99 in axes else None


def front(sweep: Sweep, along: str, up: str) -> Curve:
    """The valid rows to which no other does more at a lower latency."""
    x_at, y_at = sweep.columns.index(along), sweep.columns.index(up)
    valid_at = sweep.columns.index("valid") if "valid" in sweep.columns else None
    points = [
        (x, y)
        for row in sweep.rows
        if isinstance(x := row[x_at], int | float)
        and isinstance(y := row[y_at], int | float)
        and (valid_at is None or str(row[valid_at]).lower() not in ("false", "0", "no"))
    ]
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (-point[0], point[1])):
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    kept.reverse()
    return [x for x, _ in kept], [y for _, y in kept]


def phase_curves(runs: Sequence[LoadRun]) -> dict[str, Curve]:
    """Rate sent against p99 in ms; a line for each run that has several phases."""
    return {
        run.name: (
            [phase.rate for phase in run.phases],
            [phase.measured.p99_ms for phase in run.phases],
        )
        for run in runs
        if len(run.phases) > 1
    }


def numbers(table: Sequence[Mapping[str, Cell]], column: str) -> list[float | None]:
    """A column of a table for a plot; None where no number stands."""
    values = (row[column] for row in table)
    return [value if isinstance(value, int | float) else None for value in values]
