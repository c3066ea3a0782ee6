"""Time ranges: what can be chosen, and how long what was read for one stays good."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dashboard.ports import Window

# Shown as they are, and in the URL too: a link must go on working, so they stay.
RANGES_S: Mapping[str, float] = {
    "5 min": 300.0,
    "15 min": 900.0,
    "1 h": 3600.0,
    "6 h": 21_600.0,
    "24 h": 86_400.0,
    "7 d": 604_800.0,
}
DEFAULT_RANGE = "15 min"
REFRESHES_S: Mapping[str, float | None] = {
    "no refresh": None,
    "every 5 s": 5.0,
    "every 15 s": 15.0,
    "every 60 s": 60.0,
}
DEFAULT_REFRESH = "every 15 s"
STEPS = 200  # a window moves on by so small a part of itself: nothing on a plot would show less
SHORTEST_STEP_S = 2.0


def window_of(range_name: str, now_s: float) -> Window:
    """The chosen range up to now, its end on a grid: whoever looks within a step asks the same."""
    length_s = RANGES_S.get(range_name, RANGES_S[DEFAULT_RANGE])
    step_s = max(SHORTEST_STEP_S, length_s / STEPS)
    return Window.last(length_s, math.floor(now_s / step_s) * step_s)


LEAST_S, MOST_S = 10.0, 90 * 86_400.0


def absolute(start: str, end: str, zone: tzinfo, now_s: float) -> Window | str | None:
    """A range by its ends as they were typed; None where neither is, and what is wrong with them in
    a sentence."""
    if not start.strip() and not end.strip():
        return None
    start_s, end_s = (time_of(each, zone) for each in (start, end))
    if start_s is None or end_s is None:
        return "Give both ends of the range, as 2026-11-30 14:05:00."
    end_s = min(end_s, now_s)
    if end_s - start_s < LEAST_S:
        return f"The range must be {LEAST_S:.0f} s long at least, and begin in the past."
    if end_s - start_s > MOST_S:
        return f"The range must be {MOST_S / 86_400:.0f} d long at most."
    return Window(math.floor(start_s), math.ceil(end_s))


def time_of(text: str, zone: tzinfo) -> float | None:
    """Unix time of what was typed, or a plot says: in the zone, unless it has its own."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).timestamp()


def written(time_s: float) -> str:
    """For an address: the same moment for readers in other zones."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span_of(window: Window, zone: tzinfo, now_s: float) -> str:
    return f"{moment(window.start_s, zone, now_s)} to {moment(window.end_s, zone, now_s)}"


def zone_of(name: str | None) -> tzinfo:
    """The reader's time zone by its name; UTC where the name tells nothing."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def clock(time_s: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time_s, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def moment(time_s: float, zone: tzinfo, now_s: float) -> str:
    """The time of day, and the date where it is not today."""
    then, now = (datetime.fromtimestamp(each, zone) for each in (time_s, now_s))
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def elapsed(seconds: float) -> str:
    """ "40 s", "3 min", "2 h", "5 d"."""
    for unit, length_s in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
