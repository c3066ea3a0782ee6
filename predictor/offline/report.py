"""What a profile found, as a table for the terminal and a page with charts."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.table import Table

from predictor.core.errors import StartupError
from predictor.offline.profile import Measured


def table_of(measured: Sequence[Measured]) -> Table:
    """A row for each way to batch; throughput also as a multiple of the first one's."""
    table = Table(title=f"{measured[0].audio_s:.0f} s of audio")
    for heading in ("batching", "batches", "seconds", "x real time", "x FIFO", "padding"):
        table.add_column(heading, justify="left" if heading == "batching" else "right")
    for each in measured:
        table.add_row(
            each.name,
            str(len(each.shapes)),
            f"{each.elapsed_s:.2f}",
            f"{each.speed:,.1f}",
            f"{each.speed / measured[0].speed:.2f}",
            f"{each.padding_share:.1%}",
        )
    return table


def write_page(path: Path, measured: Sequence[Measured], title: str) -> None:
    """An HTML page that needs no network. Raises StartupError if it cannot be written."""
    figure = make_subplots(
        cols=3, subplot_titles=("Throughput (x real time)", "Padding share", "Batches")
    )
    names = [each.name for each in measured]
    speeds, shares = [each.speed for each in measured], [each.padding_share for each in measured]
    figure.add_trace(go.Bar(x=names, y=speeds, showlegend=False), col=1, row=1)
    figure.add_trace(go.Bar(x=names, y=shares, showlegend=False), col=2, row=1)
    for each in measured:
        sizes, longest = zip(*each.shapes, strict=True)
        trace = go.Scatter(x=longest, y=sizes, mode="markers", name=each.name, opacity=0.6)
        figure.add_trace(trace, col=3, row=1)
    figure.update_layout(title=title, template="plotly_white")
    figure.update_yaxes(tickformat=".0%", col=2)
    figure.update_xaxes(title="longest row, tokens", col=3)
    figure.update_yaxes(title="rows", col=3)
    try:
        figure.write_html(path)
    except OSError as error:
        raise StartupError(f"--output {path} cannot be written: {error.strerror}") from None
