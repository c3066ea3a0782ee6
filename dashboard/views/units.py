"""Numbers as a person reads them, with their unit. What nobody measured reads "-"."""

import math
from collections.abc import Sequence

MISSING = "-"
MOST_LISTED = 3


def known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def duration(seconds: float | None) -> str:
    """0.1432 reads "143 ms", 2.5 "2.50 s"."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds == 0:
        return "0 ms"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.0f} min"


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None or not math.isfinite(seconds) else seconds * 1e3


def share(ratio: float | None) -> str:
    """Whole percents; below one, what is there must not read as nothing."""
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    if 0 < abs(ratio) < 0.00995:
        return f"{ratio:.1%}" if abs(ratio) >= 0.0005 else "<0.1%"
    return f"{ratio:.0%}"


def rate(per_second: float | None) -> str:
    if per_second is None or not math.isfinite(per_second):
        return MISSING
    return f"{per_second:,.1f}/s" if per_second < 100 else f"{per_second:,.0f}/s"


def count(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def usd(amount: float | None) -> str:
    """At least three significant digits: a request costs millionths."""
    if amount is None or not math.isfinite(amount):
        return MISSING
    if amount == 0 or abs(amount) >= 0.1:
        return f"${amount:,.2f}"
    digits = 2 - math.floor(math.log10(abs(amount)))
    return f"${amount:.{digits}f}"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more: a hundred replicas are no sentence."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
