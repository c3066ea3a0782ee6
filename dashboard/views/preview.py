"""A preview in data: what is edited beside what is in force, and beside what was measured.

The simulator is not the server: it knows no HTTP and no busy machine. So an edit is held against
what the same simulator says of the parameters in force, on the same traffic. The difference is the
edit's; what separates the parameters in force from what was measured is the simulator's error.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dashboard.ports import (
    ArrivalStats,
    BatchShape,
    Forecast,
    Pool,
    Preview,
    PreviewQuestion,
    Price,
    Replica,
    ServiceModelFit,
    TierForecast,
    TierNow,
    Utilisation,
)
from dashboard.views.units import MISSING, duration, rate, share, usd
from predictor.core.parameters import Parameters

LARGE_ERROR = 0.25  # of what was measured: more is said in a sentence
UNCHANGED = "none"


@dataclass(frozen=True, slots=True)
class Whole:
    """What was measured of all tiers together."""

    busy: float | None
    useful: float | None
    usd_per_1000: float | None
    mean_batch_rows: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in the time whose traffic is simulated.

    `generations`: those that came into force within that time.
    """

    tiers: Sequence[TierNow]
    whole: Whole
    generations: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two simulations of the same traffic, and what was measured of it."""

    in_force: Forecast
    edited: Forecast
    measured: Measured


def question_of(
    parameters: Parameters,
    arrivals: Sequence[ArrivalStats],
    fits: Sequence[ServiceModelFit],
    replicas: Sequence[Replica],
    prices: Mapping[Pool, Price],
) -> PreviewQuestion:
    return PreviewQuestion(
        parameters=parameters,
        arrivals=tuple(arrivals),
        service_models=tuple(fits),
        replicas=max(1, sum(each.up for each in replicas)),
        usd_per_replica_hour=blended_price(prices, replicas),
    )


def blended_price(prices: Mapping[Pool, Price], replicas: Sequence[Replica]) -> float | None:
    """USD an hour of the mean replica that is up; None where one has no price."""
    alive = [each.pool for each in replicas if each.up]
    if not alive or any(pool not in prices for pool in alive):
        return None
    return sum(prices[pool].usd_per_hour for pool in alive) / len(alive)


def compare(
    preview: Preview, in_force: PreviewQuestion, edited: Parameters, measured: Measured
) -> Comparison:
    """Raises NoData as the preview does."""
    before = preview(in_force)
    if edited == in_force.parameters:
        return Comparison(before, before, measured)
    return Comparison(before, preview(replace(in_force, parameters=edited)), measured)


def whole_of(
    used: Utilisation | None, batches: BatchShape | None, usd_per_1000: float | None
) -> Whole:
    means = [] if batches is None else [v for line in batches.mean_rows for v in line.values]
    finite = [value for value in means if math.isfinite(value)]
    return Whole(
        busy=used.busy if used else None,
        useful=used.useful if used else None,
        usd_per_1000=usd_per_1000,
        mean_batch_rows=sum(finite) / len(finite) if finite else None,
    )


def tiles(found: Comparison) -> Mapping[str, tuple[str, str]]:
    """Of all tiers together: the edited value, and the other two in words."""
    before, after, whole = found.in_force, found.edited, found.measured.whole
    return {
        "Device busy": _tile(share, after.busy, before.busy, whole.busy),
        "Of use": _tile(share, after.useful, before.useful, whole.useful),
        "Rows in a batch": _tile(
            _one_digit, after.mean_batch_rows, before.mean_batch_rows, whole.mean_batch_rows
        ),
        "1,000 requests": _tile(usd, after.usd_per_1000, before.usd_per_1000, whole.usd_per_1000),
    }


def _tile(
    show: Callable[[float | None], str],
    edited: float | None,
    in_force: float | None,
    measured: float | None,
) -> tuple[str, str]:
    return show(edited), f"in force {show(in_force)}, measured {show(measured)}"


def _one_digit(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class _Figure:
    """One figure of one tier, from all three sides."""

    tier: str
    name: str
    show: Callable[[float | None], str]
    measured: float | None
    in_force: float | None
    edited: float | None

    @property
    def error(self) -> float | None:
        """Of the simulator, as a part of what was measured; None where either is missing."""
        if self.measured is None or self.in_force is None or not math.isfinite(self.measured):
            return None
        return self.in_force / self.measured - 1.0 if self.measured else None


_FIGURES: Sequence[tuple[str, Callable[[float | None], str], str]] = (
    ("p50", duration, "p50_s"),
    ("p99", duration, "p99_s"),
    ("goodput", rate, "good_per_s"),
    ("refused", rate, "refused_per_s"),
)


def _figures(found: Comparison) -> Iterator[_Figure]:
    seen = {(each.model, each.tier): each for each in found.measured.tiers}
    after = {(each.model, each.tier): each for each in found.edited.tiers}
    for before in found.in_force.tiers:
        key = (before.model, before.tier)
        name = f"{before.model}/{before.tier}"
        then, now = after.get(key), seen.get(key)
        for figure, show, field in _FIGURES:
            yield _Figure(name, figure, show, _of(now, field), _of(before, field), _of(then, field))
        cost = "usd_per_1000"
        yield _Figure(name, "USD per 1,000", usd, None, _of(before, cost), _of(then, cost))


def _of(tier: TierNow | TierForecast | None, field: str) -> float | None:
    value: float | None = None if tier is None else getattr(tier, field)
    return value


def forecast_table(found: Comparison) -> list[dict[str, str | float | None]]:
    """A line for each figure of each tier."""
    return [
        {
            "tier": each.tier,
            "figure": each.name,
            "edited, simulated": each.show(each.edited),
            "in force, simulated": each.show(each.in_force),
            "change by the edit": _change(each),
            "measured": each.show(each.measured),
            "simulator's error": MISSING if each.error is None else f"{each.error:+.0%}",
        }
        for each in _figures(found)
    ]


def _change(figure: _Figure) -> str:
    before, after = figure.in_force, figure.edited
    if before is None or after is None:
        return MISSING
    if after == before:
        return UNCHANGED
    return f"{after / before - 1.0:+.1%}" if before else f"from {figure.show(before)}"


def doubts(found: Comparison) -> Sequence[str]:
    """Why the simulated figures are to be taken for their difference alone; a sentence each."""
    said = []
    off = [each for each in _figures(found) if abs(each.error or 0.0) > LARGE_ERROR]
    # Refusals are few: one more or less is a large part of them.
    off = [each for each in off if each.name != "refused"]
    if off:
        worst = max(off, key=lambda each: abs(each.error or 0.0))
        said.append(
            f"The simulator is {abs(worst.error or 0.0):.0%} off in {worst.name} of {worst.tier}:"
            f" {worst.show(worst.in_force)} simulated, {worst.show(worst.measured)} measured. It"
            " knows no HTTP and no other work on the machine. Read what the edit changes, not the"
            " figures themselves."
        )
    if generations := found.measured.generations:
        newest = generations[-1]
        said.append(
            f"Generation {newest} came into force within this time range, so what was measured is"
            " partly of other parameters; choose a range that begins later to compare with it."
        )
    return said
