"""A simulated day as a PNG: what came, how many replicas there were, and how the answers fared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.scaling.scenarios import Lived

DPI = 80
PANEL_INCHES = (6.4, 2.2)
HOUR_S = 3600.0


def write_picture(path: Path, days: Mapping[str, Lived], title: str) -> None:
    """A column for each day. Raises OSError."""
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(days), height * 4), layout="constrained")
    figure.suptitle(title)
    panels: Sequence[Sequence[Axes]] = figure.subplots(
        4, len(days), squeeze=False, sharex=True, sharey="row"
    ).tolist()
    for col, (name, lived) in enumerate(days.items()):
        _day([row[col] for row in panels], name, lived)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def _day(panels: Sequence[Axes], name: str, lived: Lived) -> None:
    hours = [(lived.begins_s + each.start_s) / HOUR_S for each in lived.minutes]
    rate, replicas, latency, refused = panels
    rate.set_title(name, fontsize=10)
    rate.plot(hours, [each.offered / 60.0 for each in lived.minutes], c="0.3", lw=0.8)
    rate.set_ylabel("requests/s")

    replicas.step(hours, [each.wanted for each in lived.minutes], c="0.7", lw=0.8, label="wanted")
    replicas.step(hours, [each.serving for each in lived.minutes], lw=1.0, label="serving")
    replicas.set_ylabel("replicas")
    replicas.set_ylim(bottom=0)
    replicas.legend(fontsize=7, loc="upper left")

    latency.plot(hours, [each.p99_s / lived.slo_s for each in lived.minutes], lw=0.8)
    latency.axhline(1.0, c="crimson", lw=0.8)
    latency.set_ylabel("p99 of answers ÷ SLO")
    latency.set_ylim(0, 1.1)

    share = [1.0 - each.in_time / max(each.offered, 1) for each in lived.minutes]
    refused.plot(hours, share, lw=0.8)
    refused.axhline(0.01, c="crimson", lw=0.8)
    refused.set_ylabel("refused or late")
    refused.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    refused.set_xlabel("hour of the day")
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.set_xlim(hours[0], hours[-1] + 1 / 60)
