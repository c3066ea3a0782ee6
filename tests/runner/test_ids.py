import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.runner.ids import decode_rows, encode_results, pack_rows, pad_rows

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.lists(INT64, min_size=1, max_size=20), min_size=1, max_size=12)


def as_bytes(rows: list[list[int]]) -> list[bytes]:
    return [np.array(row, dtype=np.int64).tobytes() for row in rows]


@given(ROWS, INT64)
def test_padding_keeps_every_row_and_marks_what_is_real(rows: list[list[int]], pad: int) -> None:
    padded = pad_rows(decode_rows(as_bytes(rows)), pad)
    longest = max(map(len, rows))
    assert padded.ids.tolist() == [row + [pad] * (longest - len(row)) for row in rows]
    assert padded.mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]


IDS = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=6)


@given(IDS, st.integers(0, 5), st.integers(0, 3))
def test_packing_tells_where_every_row_starts(rows: list[list[int]], spare: int, more: int) -> None:
    tokens = sum(map(len, rows))
    room = tokens + spare
    out = np.full(room + len(rows) + more + 1, -1, np.int32)
    pack_rows(decode_rows(as_bytes(rows)), room, out)
    assert out[:tokens].tolist() == [each for row in rows for each in row]
    assert out[tokens:room].tolist() == [0] * spare
    starts = out[room:].tolist()
    assert np.diff(starts).tolist() == [len(row) for row in rows] + [0] * more
    assert (starts[0], starts[-1]) == (0, tokens)


@pytest.mark.parametrize("rows", [[b""], [b"12345678", b""], [b"1234567"]])
def test_an_empty_or_cut_row_is_refused(rows: list[bytes]) -> None:
    with pytest.raises(ValueError, match="a row is"):
        decode_rows(rows)


def test_results_are_cut_by_row() -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    results = encode_results(values)
    assert [np.frombuffer(result, np.float32).tolist() for result in results] == values.tolist()
