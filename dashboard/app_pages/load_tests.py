"""Load tests: what lies in the results folder, plotted and compared."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard import charts, plots, tables
from dashboard.asking import ask_now, guarded
from dashboard.here import Here, here
from dashboard.ports import LoadRun, Sweep
from dashboard.views.literal import escaped
from dashboard.views.load_tests import (
    P99,
    RATE,
    Curve,
    compared_settings,
    front,
    front_axes,
    in_order,
    numbers,
    numeric_columns,
    phase_curves,
    run_table,
    setting_columns,
    sweep_groups,
    varying_columns,
)

MOST_COMPARED = 12
FRONT, CURVES = "throughput beside p99", "any two columns"
SETTING = "setting"


def show_runs(spot: Here, runs: tuple[LoadRun, ...]) -> None:
    by_name = {run.name: run for run in in_order(runs)}
    names = st.multiselect(
        "Runs to compare",
        list(by_name),
        default=list(by_name)[:3],
        max_selections=MOST_COMPARED,
        key="load-runs",
    )
    chosen = [by_name[name] for name in names]
    if not chosen:
        st.info("Choose a run above.")
        return
    table = run_table(chosen, spot.zone)
    groups = [f"{row['run']} {row['tier']}" for row in table]
    left, right = st.columns(2)
    charts.show(
        plots.grouped_bars(
            spot.look(),
            groups,
            {name: numbers(table, f"{name} ms") for name in ("p50", "p95", "p99")},
            "Latency, as the client saw it",
            "ms",
        ),
        key="load-latency",
        where=left,
    )
    with right, guarded("The phases"):
        show_phases(spot, phase_curves(chosen), {"goodput": numbers(table, "goodput /s")}, groups)
    tables.show(table)
    differing = compared_settings(chosen)
    if differing:
        st.caption("Settings in which these runs differ")
        tables.show(differing)


def show_phases(
    spot: Here,
    phases: Mapping[str, Curve],
    goodput: Mapping[str, Sequence[float | None]],
    groups: Sequence[str],
) -> None:
    """Runs in phases by their rate; where none has phases, what was answered in time."""
    if phases:
        figure = plots.curves(
            spot.look(), phases, "Phases: p99 by rate", "rate sent (requests/s)", "p99 (ms)"
        )
    else:
        figure = plots.grouped_bars(spot.look(), groups, goodput, "Goodput", "requests/s")
    charts.show(figure, key="load-phases")


def show_sweeps(spot: Here, sweeps: tuple[Sweep, ...]) -> None:
    by_name = {sweep.name: sweep for sweep in sweeps}
    name = next(iter(by_name))
    if len(by_name) > 1:
        name = st.selectbox("Sweep or search", list(by_name), key="load-sweep")
    sweep = by_name[name]
    axes = front_axes(sweep)
    kinds = [kind for kind in (FRONT, CURVES) if kind is CURVES or axes is not None]
    kind = kinds[0]
    if len(kinds) > 1 and len(numeric_columns(sweep)) > 1:
        kind = st.segmented_control("Plot", kinds, default=FRONT, required=True, key=f"kind-{name}")
    if kind is FRONT and axes is not None:
        show_front(spot, sweep, *axes)
    elif len(numeric_columns(sweep)) > 1:
        show_curves(spot, sweep)
    tables.show([dict(zip(sweep.columns, row, strict=True)) for row in sweep.rows])


def show_front(spot: Here, sweep: Sweep, along: str, up: str) -> None:
    """Each cell by what it did and how fast: right and low is good."""
    policies = [name for name in ("policy",) if name in sweep.columns]
    charts.show(
        plots.curves(
            spot.look(),
            sweep_groups(sweep, along, up, policies or setting_columns(sweep, along)[:1]),
            f"{sweep.name}: throughput beside p99",
            along,
            up,
            front=front(sweep, along, up),
        ),
        key="load-sweep-front",
    )


def show_curves(spot: Here, sweep: Sweep) -> None:
    axes = list(numeric_columns(sweep))
    along, up = axes[preferred(axes, RATE, 0)], axes[preferred(axes, P99, 1)]
    columns = st.columns(3)
    if len(axes) > 2:
        along = columns[0].selectbox(
            "Along", axes, index=axes.index(along), key=f"along-{sweep.name}"
        )
        up = columns[1].selectbox("Up", axes, index=axes.index(up), key=f"up-{sweep.name}")
    by = list(setting_columns(sweep, along))
    others = [name for name in varying_columns(sweep) if name not in (along, up)]
    if len(others) > 1:
        chosen = columns[2].selectbox("A line for each", [SETTING, *others], key=f"by-{sweep.name}")
        by = by if chosen == SETTING else [chosen]
    charts.show(
        plots.curves(spot.look(), sweep_groups(sweep, along, up, by), sweep.name, along, up),
        key="load-sweep-plot",
    )


def preferred(names: list[str], name: str, otherwise: int) -> int:
    return names.index(name) if name in names else otherwise


with guarded("Load tests"):
    spot = here()
    # The folder is read anew as often as a window moves on.
    found = ask_now(spot.parts.results.find, spot.window.end_s)
    if found.runs:
        with guarded("The runs"):
            show_runs(spot, found.runs)
    if found.sweeps:
        st.subheader("Sweeps and capacity searches", divider="gray")
        with guarded("The sweeps"):
            show_sweeps(spot, found.sweeps)
    for sentence in found.unreadable:
        st.warning(escaped(sentence))
