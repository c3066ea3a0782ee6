"""Which prompts can have their first token in time, when prompts are computed one after the other.

A generating model computes prompts at a rate that the rows which decode leave. In the order of
their deadlines each has its first token when all before it are computed, so those that will be late
are known in advance. Whenever one would be, the longest of those up to it is given up: that leaves
the fewest late (Moore, Management Science 1968), and is the most that can be in time.
"""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from predictor.core.rows import Row


class Prompt(NamedTuple):
    """A row that has not had its first token, and what is left to compute of it."""

    row: Row
    tokens: int
    deadline_s: float


def late_prompts(
    prompts: Iterable[Prompt], free_s: float, tokens_per_s: float, step_s: float = 0.0
) -> list[Prompt]:
    """Of prompts in the order in which they are computed, those to give up.

    `free_s` is when the first can begin. The step in which one ends takes up to `step_s`.
    """
    given_up = []
    kept: list[tuple[int, int, Prompt]] = []  # the longest first, and of those the last
    ends_s = free_s + step_s
    for number, prompt in enumerate(prompts):
        ends_s += prompt.tokens / tokens_per_s
        heapq.heappush(kept, (-prompt.tokens, -number, prompt))
        while ends_s > prompt.deadline_s and kept:
            longest = heapq.heappop(kept)[2]
            given_up.append(longest)
            ends_s -= longest.tokens / tokens_per_s
    return given_up
