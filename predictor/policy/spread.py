"""Which of several engines gets the next request."""

from collections.abc import Sequence


def least_loaded(outstanding: Sequence[int | None], after: int) -> int | None:
    """The position with the least outstanding tokens; None where no engine can be asked.

    None in `outstanding` is an engine that cannot. Of equals the next one after position
    `after` is taken, in a circle, so that idle engines take turns.
    """
    count = len(outstanding)
    best: int | None = None
    least = -1
    for step in range(1, count + 1):
        position = (after + step) % count
        tokens = outstanding[position]
        if tokens is not None and (best is None or tokens < least):
            best, least = position, tokens
    return best
