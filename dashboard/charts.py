"""A plot on a page: it stays the same one over a refresh, and time drawn across it is shown.

Streamlit names a plot after all that is in it, so that each refresh would put another in its place:
zoom, hidden lines and what is hovered over would be gone. Here a plot is named by its key alone, as
Streamlit does for its input fields.
"""

from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements import plotly_chart as element
from streamlit.elements.lib import utils

from dashboard.here import Here

CONFIG = {"displaylogo": False, "displayModeBar": False}  # it would cover title and markers


def _named_by_key(kind: str, *, user_key: str | None, **about: Any) -> str:
    about["key_as_main_identity"] = user_key is not None
    return utils.compute_and_register_element_id(kind, user_key=user_key, **about)


setattr(element, "compute_and_register_element_id", _named_by_key)  # noqa: B010 - not exported


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
    drawn = (where or st).plotly_chart(
        figure,
        theme=None,
        # Another range makes another plot, without what was drawn on the last one.
        key=f"{key} {spot.shown}",
        config=CONFIG,
        height="stretch" if fills else "content",
        on_select="rerun",
        selection_mode="box",
    )
    for box in drawn.selection.box:
        spot.choose_range(*sorted(box["x"])[:2])
