"""Batches: how well the service-time model fits, and what it says of a batch."""

import math
from collections.abc import Mapping, Sequence
from itertools import repeat

from dashboard.ports import BatchShape, Series, ServiceModelFit
from dashboard.views.units import MISSING, share
from predictor.core.rows import Packing
from predictor.policy.service_time import ServiceTimeModel
from predictor.policy.steps import STEP_PREFIX, restored

FEATURES = {
    "fixed": "a batch",
    "rows": "a row",
    "tokens": "a token",
    "tokens_squared": "a squared token",
    "area": "a token, padding included",
    "area_longest": "such a token, for each token of the longest row",
    "context": "a position that is looked back at",  # by rows that generate
    "tokens_context": "such a position, for each token that looks back at it",
    "several": "more than one token in a step",
}


def fit_table(fits: Sequence[ServiceModelFit]) -> list[dict[str, str | float]]:
    return [
        {
            "model": fit.model,
            "packing": fit.packing,
            "median error": share(fit.error_ratio),
            "batches learned from": fit.batches,
            "formula": formula(fit.coefficients),
        }
        for fit in fits
    ]


def formula(coefficients: Mapping[str, float]) -> str:
    """ "5 ms a batch + 10 µs a token", and how many steps; what has no weight is left out."""
    told = " + ".join(
        f"{_time(coefficients[feature])} {meaning}"
        for feature, meaning in FEATURES.items()
        if coefficients.get(feature, 0.0) > 0
    )
    steps = [
        seconds
        for name, seconds in coefficients.items()
        if name.startswith(STEP_PREFIX) and seconds > 0
    ]
    if steps:
        graphs = f"{len(steps)} captured steps of {_time(min(steps))} to {_time(max(steps))}"
        told = f"{graphs}, beyond them {told}" if told else graphs
    return told or MISSING


def _time(seconds: float) -> str:
    for unit, scale in (("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 0.1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.2g} ns"


def predicted_service_s(shape: BatchShape) -> Sequence[Series]:
    """What the models, as they are now, say of the mean batch of each moment.

    A batch counts as rows of one length: its tokens, padding included, over its rows. Steps of
    models that generate are left out: their time hangs on contexts, too, which nobody told.
    """
    rows = {series.name: series for series in shape.mean_rows}
    tokens = {series.name: series for series in shape.mean_tokens}
    padding = {series.name: series for series in shape.padding_share}
    found = []
    for fit in shape.fits:
        if fit.packing == Packing.PAGED or fit.model not in rows or fit.model not in tokens:
            continue
        model = _restored(fit)
        if model is None:
            continue
        wasted = padding[fit.model].values if fit.model in padding else repeat(0.0)
        sizes = zip(rows[fit.model].values, tokens[fit.model].values, wasted, strict=False)
        values = tuple(_predicted_s(model, *size) for size in sizes)
        name = f"{fit.model} predicted, {fit.packing}"
        found.append(Series(name, rows[fit.model].times_s[: len(values)], values))
    return found


def _restored(fit: ServiceModelFit) -> ServiceTimeModel | None:
    """None where another version of the predictor told the weights."""
    try:
        return restored(Packing(fit.packing), fit.coefficients)
    except ValueError:
        return None


def _predicted_s(
    model: ServiceTimeModel, rows: float, tokens: float, padding_share: float
) -> float:
    """Between the two whole numbers of rows around a mean; NaN where there was no batch."""
    if not (rows >= 1.0 and math.isfinite(tokens)):
        return math.nan
    wasted = padding_share if 0.0 <= padding_share < 1.0 else 0.0
    length = tokens / (1.0 - wasted) / rows
    part, fewer = math.modf(rows)
    return (1.0 - part) * model.alike_s(int(fewer), length) + part * model.alike_s(
        math.ceil(rows), length
    )
