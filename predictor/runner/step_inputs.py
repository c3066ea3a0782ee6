"""What a step brings to the device, from its pieces: checked, laid out, staged.

The host keeps of each slot whose row is in it, that row's ids and how many pages its table has.
A piece that cannot be right (an id out of range, a page that is not there) fails alone: nothing
of it reaches the device, where it could end the process. So do the later pieces of its row, until
the slot is begun afresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from predictor.core.rows import AT_ITS_END, Piece, Row
from predictor.runner.ids import decode_rows
from predictor.runner.paged_attention import StepRow
from predictor.runner.paged_memory import PAGE_TOKENS
from predictor.runner.sampling import Draw

FROM_SLOT = -1  # instead of an id: the token that the slot's row was given last


@dataclass(slots=True, eq=False)
class _Occupant:
    """The row in a slot. `ids`: its prompt, and what it had generated when it began again.

    `end`: positions whose keys and values are there, once what was laid out has run.
    """

    row: Row
    ids: NDArray[np.int64]
    prompt: int
    pages: int = 0
    end: int = 0
    failure: Exception | None = None


@dataclass(slots=True, eq=False)
class StepInputs:
    """Pieces that run. `samples`: indices in `rows` of those that give a token, as `draws`."""

    rows: list[StepRow] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each row in the pieces that were given
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    begun: list[tuple[int, Row, NDArray[np.int64], list[int]]] = field(default_factory=list)
    added: list[tuple[int, int, int]] = field(default_factory=list)  # slot, place in table, page
    fresh_pages: list[int] = field(default_factory=list)  # to be cleared before they are used
    failures: dict[int, Exception] = field(default_factory=dict)  # by place

    def staged(self) -> NDArray[np.int64]:
        """[3, T]: of each token its id or FROM_SLOT, its position, its row's slot."""
        tokens = [row.tokens for row in self.rows]
        starts = np.repeat([row.start - row.first for row in self.rows], tokens)
        positions = starts + np.arange(sum(tokens))
        slots = np.repeat([row.slot for row in self.rows], tokens)
        return np.stack((np.concatenate(self.ids), positions, slots))


class Occupants:
    """Who is in which slot."""

    def __init__(self, *, slots: int, pages: int, max_tokens: int, vocabulary: int) -> None:
        self._slots: list[_Occupant | None] = [None] * slots
        self._pages = pages
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._earlier: list[tuple[int, _Occupant | None, int, int]] = []

    def lay_out(self, pieces: Sequence[Piece]) -> StepInputs:
        """The step of `pieces`. Ends with `commit`, or with `roll_back` if the step fails."""
        self._earlier = []
        step = StepInputs()
        first = 0
        for place, piece in enumerate(pieces):
            try:
                self._add(step, piece, first)
            except Exception as error:  # whatever is wrong with it, it is this piece's alone
                step.failures[place] = error
            else:
                step.places.append(place)
                first += piece.tokens
        return step

    def fail(self, slot: int, failure: Exception) -> None:
        """The row in `slot` cannot go on."""
        occupant = self._slots[slot]
        if occupant is not None:
            occupant.failure = failure

    def roll_back(self) -> None:
        """The step that was laid out last did not run: nobody has advanced."""
        for slot, occupant, pages, end in reversed(self._earlier):
            self._slots[slot] = occupant
            if occupant is not None:
                occupant.pages, occupant.end = pages, end
        self._earlier = []

    def _add(self, step: StepInputs, piece: Piece, first: int) -> None:
        slot = piece.slot
        if not 0 <= slot < len(self._slots):
            raise ValueError(f"slot {slot} is not in 0 to {len(self._slots) - 1}")
        occupant = self._slots[slot]
        if not piece.fresh:
            if occupant is None or occupant.row is not piece.row:
                raise ValueError(f"slot {slot} does not hold the row of this piece")
            if occupant.failure is not None:
                raise occupant.failure
        pages, end = (occupant.pages, occupant.end) if occupant else (0, 0)
        self._earlier.append((slot, occupant, pages, end))
        if piece.fresh:
            occupant = self._slots[slot] = _occupant_of(piece.row)
        assert occupant is not None
        start = occupant.end if piece.start == AT_ITS_END else piece.start
        try:
            self._check(piece, start, occupant)
        except ValueError as error:
            occupant.failure = error
            raise
        self._append(step, piece, start, occupant, first)

    def _append(
        self, step: StepInputs, piece: Piece, start: int, occupant: _Occupant, first: int
    ) -> None:
        slot, end = piece.slot, start + piece.tokens
        occupant.end = end
        if piece.fresh:
            prompt, output = np.split(occupant.ids, [occupant.prompt])
            step.begun.append((slot, piece.row, prompt, output.tolist()))
        cached = -(-start // PAGE_TOKENS) if piece.fresh else 0
        step.added += [
            (slot, occupant.pages + index, page) for index, page in enumerate(piece.pages)
        ]
        step.fresh_pages += piece.pages[cached:]
        occupant.pages += len(piece.pages)
        known = occupant.ids[start:end]
        step.ids.append(known if len(known) else np.full(1, FROM_SLOT))
        if piece.samples:
            step.samples.append(len(step.rows))
            step.draws.append(Draw(slot, end, end - occupant.prompt))
        step.rows.append(StepRow(slot, first, start, piece.tokens))

    def _check(self, piece: Piece, start: int, occupant: _Occupant) -> None:
        end, known = start + piece.tokens, len(occupant.ids)
        if piece.fresh:
            self._check_ids(piece.row, occupant.ids)
        # Below `known` are ids of the host, beyond it the one token that the slot holds.
        if piece.tokens < 1 or start < 0 or (end > known and (start < known or end > start + 1)):
            raise ValueError(f"positions {start} to {end - 1} of a row with {known} known ids")
        if end > self._max_tokens:
            raise ValueError(f"a row has {end} tokens; the most is {self._max_tokens}")
        pages = occupant.pages + len(piece.pages)
        if not end <= pages * PAGE_TOKENS < self._max_tokens + PAGE_TOKENS:
            raise ValueError(f"{pages} pages are not what {end} positions need")
        if piece.pages and not 0 <= min(piece.pages) <= max(piece.pages) < self._pages:
            raise ValueError(f"a page is not in 0 to {self._pages - 1}")

    def _check_ids(self, row: Row, ids: NDArray[np.int64]) -> None:
        assert row.progress is not None
        sampling = row.progress.sampling
        named = [*sampling.stop_ids, *(id_ for id_, _ in sampling.logit_bias)]
        for each in (ids, np.array(named, dtype=np.int64)):
            # Without a sign, what is negative is larger than any.
            if len(each) and int(np.maximum.reduce(each.view(np.uint64))) >= self._vocabulary:
                raise ValueError(f"an id is not in 0 to {self._vocabulary - 1}")


def _occupant_of(row: Row) -> _Occupant:
    progress = row.progress
    assert progress is not None
    prompt = decode_rows([row.payload]).ids
    earlier = progress.output[: progress.prefill - len(prompt)]
    ids = np.concatenate((prompt, np.array(earlier, dtype=np.int64))) if earlier else prompt
    return _Occupant(row, ids, len(prompt))
