"""Pieces become a step: checked, laid out, and as if they had not been where it did not run."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from predictor.core.generation import Sampling
from predictor.core.rows import AT_ITS_END, Piece, Progress, Row
from predictor.runner.paged_memory import PAGE_TOKENS
from predictor.runner.step_inputs import FROM_SLOT, Occupants, StepInputs

SLOTS, PAGES, MOST_TOKENS, VOCABULARY = 4, 20, 40, 50
NOBODY = SLOTS


def a_row(*prompt: int, output: Sequence[int] = ()) -> Row:
    """`output`: what it had generated when it began again."""
    progress = Progress(Sampling(max_tokens=9), len(prompt) + len(output), output=list(output))
    payload = np.array(prompt, dtype=np.int64).tobytes()
    return Row("m", "", len(prompt), 0.0, payload=payload, progress=progress)


def begin(row: Row, slot: int, pages: Sequence[int] = (1,), tokens: int = 0) -> Piece:
    return Piece(row, slot, 0, tokens or row.tokens, pages, fresh=True, samples=True)


def decode(row: Row, slot: int, pages: Sequence[int] = ()) -> Piece:
    return Piece(row, slot, AT_ITS_END, 1, pages, fresh=False, samples=True)


@pytest.fixture
def occupants() -> Occupants:
    return made()


def made() -> Occupants:
    return Occupants(slots=SLOTS, pages=PAGES, max_tokens=MOST_TOKENS, vocabulary=VOCABULARY)


def staged(step: StepInputs, room: int | None = None) -> list[list[int]]:
    """Slots, ids and positions."""
    tokens = np.full((3, step.tokens if room is None else room), -99, np.int32)
    step.stage(tokens, NOBODY)
    listed: list[list[int]] = tokens.tolist()
    return listed


def everything(step: StepInputs) -> list[object]:
    samples = step.samples()
    return [
        staged(step),
        [(slot, row.payload, prompt.tolist(), output) for slot, row, prompt, output in step.begun],
        (step.added, step.fresh_pages, step.spans(), step.rows()),
        (samples.tokens, samples.slots, samples.places, samples.positions),
        {place: str(failure) for place, failure in step.failures.items()},
    ]


def test_single_tokens_come_before_chunks(occupants: Occupants) -> None:
    chunk, single = a_row(5, 6, 7), a_row(8)
    step = occupants.lay_out([begin(chunk, 2, (3,)), begin(single, 0, (4,))])
    assert not step.failures
    assert staged(step, room=6) == [
        [0, 2, 2, 2, NOBODY, NOBODY],
        [8, 5, 6, 7, 0, 0],
        [0, 0, 1, 2, 0, 0],
    ]
    samples = step.samples()
    assert samples.tokens == [0, 3]
    assert samples.slots == [0, 2]
    assert samples.places == [1, 0]
    assert samples.positions == [1, 3]
    assert step.spans() == {1: slice(0, 1), 0: slice(1, 4)}
    assert step.added == [(2, 0, 3), (0, 0, 4)]


def test_a_piece_that_comes_again_goes_on(occupants: Occupants) -> None:
    rows = a_row(5, 6, 7), a_row(8)
    occupants.lay_out([begin(rows[0], 0), begin(rows[1], 1, (2,))])
    pieces = [decode(rows[0], 0), decode(rows[1], 1)]
    for step_number in range(5):
        order = pieces if step_number % 2 else pieces[::-1]
        step = occupants.lay_out(order)
        slots, ids, positions = staged(step)
        assert slots == [piece.slot for piece in order]
        assert ids == [FROM_SLOT] * 2
        assert dict(zip(slots, positions, strict=True)) == {0: 3 + step_number, 1: 1 + step_number}
        assert step.samples().positions == [position + 1 for position in positions]
    # So does another that says the same, or says where.
    other = [decode(rows[0], 0), Piece(rows[1], 1, 6, 1, (), fresh=False, samples=True)]
    assert staged(occupants.lay_out(other))[2] == [8, 6]


def test_a_row_begins_again_with_what_it_had_generated(occupants: Occupants) -> None:
    row = a_row(5, 6, output=[9, 8])
    step = occupants.lay_out([begin(row, 1, (7,), tokens=3)])
    (slot, begun, prompt, output) = step.begun[0]
    assert (slot, begun, prompt.tolist(), output) == (1, row, [5, 6], [9, 8])
    assert staged(step)[1] == [5, 6, 9]
    step = occupants.lay_out([decode(row, 1)])
    assert staged(step) == [[1], [8], [3]]
    draws = occupants.draws(step.samples())
    assert [(draw.slot, draw.position, draw.count) for draw in draws] == [(1, 4, 2)]


def test_a_chunk_that_samples_nothing_is_silent(occupants: Occupants) -> None:
    row, single = a_row(*range(1, 9)), a_row(3, 4)
    step = occupants.lay_out(
        [
            Piece(row, 0, 0, 5, (1,), fresh=True, samples=False),
            Piece(single, 1, 0, 1, (2,), fresh=True, samples=False),
        ]
    )
    assert step.samples().tokens == []
    step = occupants.lay_out(
        [
            Piece(row, 0, 5, 3, (), fresh=False, samples=True),
            Piece(single, 1, 1, 1, (), fresh=False, samples=True),
        ]
    )
    assert step.samples().places == [1, 0]
    assert staged(step)[1] == [4, 6, 7, 8]


def test_pages_of_a_prefix_hit_are_not_cleared(occupants: Occupants) -> None:
    row = a_row(*range(1, 40))
    hit = Piece(row, 0, 2 * PAGE_TOKENS, 7, (7, 5, 3), fresh=True, samples=True)
    step = occupants.lay_out([hit])
    assert step.added == [(0, 0, 7), (0, 1, 5), (0, 2, 3)]
    assert step.fresh_pages == [3]
    assert staged(step)[2] == list(range(32, 39))


def test_blocks_of_chunks(occupants: Occupants) -> None:
    rows = a_row(1), a_row(*range(1, 12)), a_row(4, 5)
    step = occupants.lay_out(
        [begin(row, slot, (slot,)) for row, slot in zip(rows, (1, 0, 2), strict=True)]
    )
    assert step.blocks(4) == 4
    room = np.zeros((5, 4), np.int32)
    step.stage_blocks(room, 4)
    assert room.tolist() == [
        [0, 1, 0, 4],
        [0, 5, 4, 4],
        [0, 9, 8, 3],
        [2, 12, 0, 2],
        [0, 0, 0, 0],
    ]


def test_a_row_whose_pages_are_full_fails_alone(occupants: Occupants) -> None:
    full, other, silent = a_row(*range(1, 16)), a_row(7), a_row(3, 4)
    occupants.lay_out([begin(full, 0), begin(other, 1, (2,))])
    pieces = [decode(full, 0), decode(other, 1)]
    assert not occupants.lay_out(pieces).failures  # position 15, the last of its page
    begins = Piece(silent, 2, 0, 1, (3,), fresh=True, samples=False)
    step = occupants.lay_out([*pieces, begins])
    assert list(step.failures) == [0]
    assert "has no page" in str(step.failures[0])
    assert staged(step) == [[1, 2], [FROM_SLOT, 3], [2, 0]]
    assert step.samples().places == [1]
    # It does not go on, not even with a page, until its slot is begun afresh.
    for late in (decode(full, 0, (4,)), pieces[0]):
        assert list(occupants.lay_out([late, pieces[1]]).failures) == [0]
    again = a_row(1, 2)
    step = occupants.lay_out([begin(again, 0, (4,)), pieces[1]])
    assert not step.failures
    assert staged(step)[2] == [5, 0, 1]


def test_a_page_comes_with_the_token_that_needs_it(occupants: Occupants) -> None:
    row = a_row(*range(1, 17))
    occupants.lay_out([begin(row, 0)])
    step = occupants.lay_out([decode(row, 0, (9,))])
    assert step.added == [(0, 1, 9)]
    assert staged(step)[2] == [16]
    assert staged(occupants.lay_out([decode(row, 0)]))[2] == [17]


def test_a_row_is_no_longer_than_the_most(occupants: Occupants) -> None:
    row = a_row(*range(1, MOST_TOKENS))
    occupants.lay_out([begin(row, 0, (1, 2, 3))])
    last = decode(row, 0)
    assert staged(occupants.lay_out([last]))[2] == [MOST_TOKENS - 1]
    step = occupants.lay_out([last])
    assert list(step.failures) == [0]
    assert step.count == 0


WRONG: dict[str, Callable[[Row, Row], Piece]] = {
    "another's row": lambda row, other: decode(other, 0),
    "a slot where nobody is": lambda row, other: decode(other, 3),
    "a slot that is not there": lambda row, other: begin(other, SLOTS),
    "a slot below 0": lambda row, other: decode(row, -1),
    "no token": lambda row, other: Piece(row, 0, 2, 0, (), fresh=False, samples=False),
    "two tokens of which one is known": lambda row, other: Piece(
        row, 0, 1, 2, (), fresh=False, samples=True
    ),
    "a start below 0": lambda row, other: Piece(row, 0, -5, 1, (), fresh=False, samples=True),
    "no page": lambda row, other: begin(other, 2, ()),
    "pages for more than a row may have": lambda row, other: begin(other, 2, range(4)),
    "a page that is not there": lambda row, other: begin(other, 2, (PAGES,)),
    "a page below 0": lambda row, other: begin(other, 2, (-1,)),
    "an id that is not there": lambda row, other: begin(a_row(3, VOCABULARY), 2, (5,)),
    "an id below 0": lambda row, other: begin(a_row(-1, 3), 2, (5,)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_piece_fails_alone(occupants: Occupants, wrong: str) -> None:
    row, other, good = a_row(5, 6), a_row(7, 8), a_row(9)
    occupants.lay_out([begin(row, 0), begin(good, 1, (2,))])
    step = occupants.lay_out([WRONG[wrong](row, other), decode(good, 1)])
    assert list(step.failures) == [0]
    assert isinstance(step.failures[0], ValueError)
    assert staged(step) == [[1], [FROM_SLOT], [1]]
    assert not step.added
    assert not step.begun
    assert not step.fresh_pages


def test_a_row_that_failed_fails_until_its_slot_is_begun_afresh(occupants: Occupants) -> None:
    row, other = a_row(5, 6), a_row(7)
    piece = decode(row, 0)
    occupants.lay_out([begin(row, 0)])
    occupants.lay_out([piece])
    failure = FloatingPointError("not finite")
    occupants.fail(0, row, failure)
    assert occupants.lay_out([piece]).failures == {0: failure}
    occupants.lay_out([begin(other, 0)])
    occupants.fail(0, row, failure)  # said late: another has the slot by now
    assert not occupants.lay_out([decode(other, 0)]).failures


def test_a_step_that_did_not_run_has_not_been() -> None:
    """Some of it begins rows, some goes on, some has a page, some fails."""
    steady, paged, chunked, evicted = (
        a_row(5, 6),
        a_row(*range(1, 17)),
        a_row(*range(1, 30)),
        a_row(8),
    )
    first = [
        begin(steady, 0, (1,)),
        begin(paged, 1, (2,)),
        Piece(chunked, 2, 0, 9, (3,), fresh=True, samples=False),
        begin(evicted, 3, (4,)),
    ]
    goes_on = decode(steady, 0)
    steps = [
        [goes_on, decode(paged, 1, (5,)), Piece(chunked, 2, 9, 20, (6,), False, samples=True)],
        [goes_on, decode(paged, 1), decode(chunked, 2), begin(a_row(9, 9), 3, (7,))],
        [goes_on, decode(evicted, 3), decode(chunked, 2)],
        [goes_on, begin(a_row(4), 2, (3,))],
    ]
    plain, rolled = made(), made()
    for occupants in (plain, rolled):
        occupants.lay_out(first)
    for pieces in steps:
        expected = everything(plain.lay_out(pieces))
        for _ in range(3):
            assert everything(rolled.lay_out(pieces)) == expected
            rolled.roll_back()
        # Run again with fewer pieces, it advances those alone.
        rolled.lay_out(pieces[:1])
        rolled.roll_back()
        assert everything(rolled.lay_out(pieces)) == expected
