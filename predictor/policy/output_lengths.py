"""How many tokens will a row generate? Learned from the rows of its tier that have ended.

Lengths spread over orders of magnitude, so they are counted in bins that grow by a quarter of an
octave. What is learned is how likely a row that came so far goes no further, bin by bin (the
life table, or the estimator of Kaplan and Meier, 1958): a row that was cut off, by `max_tokens` or
because its client left, tells that it would have come so far, and nothing of what would have
followed. The chance to come further than n is the product of those of the bins up to n, and that
gives what a row that has generated so many will come to. Old rows count less than new ones.
"""

import math
from bisect import bisect_left
from itertools import accumulate

BINS_PER_OCTAVE = 4
OCTAVES = 20  # a million tokens
MEMORY_ROWS = 400.0
REFRESH_ROWS = 16
# Before anything is known: so many rows, of lengths that are as likely in any octave from 16 on.
PRIOR_ROWS = 4.0
PRIOR_OCTAVES = (4, 11)

_BINS = BINS_PER_OCTAVE * OCTAVES
_ENDS: list[float] = [
    2.0 ** ((i + 1) / BINS_PER_OCTAVE) for i in range(_BINS)
]  # longest length of each bin
_STARTS = [1.0, *_ENDS[:-1]]


class OutputLengths:
    """Predicts lengths of outputs, in tokens."""

    def __init__(self) -> None:
        self._ended = [0.0] * _BINS
        self._cut = [0.0] * _BINS
        first, last = (BINS_PER_OCTAVE * octave for octave in PRIOR_OCTAVES)
        for i in range(first, last):
            self._ended[i] = PRIOR_ROWS / (last - first)
        self._weight = 1.0  # of the next row: grows, instead of all others shrinking
        self._fresh = 0
        self._refresh()
        self._mean = self._areas[-1]  # of the prior
        self._mean_of = PRIOR_ROWS  # so many rows

    def add(self, tokens: int, *, cut: bool) -> None:
        """A row ended after so many tokens, by itself or because it was cut off."""
        counts = self._cut if cut else self._ended
        counts[_bin(tokens)] += self._weight
        self._weight *= 1.0 + 1.0 / MEMORY_ROWS
        self._mean_of = min(self._mean_of + 1.0, MEMORY_ROWS)
        self._mean += (tokens - self._mean) / self._mean_of
        self._fresh += 1
        if self._fresh >= REFRESH_ROWS:
            self._refresh()

    @property
    def mean(self) -> float:
        """What a row comes to of which nothing is known, not even its `max_tokens`: as many as
        others did, whatever ended them."""
        return self._mean

    def quantile(self, quantile: float, generated: int, max_tokens: int) -> int:
        """What a row that has generated so many does not exceed with this probability."""
        target = (1.0 - quantile) * self._survival(generated)
        index = bisect_left(self._falling, -target)
        length = max_tokens if index >= _BINS else math.ceil(_ENDS[index])
        return min(max(length, generated + 1), max_tokens)

    def expected(self, generated: int, max_tokens: int) -> float:
        """The mean of what a row that has generated so many comes to."""
        survival = self._survival(generated)
        if survival <= 0.0:
            return float(min(generated + 1, max_tokens))
        more = (self._tokens_until(max_tokens) - self._tokens_until(generated)) / survival
        return min(max(generated + more, generated + 1.0), float(max_tokens))

    def _survival(self, tokens: int) -> float:
        """The chance to come further than so many, linear within a bin."""
        if tokens < 1:
            return 1.0
        index = _bin(tokens)
        before = self._survivals[index - 1] if index else 1.0
        share = (tokens - _STARTS[index]) / (_ENDS[index] - _STARTS[index])
        return before + share * (self._survivals[index] - before)

    def _tokens_until(self, tokens: int) -> float:
        """The tokens up to this one that a row generates on average."""
        if tokens < 1:
            return 0.0
        index = _bin(tokens)
        before = self._survivals[index - 1] if index else 1.0
        height = (before + self._survival(tokens)) / 2
        return self._areas[index] + height * (tokens - _STARTS[index])

    def _refresh(self) -> None:
        self._fresh = 0
        shrink = 1.0 / self._weight
        self._weight = 1.0
        self._ended = [count * shrink for count in self._ended]
        self._cut = [count * shrink for count in self._cut]
        at_risk = sum(self._ended) + sum(self._cut)
        survival = 1.0
        self._survivals: list[float] = []
        for ended, cut in zip(self._ended, self._cut, strict=True):
            if at_risk > 1e-9:
                # Those that were cut in this bin were at risk for half of it.
                survival *= 1.0 - min(ended / max(at_risk - cut / 2, ended), 1.0)
            self._survivals.append(survival)
            at_risk -= ended + cut
        self._falling = [-survival for survival in self._survivals]
        heights = zip([1.0, *self._survivals], self._survivals, _STARTS, _ENDS, strict=False)
        areas = ((before + after) / 2 * (end - start) for before, after, start, end in heights)
        self._areas = list(accumulate(areas, initial=1.0))  # before each bin; all have one token


def _bin(tokens: int) -> int:
    return min(bisect_left(_ENDS, tokens), _BINS - 1)
