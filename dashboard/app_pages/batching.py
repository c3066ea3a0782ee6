"""Batching: how full batches leave, why, and what padding costs."""

import streamlit as st

from dashboard import charts, plots, tables
from dashboard.asking import ask, guarded
from dashboard.here import Here, here, refreshing
from dashboard.ports import BatchShape
from dashboard.views.batching import fit_table, predicted_service_s


def show_distributions(shape: BatchShape, look: plots.Look) -> None:
    left, right = st.columns(2)
    charts.show(
        plots.heat(look, shape.rows, "Batch size", "rows in a batch"), key="batch-rows", where=left
    )
    charts.show(
        plots.heat(look, shape.tokens, "Tokens", "tokens in a batch"),
        key="batch-tokens",
        where=right,
    )


def show_means(spot: Here, shape: BatchShape, look: plots.Look) -> None:
    left, middle, right = st.columns(3)
    charts.show_over_time(
        spot,
        plots.lines(look, shape.mean_rows, "Mean batch size", "rows"),
        key="batch-mean",
        where=left,
    )
    charts.show_over_time(
        spot,
        plots.lines(look, shape.reasons, "Why batches leave", "batches/s", stacked=True),
        key="batch-reasons",
        where=middle,
    )
    charts.show_over_time(
        spot,
        plots.lines(look, shape.padding_share, "Padding", "of computed tokens", share=True),
        key="batch-padding",
        where=right,
    )


def show_service_time(spot: Here, shape: BatchShape, look: plots.Look) -> None:
    measured = [plots.renamed(each, "measured") for each in shape.mean_service_s]
    left, right = st.columns(2)
    charts.show_over_time(
        spot,
        plots.lines(
            look,
            [*measured, *predicted_service_s(shape)],
            "Mean time of a batch on the device",
            "ms",
            scale=1e3,
        ),
        key="batch-service",
        where=left,
    )
    charts.show_over_time(
        spot,
        plots.lines(
            look,
            shape.model_error,
            "Error of the service-time model",
            "median error",
            share=True,
            limits={"promised 5%": 0.05},
        ),
        key="batch-error",
        where=right,
    )
    tables.show(fit_table(shape.fits))
    st.caption("Predicted: the model as it is now, for rows of one length in each batch.")


def draw() -> None:
    spot = here()
    shape = ask(spot.parts.metrics.batches, spot.window, spot.where)
    look = spot.look()
    with guarded("The distributions"):
        show_distributions(shape, look)
    with guarded("Means, reasons and padding"):
        show_means(spot, shape, look)
    with guarded("The service-time model"):
        show_service_time(spot, shape, look)


refreshing(draw)
