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
