"""Load tests: what lies in the results folder, plotted and compared."""

import streamlit as st

from dashboard import plots
from dashboard.asking import ask_now, guarded
from dashboard.here import Here, here
from dashboard.ports import LoadRun, Sweep
from dashboard.views.load_tests import (
    compared_settings,
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
            {
                name: [seen[f"{name}_ms"] for seen in latencies(chosen)]
                for name in ("p50", "p95", "p99")
            },
            "Latency, as the client saw it",
            "ms",
        ),
        theme=None,
        key="load-latency",
    )
    with right, guarded("The phases"):
        show_phases(spot, chosen, groups)
    st.dataframe(table, hide_index=True, row_height=28)
    differing = compared_settings(chosen)
    if differing:
        st.caption("Settings in which these runs differ")
        st.dataframe(differing, hide_index=True, row_height=28)


def latencies(runs: list[LoadRun]) -> list[dict[str, float]]:
    return [
        {"p50_ms": seen.p50_ms, "p95_ms": seen.p95_ms, "p99_ms": seen.p99_ms}
        for run in runs
        for seen in run.tiers.values()
    ]


def show_phases(spot: Here, runs: list[LoadRun], groups: list[str]) -> None:
    """Runs in phases by their rate; runs without, by what was answered in time."""
    phases = phase_curves(runs)
    if phases:
        figure = plots.curves(
            spot.look(), phases, "Phases: p99 by rate", "rate sent (requests/s)", "p99 (ms)"
        )
    else:
        good = [
            seen.within_slo / run.seconds if run.seconds else None
            for run in runs
            for seen in run.tiers.values()
        ]
        figure = plots.grouped_bars(spot.look(), groups, {"goodput": good}, "Goodput", "requests/s")
    st.plotly_chart(figure, theme=None, key="load-phases")


def show_sweeps(spot: Here, sweeps: tuple[Sweep, ...]) -> None:
    by_name = {sweep.name: sweep for sweep in sweeps}
    sweep = by_name[st.selectbox("Sweep or search", list(by_name), key="load-sweep")]
    numbers = list(numeric_columns(sweep))
    if len(numbers) > 1:
        one, two, three = st.columns(3)
        along = one.selectbox(
            "Along", numbers, index=preferred(numbers, "rate_per_s", 0), key=f"along-{sweep.name}"
        )
        up = two.selectbox(
            "Up", numbers, index=preferred(numbers, "p99_ms", 1), key=f"up-{sweep.name}"
        )
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
    st.dataframe(
        [dict(zip(sweep.columns, row, strict=True)) for row in sweep.rows],
        hide_index=True,
        row_height=28,
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
        st.warning(sentence)
