"""A plot on a page, and the stretch of time that is drawn across it.

Streamlit's browser side makes a plot anew whenever its values are new, which loses what was hidden
or zoomed in it. A range that was drawn or typed does not move on, so its plots stay.
"""

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.here import Here

CONFIG = {"displaylogo": False, "displayModeBar": False}  # it would cover title and markers


def show(figure: go.Figure, key: str, where: DeltaGenerator | None = None) -> None:
    """`key`: one for each plot of a page."""
    (where or st).plotly_chart(figure, theme=None, key=key, config=CONFIG)


def show_over_time(
    spot: Here,
    figure: go.Figure,
    key: str,
    where: DeltaGenerator | None = None,
    *,
    fills: bool = False,
) -> None:
    """The same where the axis is time: what is drawn across it becomes the time range of all.

    `fills`: it is as high as its container, not as the figure says.
    """
    figure.update_layout(dragmode="select", selectdirection="h")
    if fills:
        figure.update_layout(height=None)
    named = f"{key} {spot.shown}"  # another range makes another plot

    def drawn() -> None:
        """Newer values may have made another plot by now: what was drawn is asked for at once."""
        for box in st.session_state[named].selection.box:
            spot.choose_range(*sorted(box["x"])[:2])

    (where or st).plotly_chart(
        figure,
        theme=None,
        key=named,
        config=CONFIG,
        height="stretch" if fills else "content",
        on_select=drawn,
        selection_mode="box",
    )
