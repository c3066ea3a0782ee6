"""A device with pages that remembers what is in them: rows that see each other's would be found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from predictor.core.rows import AT_ITS_END, Piece, Row


def prompt_token(row: Row, position: int) -> int:
    """Of a row whose payload names, for each position, whose prompt it shares there."""
    return row.payload[position]


def output_token(row: Row, number: int) -> int:
    """The same whoever shares the step, and however often it is computed."""
    return (row.index * 31 + number * 7) % 200 + 1  # 0 is the token that ends a text


def true_token(row: Row, position: int) -> int:
    if position < row.tokens:
        return prompt_token(row, position)
    return output_token(row, position - row.tokens)


@dataclass
class _Slot:
    row: Row
    table: list[int] = field(default_factory=list)
    position: int = 0
    chain: int = 0  # of all tokens before the position


@dataclass
class PagedDevice:
    """Runs pieces in the order in which steps are given to it.

    In each page it notes, for each position, the chain of the tokens up to there. A row may only
    ever read what its own tokens, or the same ones of another row, have left.
    """

    pages: int
    page_tokens: int
    slots: dict[int, _Slot] = field(default_factory=dict)
    contents: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, pieces: Sequence[Piece]) -> None:
        used = [piece.slot for piece in pieces]
        assert len(set(used)) == len(used), "two pieces of a step in one slot"
        for piece in pieces:
            self._run(piece)

    def _run(self, piece: Piece) -> None:
        row = piece.row
        assert row.progress is not None
        if piece.fresh:
            self.slots[piece.slot] = _Slot(row, list(piece.pages))
            self._go_to(self.slots[piece.slot], piece.start)
        else:
            self.slots[piece.slot].table += piece.pages
        slot = self.slots[piece.slot]
        assert slot.row is row, "a slot that another row has taken"
        assert piece.start in (AT_ITS_END, slot.position), "tokens out of order"
        assert all(0 <= page < self.pages for page in slot.table)
        assert len(set(slot.table)) == len(slot.table)
        assert slot.position + piece.tokens <= len(slot.table) * self.page_tokens, "no page for it"
        self._check_what_is_read(slot)
        for _ in range(piece.tokens):
            slot.chain = hash((slot.chain, true_token(row, slot.position)))
            self.contents[self._place(slot, slot.position)] = slot.chain
            slot.position += 1
        assert piece.samples == (slot.position >= row.tokens + self._known_outputs(piece))

    @staticmethod
    def _known_outputs(piece: Piece) -> int:
        progress = piece.row.progress
        assert progress is not None
        return 0 if piece.start == AT_ITS_END else progress.prefill - piece.row.tokens

    def _go_to(self, slot: _Slot, position: int) -> None:
        """What lies before was found in the cache."""
        for at in range(position):
            slot.chain = hash((slot.chain, true_token(slot.row, at)))
        slot.position = position

    def _check_what_is_read(self, slot: _Slot) -> None:
        chain = 0
        for at in range(slot.position):
            chain = hash((chain, true_token(slot.row, at)))
            assert self.contents[self._place(slot, at)] == chain, "keys and values of another row"

    def _place(self, slot: _Slot, position: int) -> tuple[int, int]:
        return slot.table[position // self.page_tokens], position % self.page_tokens
