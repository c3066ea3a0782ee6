"""What a batch asks of the device, in the quantities that its time follows."""

from collections.abc import Iterable
from enum import StrEnum
from operator import mul
from typing import Protocol

import msgspec


class Packing(StrEnum):
    """Who pays for whom in a batch."""

    PACKED = "packed"  # rows concatenated: cost follows the sum of tokens
    PADDED = "padded"  # every row padded to the longest: cost follows b * longest
    PAGED = "paged"  # steps of rows that generate, their keys and values in pages


class Sized(Protocol):
    """A row."""

    @property
    def tokens(self) -> int: ...


class Work(msgspec.Struct, frozen=True, gc=False):
    """What a batch asks of the device.

    Of a row that runs whole, the context is the row itself: then `pairs` is the sum of tokens^2,
    and `context`, the keys that a step reads from memory, is 0: there are none.
    """

    rows: int
    tokens: int  # new positions
    pairs: int  # sum of tokens * context
    longest: int
    context: int = 0  # of the pieces of a step: the positions up to the end of each

    @staticmethod
    def of(rows: Iterable[Sized]) -> "Work":
        lengths = [row.tokens for row in rows]
        if len(lengths) == 1:  # most requests are one row
            (only,) = lengths
            return Work(1, only, only * only, only)
        pairs = sum(map(mul, lengths, lengths))
        return Work(len(lengths), sum(lengths), pairs, max(lengths, default=0))

    @staticmethod
    def alike(rows: int, tokens: float) -> "Work":
        """`rows` rows of `tokens` tokens each."""
        length = int(tokens + 0.5)
        return Work(rows, rows * length, rows * length * length, length)

    def plus(self, row: Sized) -> "Work":
        tokens = row.tokens
        return Work(
            self.rows + 1,
            self.tokens + tokens,
            self.pairs + tokens * tokens,
            max(self.longest, tokens),
        )

    def computed(self, packing: Packing) -> int:
        """Tokens that the device computes, padding included."""
        return self.rows * self.longest if packing is Packing.PADDED else self.tokens

    def with_piece(self, tokens: int, start: int) -> "Work":
        """This step with one more piece: `tokens` positions from `start` on."""
        context = start + tokens
        return Work(
            self.rows + 1,
            self.tokens + tokens,
            self.pairs + tokens * context,
            max(self.longest, tokens),
            self.context + context,
        )

    def plus_work(self, other: "Work") -> "Work":
        return Work(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.pairs + other.pairs,
            max(self.longest, other.longest),
            self.context + other.context,
        )

    def with_decodes(self, rows: int, context: int) -> "Work":
        """This step with `rows` more rows that decode, of so many positions altogether."""
        return Work(
            self.rows + rows,
            self.tokens + rows,
            self.pairs + context,
            max(self.longest, 1) if rows else self.longest,
            self.context + context,
        )


NOTHING = Work(0, 0, 0, 0)
