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


def numeric_columns(sweep: Sweep) -> Sequence[str]:
    """Columns that can be an axis: numbers in every row that has a value there."""
    found = []
    for index, name in enumerate(sweep.columns):
        values = [row[index] for row in sweep.rows if row[index] is not None]
        if values and all(isinstance(value, int | float) for value in values):
            found.append(name)
    return found


def sweep_groups(sweep: Sweep, x: str, y: str, by: str | None) -> dict[str, Curve]:
    """Points in the order of x, a line for each value of the column `by`."""
    x_at, y_at = sweep.columns.index(x), sweep.columns.index(y)
    by_at = None if by is None else sweep.columns.index(by)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in sweep.rows:
        along, up = row[x_at], row[y_at]
        if isinstance(along, int | float) and isinstance(up, int | float):
            group = "" if by_at is None else str(row[by_at])
            points.setdefault(group, []).append((along, up))
    return {
        group: ([x for x, _ in sorted(pairs)], [y for _, y in sorted(pairs)])
        for group, pairs in points.items()
    }


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
