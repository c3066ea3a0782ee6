"""Load tests: what lies in the results folder, plotted and compared."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard import plots, tables
from dashboard.asking import ask_now, guarded
from dashboard.here import Here, here
from dashboard.ports import LoadRun, Sweep
from dashboard.views.literal import escaped
from dashboard.views.load_tests import (
    Curve,
    compared_settings,
    numbers,
    numeric_columns,
    phase_curves,
    run_table,
    sweep_groups,
)

MOST_COMPARED = 12
NONE = "nothing"


def show_runs(spot: Here, runs: tuple[LoadRun, ...]) -> None:
    by_name = {run.name: run for run in runs}
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
    left.plotly_chart(
        plots.grouped_bars(
            spot.look(),
            groups,
            {name: numbers(table, f"{name} ms") for name in ("p50", "p95", "p99")},
            "Latency, as the client saw it",
            "ms",
        ),
        theme=None,
        key="load-latency",
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
    st.plotly_chart(figure, theme=None, key="load-phases")


def show_sweeps(spot: Here, sweeps: tuple[Sweep, ...]) -> None:
    by_name = {sweep.name: sweep for sweep in sweeps}
    sweep = by_name[st.selectbox("Sweep or search", list(by_name), key="load-sweep")]
    axes = list(numeric_columns(sweep))
    if len(axes) > 1:
        one, two, three = st.columns(3)
        along = one.selectbox(
            "Along", axes, index=preferred(axes, "rate_per_s", 0), key=f"along-{sweep.name}"
        )
        up = two.selectbox("Up", axes, index=preferred(axes, "p99_ms", 1), key=f"up-{sweep.name}")
        by = three.selectbox(
            "A line for each", [NONE, *sweep.columns], index=1, key=f"by-{sweep.name}"
        )
        st.plotly_chart(
            plots.curves(
                spot.look(),
                sweep_groups(sweep, along, up, None if by == NONE else by),
                sweep.name,
                along,
                up,
            ),
            theme=None,
            key="load-sweep-plot",
        )
    tables.show([dict(zip(sweep.columns, row, strict=True)) for row in sweep.rows])


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
