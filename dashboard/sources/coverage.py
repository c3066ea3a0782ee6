"""Since when there is data: what is averaged over a time before that would read too low.

Asked are instants all over the window, then, around the first that has a value, ever closer ones:
two short queries where it began lately, and one where it is older than the window, however long
the window is.
"""

import math
from typing import Protocol

from dashboard.ports import Window
from dashboard.sources.promql import PLOT_POINTS, Grid

CLOSE_S = 1  # nearer than a scrape is
MOST_LOOKS = 4  # each is PLOT_POINTS times as close as the one before


class HasValue(Protocol):
    def __call__(self, grid: Grid, /) -> set[float]:
        """The instants of the grid that have a value."""
        ...


def first_seen_s(window: Window, has_value: HasValue) -> float | None:
    """When data begins in the window, to a second or so; its start where it has data there.

    None where there is none in all of it.
    """
    from_s, to_s = window.start_s, float(math.ceil(window.end_s))
    found_s: float | None = None
    for _ in range(MOST_LOOKS):
        step_s = max(CLOSE_S, math.ceil((to_s - from_s) / (PLOT_POINTS - 1)))
        steps = max(1, math.ceil((to_s - from_s) / step_s))
        seen = has_value(Grid(int(to_s) - steps * step_s, int(to_s), step_s))
        if not seen:
            return found_s
        found_s = min(seen)
        if found_s <= window.start_s or step_s <= CLOSE_S:
            break
        from_s, to_s = found_s - step_s, found_s
    return max(window.start_s, found_s) if found_s is not None else None
