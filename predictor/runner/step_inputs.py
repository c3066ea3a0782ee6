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
    """The row in a slot. `ids`: its prompt, and what it had generated when it began again."""

    row: Row
    ids: NDArray[np.int64]
    prompt: int
    pages: int = 0
    failure: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Several tokens of one row. `place`: in the pieces that were given."""

    slot: int
    start: int
    ids: NDArray[np.int64]
    place: int
    samples: bool

    @property
    def end(self) -> int:
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Of each row that gives a token: which token of the step is its last, its slot, its place in
    the pieces, and the position of the token that it is given."""

    tokens: Sequence[int]
    slots: Sequence[int]
    places: Sequence[int]
    positions: Sequence[int]

    def of(self, lines: Sequence[int]) -> "Samples":
        """Some of them."""
        parts = (self.tokens, self.slots, self.places, self.positions)
        return Samples(*([part[line] for line in lines] for part in parts))


@dataclass(slots=True, eq=False)
class StepInputs:
    """Pieces that run. Those of one token come first: `slots` and `positions` of them, and which
    id is `known` by index, where it is not FROM_SLOT. Then come `chunks`."""

    slots: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the single ones, as of a chunk
    known: dict[int, int] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)  # single ones, by index, that give no token
    positions: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    chunks: list[Chunk] = field(default_factory=list)
    begun: list[tuple[int, Row, NDArray[np.int64], list[int]]] = field(default_factory=list)
    added: list[tuple[int, int, int]] = field(default_factory=list)  # slot, place in table, page
    fresh_pages: list[int] = field(default_factory=list)  # to be cleared before they are used
    failures: dict[int, Exception] = field(default_factory=dict)  # by place

    @property
    def count(self) -> int:
        return len(self.slots) + len(self.chunks)

    @property
    def tokens(self) -> int:
        return len(self.slots) + sum([len(chunk.ids) for chunk in self.chunks])

    def rows(self) -> list[StepRow]:
        rows = [
            StepRow(slot, index, start, 1)
            for index, (slot, start) in enumerate(
                zip(self.slots, self.positions.tolist(), strict=True)
            )
        ]
        first = len(rows)
        for chunk in self.chunks:
            rows.append(StepRow(chunk.slot, first, chunk.start, len(chunk.ids)))
            first += len(chunk.ids)
        return rows

    def samples(self) -> "Samples":
        """The rows that give a token."""
        indices = list(range(len(self.slots)))
        if self.silent:
            indices = [index for index in indices if index not in self.silent]
        chunks = [chunk for chunk in self.chunks if chunk.samples]
        ends_in_step = np.cumsum([len(self.slots), *(len(chunk.ids) for chunk in self.chunks)])[1:]
        lasts = [
            int(end) - 1
            for end, chunk in zip(ends_in_step, self.chunks, strict=True)
            if chunk.samples
        ]
        return Samples(
            [*indices, *lasts],
            [*(self.slots[index] for index in indices), *(chunk.slot for chunk in chunks)],
            [*(self.places[index] for index in indices), *(chunk.place for chunk in chunks)],
            [*(self.positions[indices] + 1).tolist(), *(chunk.end for chunk in chunks)],
        )

    def spans(self) -> dict[int, slice]:
        """Of each piece that runs, by place, its tokens in the step."""
        spans = {place: slice(index, index + 1) for index, place in enumerate(self.places)}
        at = len(self.slots)
        for chunk in self.chunks:
            spans[chunk.place] = slice(at, at + len(chunk.ids))
            at += len(chunk.ids)
        return spans

    def stage(self, room: NDArray[np.int32], nobody: int = 0) -> None:
        """Write of each token its row's slot, its id or FROM_SLOT, and its position into `room`
        [3, T]. Tokens that there is more room for are those of slot `nobody`."""
        slots, ids, positions = room
        at = len(self.slots)
        slots[:at] = self.slots
        ids[:at] = FROM_SLOT
        for index, id_ in self.known.items():
            ids[index] = id_
        positions[:at] = self.positions
        for chunk in self.chunks:
            end = at + len(chunk.ids)
            slots[at:end] = chunk.slot
            ids[at:end] = chunk.ids
            positions[at:end] = np.arange(chunk.start, chunk.end)
            at = end
        slots[at:] = nobody
        room[1:, at:] = 0

    def blocks(self, positions: int) -> int:
        """How many blocks of up to so many positions the chunks come to."""
        return sum([-(-len(chunk.ids) // positions) for chunk in self.chunks])

    def stage_blocks(self, room: NDArray[np.int32], positions: int) -> None:
        """Write of each of them its slot, its first token in the step, the position of that, and
        how many tokens it has into `room` [n, 4]."""
        at, first = 0, len(self.slots)
        for chunk in self.chunks:
            tokens = len(chunk.ids)
            offsets = np.arange(0, tokens, positions)
            lines = room[at : at + len(offsets)]
            lines[:, 0] = chunk.slot
            lines[:, 1] = first + offsets
            lines[:, 2] = chunk.start + offsets
            lines[:, 3] = np.minimum(tokens - offsets, positions)
            at += len(offsets)
            first += tokens


class Occupants:
    """Who is in which slot."""

    def __init__(self, *, slots: int, pages: int, max_tokens: int, vocabulary: int) -> None:
        self._slots: list[_Occupant | None] = [None] * slots
        self._pages = pages
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        # By slot: positions whose keys and values are there, once what was laid out has run, and
        # how many there can be.
        self._ends = np.zeros(slots, np.int32)
        self._limits = np.zeros(slots, np.int32)
        # By slot, a piece that adds a token at its row's end and has been looked at before: in the
        # next step it comes again as it is.
        self._steady: list[Piece | None] = [None] * slots
        self._earlier: list[tuple[int, _Occupant | None, int]] = []
        self._earlier_ends = self._ends
        self._earlier_limits = self._limits

    def lay_out(self, pieces: Sequence[Piece]) -> StepInputs:
        """The step of `pieces`. `roll_back` makes it not have been, until the next one."""
        self._earlier = []
        self._earlier_ends, self._earlier_limits = self._ends.copy(), self._limits.copy()
        step = StepInputs()
        steady, slots, places = self._steady, step.slots, step.places
        for place, piece in enumerate(pieces):
            slot = piece.slot
            if 0 <= slot < len(steady) and steady[slot] is piece:
                slots.append(slot)
                places.append(place)
                continue
            try:
                self._add(step, piece, place)
            except Exception as error:  # whatever is wrong with it, it is this piece's alone
                step.failures[place] = error
        self._advance(step)
        return step

    def _advance(self, step: StepInputs) -> None:
        slots = np.array(step.slots, dtype=np.intp)
        step.positions = self._ends[slots]
        full = step.positions >= self._limits[slots]
        if full.any():
            self._fail_full(step, np.flatnonzero(full).tolist())
            slots = np.array(step.slots, dtype=np.intp)
            step.positions = self._ends[slots]
        self._ends[slots] = step.positions + 1

    def _fail_full(self, step: StepInputs, full: Sequence[int]) -> None:
        """These single pieces have no page for their token. None of them brought something new."""
        for index in full:
            slot = step.slots[index]
            error = ValueError(f"position {self._ends[slot]} of a row has no page, or no room")
            step.failures[step.places[index]] = error
            occupant = self._slots[slot]
            assert occupant is not None
            occupant.failure = error
            self._steady[slot] = None
        left = [index for index in range(len(step.slots)) if index not in set(full)]
        renamed = {index: new for new, index in enumerate(left)}
        step.slots = [step.slots[index] for index in left]
        step.places = [step.places[index] for index in left]
        step.known = {renamed[index]: id_ for index, id_ in step.known.items()}
        step.silent = {renamed[index] for index in step.silent}

    def draws(self, samples: Samples) -> list[Draw]:
        """What there is to choose, for those that sampling.py chooses for."""
        draws = []
        for slot, position in zip(samples.slots, samples.positions, strict=True):
            occupant = self._slots[slot]
            assert occupant is not None
            draws.append(Draw(slot, position, position - occupant.prompt))
        return draws

    def fail(self, slot: int, row: Row, failure: Exception) -> None:
        """This row cannot go on; nothing is done where another has its slot by now."""
        occupant = self._slots[slot]
        if occupant is not None and occupant.row is row:
            occupant.failure = failure
            self._steady[slot] = None

    def roll_back(self) -> None:
        """The step that was laid out last did not run: nobody has advanced."""
        for slot, occupant, pages in reversed(self._earlier):
            self._slots[slot] = occupant
            self._steady[slot] = None
            if occupant is not None:
                occupant.pages = pages
        self._earlier = []
        self._ends, self._limits = self._earlier_ends, self._earlier_limits

    def _add(self, step: StepInputs, piece: Piece, place: int) -> None:
        slot = piece.slot
        if not 0 <= slot < len(self._slots):
            raise ValueError(f"slot {slot} is not in 0 to {len(self._slots) - 1}")
        occupant = self._slots[slot]
        if not piece.fresh:
            if occupant is None or occupant.row is not piece.row:
                raise ValueError(f"slot {slot} does not hold the row of this piece")
            if occupant.failure is not None:
                raise occupant.failure
        self._earlier.append((slot, occupant, occupant.pages if occupant else 0))
        self._steady[slot] = None
        if piece.fresh:
            occupant = self._slots[slot] = _occupant_of(piece.row)
            self._ends[slot] = 0
        assert occupant is not None
        start = int(self._ends[slot]) if piece.start == AT_ITS_END else piece.start
        try:
            self._check(piece, start, occupant)
        except ValueError as error:
            occupant.failure = error
            raise
        self._append(step, piece, start, occupant, place)

    def _append(
        self, step: StepInputs, piece: Piece, start: int, occupant: _Occupant, place: int
    ) -> None:
        slot, end = piece.slot, start + piece.tokens
        if piece.fresh:
            prompt, output = np.split(occupant.ids, [occupant.prompt])
            step.begun.append((slot, piece.row, prompt, output.tolist()))
        cached = -(-start // PAGE_TOKENS) if piece.fresh else 0
        step.added += [
            (slot, occupant.pages + index, page) for index, page in enumerate(piece.pages)
        ]
        step.fresh_pages += piece.pages[cached:]
        occupant.pages += len(piece.pages)
        self._limits[slot] = min(occupant.pages * PAGE_TOKENS, self._max_tokens)
        known = occupant.ids[start:end]
        if piece.tokens > 1:
            self._ends[slot] = end
            step.chunks.append(Chunk(slot, start, known, place, piece.samples))
            return
        self._ends[slot] = start
        index = len(step.slots)
        if len(known):
            step.known[index] = int(known[0])
        elif piece.start == AT_ITS_END and piece.samples and not piece.pages:
            self._steady[slot] = piece
        if not piece.samples:
            step.silent.add(index)
        step.slots.append(slot)
        step.places.append(place)

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
