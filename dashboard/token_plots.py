"""Plots of tokens' times: to the first one and between the next ones, beside their SLOs."""

import streamlit as st

from dashboard import charts, plots
from dashboard.asking import ask, optional
from dashboard.here import Here
from dashboard.ports import Split, Token
from dashboard.theme import PLOT_HEIGHT_PX
from dashboard.views.overview import limits_ms, token_slos_s


def show_tokens(
    spot: Here,
    quantile: float,
    by: Split = Split.TIER,
    *,
    key: str,
    height_px: int = PLOT_HEIGHT_PX,
) -> bool:
    """Two plots side by side, told apart from others by `key`. False: no model generates."""
    metrics = spot.parts.metrics
    found = {
        token: ask(metrics.token_times, spot.window, quantile, token, spot.where, by)
        for token in Token
    }
    if not any(found.values()):
        return False
    tiers = optional(lambda: ask(metrics.tiers, spot.window, spot.where), ())
    for column, (token, series) in zip(st.columns(len(found)), found.items(), strict=True):
        figure = plots.lines(
            spot.look(height_px),
            series,
            f"p{quantile * 100:g} of {token.value} by {by.value}",
            "time (ms)",
            scale=1e3,
            limits=limits_ms(token_slos_s(tiers, token)),
        )
        charts.show(figure, key=f"{key}-{token.name.lower()}", where=column)
    return True
