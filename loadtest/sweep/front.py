"""Where adaptive lands: against the front that the constant settings form at one rate.

At one rate, a setting is worse than another that answers as much in time, sooner, for less time
of the device. The settings to which no other does that form the front.

Differences below `NOISE` are none: cells are short, and the machine is shared.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from loadtest.bench.report import Table
from loadtest.sweep.cells import Cell
from predictor.core.parameters import Policy

NOISE = 0.05

Latency = Callable[[Cell], float]


class Place(StrEnum):
    BEYOND = "beyond"
    ON = "on"
    BEHIND = "behind"
    UNKNOWN = "unknown"  # nothing was answered, or k6 could not send what it should


class Standing(msgspec.Struct, frozen=True):
    """Of the adaptive cell at a rate. `rival`: a constant setting that is better, or beaten."""

    place: Place
    adaptive: Cell
    rival: Cell | None


def beats(one: Cell, other: Cell, latency: Latency) -> bool:
    """No worse in goodput, latency and device time, and better in one by more than noise."""
    if one.goodput_per_s < (1 - NOISE) * other.goodput_per_s:
        return False
    if one.goodput_per_s > (1 + NOISE) * other.goodput_per_s:
        # It does more work: only its latency can be held against it.
        return latency(one) <= (1 + NOISE) * latency(other)
    slower = latency(one) > latency(other)
    busier = one.utilisation > other.utilisation
    clearly = (
        latency(one) < (1 - NOISE) * latency(other)
        or one.utilisation < (1 - NOISE) * other.utilisation
    )
    return clearly and not slower and not busier


def front(cells: Sequence[Cell], latency: Latency) -> list[Cell]:
    """The cells that no other one beats, from fast to slow."""
    kept = [
        cell
        for cell in cells
        if cell.answered and not any(beats(other, cell, latency) for other in cells)
    ]
    return sorted(kept, key=latency)


def standing(cells: Sequence[Cell], latency: Latency) -> Standing | None:
    """Of the adaptive cell among the cells of one rate; None where there is none."""
    adaptive = next((cell for cell in cells if cell.policy is Policy.ADAPTIVE), None)
    if adaptive is None:
        return None
    constant = [cell for cell in cells if cell.policy is Policy.CONSTANT and cell.valid]
    if not adaptive.answered or not adaptive.valid or not constant:
        return Standing(Place.UNKNOWN, adaptive, None)
    better = [cell for cell in constant if beats(cell, adaptive, latency)]
    if better:
        return Standing(Place.BEHIND, adaptive, min(better, key=latency))
    edge = front(constant, latency)
    beaten = [cell for cell in edge if beats(adaptive, cell, latency)]
    if beaten:
        return Standing(Place.BEYOND, adaptive, min(beaten, key=latency))
    return Standing(Place.ON, adaptive, min(edge, key=latency, default=None))


def rates_of(cells: Sequence[Cell]) -> Sequence[float]:
    return sorted({cell.rate_per_s for cell in cells})


def at_rate(cells: Sequence[Cell], rate_per_s: float) -> Sequence[Cell]:
    return [cell for cell in cells if cell.rate_per_s == rate_per_s]


def mean_ms(cell: Cell) -> float:
    return cell.mean_ms


def p99_ms(cell: Cell) -> float:
    return cell.p99_ms


def table_of(cells: Sequence[Cell], title: str) -> Table:
    """Adaptive at every rate, beside the constant setting that comes nearest."""
    rows = []
    for rate_per_s in rates_of(cells):
        here = at_rate(cells, rate_per_s)
        for name, latency in (("mean", mean_ms), ("p99", p99_ms)):
            stands = standing(here, latency)
            if stands is not None:
                rows.append(_row(rate_per_s, name, latency, stands))
    return Table(
        title=title,
        intro="Where adaptive stands against the front of the constant settings, by latency "
        "against device time at the same goodput. The rival is the one that is better where "
        "adaptive is behind, else the fastest on the front (where adaptive is beyond: of those "
        f"that it beats). Differences below {NOISE:.0%} count as none.",
        columns=(
            *("requests/s", "latency", "adaptive is", "ms", "device busy", "in time/s"),
            *("rival", "its ms", "device busy", "in time/s"),
        ),
        rows=rows,
        notes=_invalid(cells),
    )


def _invalid(cells: Sequence[Cell]) -> Sequence[str]:
    number = sum(not cell.valid for cell in cells)
    if not number:
        return []
    return [f"INVALID: {number} of {len(cells)} cells, in which k6 could not send what it should"]


def _row(rate_per_s: float, name: str, latency: Latency, stands: Standing) -> Sequence[str]:
    def numbers(cell: Cell) -> Sequence[str]:
        return (f"{latency(cell):.1f}", f"{cell.utilisation:.0%}", f"{cell.goodput_per_s:.1f}")

    rival = stands.rival
    place = f"{stands.place} the front"
    if stands.place is Place.UNKNOWN:
        place = stands.place.value if stands.adaptive.valid else "INVALID"
    return (
        *(f"{rate_per_s:g}", name, place, *numbers(stands.adaptive)),
        *((str(rival.setting), *numbers(rival)) if rival else ("-",) * 4),
    )
