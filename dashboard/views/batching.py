"""Batches: how well the service-time model fits, and what it says of a batch."""

from collections.abc import Mapping, Sequence

from dashboard.ports import BatchShape, Series, ServiceModelFit
from dashboard.views.units import MISSING, share

FEATURES = {
    "fixed": "a batch",
    "rows": "a row",
    "tokens": "a token",
    "tokens_squared": "a squared token",
    "area": "a token, padding included",
    "area_longest": "such a token, for each token of the longest row",
}
MOST_TERMS = 6  # a device with captured graphs has a step for each of them


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
    """ "5.00 ms a batch + 10.0 µs a token"; features without weight are left out."""
    order = [*(name for name in FEATURES if name in coefficients), *coefficients]
    told = [
        f"{_time(coefficients[feature])} {FEATURES.get(feature, feature)}"
        for feature in dict.fromkeys(order)
        if coefficients[feature] > 0
    ]
    more = "" if len(told) <= MOST_TERMS else f" and {len(told) - MOST_TERMS} more steps"
    return " + ".join(told[:MOST_TERMS]) + more or MISSING


def _time(seconds: float) -> str:
    for unit, scale in (("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if seconds * scale >= 0.1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.2g} ns"


def predicted_service_s(shape: BatchShape) -> Sequence[Series]:
    """What the models, as they are now, say of the mean batch of each moment.

    Only for models that learned packed batches of alike rows: a padded batch's area is not
    among what is measured, and is taken from its padding share.
    """
    rows = {series.name: series for series in shape.mean_rows}
    tokens = {series.name: series for series in shape.mean_tokens}
    padding = {series.name: series for series in shape.padding_share}
    found = []
    for fit in shape.fits:
        if not {fit.model} <= rows.keys() & tokens.keys():
            continue
        wasted = padding.get(fit.model)
        by_time = dict(zip(wasted.times_s, wasted.values, strict=True)) if wasted else {}
        pairs = zip(
            rows[fit.model].times_s,
            rows[fit.model].values,
            tokens[fit.model].values,
            strict=False,
        )
        values = [
            _predicted(fit.coefficients, size, amount, by_time.get(time_s, 0.0))
            for time_s, size, amount in pairs
        ]
        found.append(
            Series(f"{fit.model} predicted, {fit.packing}", rows[fit.model].times_s, tuple(values))
        )
    return found


def _predicted(
    weights: Mapping[str, float], rows: float, tokens: float, padding_share: float
) -> float:
    """Seconds of a batch of `rows` rows alike in length, `tokens` real tokens together."""
    if not rows > 0:
        return float("nan")
    area = tokens / (1.0 - padding_share) if padding_share < 1 else tokens
    amounts = {
        "fixed": 1.0,
        "rows": rows,
        "tokens": tokens,
        "tokens_squared": tokens * tokens / rows,
        "area": area,
        "area_longest": area * area / rows,
    }
    return sum(weight * amounts.get(feature, 0.0) for feature, weight in weights.items())
