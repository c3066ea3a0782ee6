"""The rows of one queue that decode: each adds a token in every step, until something happens.

What happens to a row is known ahead: after so many more tokens its last page is full, or it has
all that it may have. So a step that only goes on looks at the rows that are due in it, and at no
others: the pieces stand ready, and the positions of all rows are known from the count of steps.
"""

from typing import NamedTuple

from predictor.core.rows import AT_ITS_END, Piece, Row


class _Member(NamedTuple):
    planned: int  # when it joined, less the steps until then
    due: int  # the step before which something happens to it
    last: int  # the step before which all its tokens are under way


def last_position(row: Row) -> int:
    """The position whose token is the last that this row may have."""
    assert row.progress is not None
    return row.tokens + row.progress.sampling.max_tokens - 1


class Decoding:
    """`rows` and their `pieces` stand in the same order, which is no particular one."""

    def __init__(self, page_tokens: int) -> None:
        self.rows: list[Row] = []
        self.pieces: list[Piece] = []
        self.context = 0  # of all rows, with the tokens that the next step adds
        self._page_tokens = page_tokens
        self._steps = 0
        self._members: dict[Row, _Member] = {}
        self._places: dict[Row, int] = {}
        self._due: dict[int, dict[Row, None]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, row: Row) -> bool:
        return row in self._places

    def place(self, row: Row) -> int:
        return self._places[row]

    @property
    def newest(self) -> Row:
        return next(reversed(self._members))

    def planned(self, row: Row) -> int:
        """The positions of a row whose keys and values are on the device, or under way."""
        return self._members[row].planned + self._steps

    def is_done(self, row: Row) -> bool:
        """Whether all its tokens are under way."""
        return self._members[row].last <= self._steps

    def join(self, row: Row) -> None:
        """Have a row decode from the next step on."""
        progress = row.progress
        assert progress is not None
        self._places[row] = len(self.rows)
        self.rows.append(row)
        self.pieces.append(Piece(row, progress.slot, AT_ITS_END, 1, (), False, True))
        self.context += progress.planned + 1
        self._expect(row, progress.planned)

    def due(self) -> list[Row]:
        """Those that the next step cannot just go on with: each has all its tokens, or no room for
        the next. The caller has it leave, or finds it a page and says that it `grew`."""
        members, steps = self._members, self._steps
        due = self._due.pop(steps, None)
        if due is None:
            return []
        return [row for row in due if row in members and members[row].due == steps]

    def grew(self, row: Row) -> int:
        """A row that is due got a page; what is planned of it."""
        planned = self._members[row].planned + self._steps
        self._expect(row, planned)
        return planned

    def leave(self, row: Row) -> None:
        """Take a row out; its `planned` is then up to date."""
        assert row.progress is not None
        planned = row.progress.planned = self.planned(row)
        del self._members[row]
        place = self._places.pop(row)
        last, piece = self.rows.pop(), self.pieces.pop()
        if last is not row:
            self.rows[place], self.pieces[place] = last, piece
            self._places[last] = place
        self.context -= planned + 1

    def advance(self) -> None:
        """All rows take part in a step."""
        self._steps += 1
        self.context += len(self.rows)

    def _expect(self, row: Row, planned: int) -> None:
        progress, steps = row.progress, self._steps
        assert progress is not None
        last = steps + row.tokens + progress.sampling.max_tokens - 1 - planned
        due = steps + len(progress.pages) * self._page_tokens - planned
        due = min(due, last)
        self._members[row] = _Member(planned - steps, due, last)
        self._due.setdefault(due, {})[row] = None
