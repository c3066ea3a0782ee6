"""The largest number for which something holds, asked as rarely as can be."""

from collections.abc import Callable


def largest(holds: Callable[[int], bool], most: int, guess: int) -> int:
    """The largest of 1..`most` for which `holds`, or 1 where it holds for none.

    `holds` must not turn true again once it is false. A guess that is right costs two
    questions; steps double from there, and what they enclose is halved.
    """
    low, high = 1, max(most, 1)
    at = min(max(guess, low), high)
    step = 1
    if at == low or holds(at):
        low = at
        while low < high:
            at = min(low + step, high)
            if not holds(at):
                high = at - 1
                break
            low, step = at, 2 * step
    else:
        high = at - 1
        while low < high:
            at = max(high - step + 1, low + 1)
            if holds(at):
                low = at
                break
            high, step = at - 1, 2 * step
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
