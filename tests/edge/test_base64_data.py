"""Base64 as common writers produce it is read; anything else is refused by name."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.errors import InvalidRequest
from predictor.edge.base64_data import decode_base64

BYTES = st.binary(max_size=400)


@given(data=BYTES, padded=st.booleans(), ends=st.sampled_from(["\n", "\r\n", ""]))
def test_what_writers_write_is_read(data: bytes, padded: bool, ends: str) -> None:
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        text = encode(data).decode()
        text = text if padded else text.rstrip("=")
        in_lines = ends.join(textwrap.wrap(text, 76)) + ends if ends else text
        assert decode_base64(in_lines, "x") == data
        assert decode_base64(f"  {in_lines}\t\n", "x") == data
        assert decode_base64(f"data:audio/wav;base64,{in_lines}", "x") == data
        assert decode_base64(f"DATA:;charset=utf-8;BASE64,{text}", "x") == data


def test_python_mime_writes_lines() -> None:
    data = bytes(range(256)) * 3
    assert decode_base64(base64.encodebytes(data).decode(), "x") == data


BAD = [
    ("hello, world", "is not base64"),
    ("aGVs bG8=", "is not base64"),  # a plus that a form took for a space
    ("aGVsb", "cut off"),
    ("aGVsbG9", "cut off"),  # of aGVsbG93: its last bits belong to another byte
    ("aGVsbG8==", "padded wrongly"),
    ("aGVs====", "padded wrongly"),
    ("aGVs=", "padded wrongly"),
    ("aGVsbG8=aGVsbG8=", "is not base64"),
    ("a-b/", "mixes"),
    ("data:audio/wav,aGVs", "without ;base64"),
    ("data:audio/wav;base64", "is not base64"),
    ("data:audio/wav;base64,%2B%2B", "is not base64"),
    ("äöüß", "is not base64"),
    ("\u0661\u0662\u0663\u0664", "is not base64"),
    ("aGVs\0bG8=", "is not base64"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_anything_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^audio\[3\]: .*{problem}"):
        decode_base64(text, "audio[3]")


@given(data=st.binary(min_size=1, max_size=60), at=st.integers(0, 80))
def test_no_cut_of_a_text_is_taken_for_another(data: bytes, at: int) -> None:
    """A text that was cut off is refused, but where the cut leaves whole bytes and no trace."""
    text = base64.b64encode(data).decode()
    part = text[:at]
    try:
        found = decode_base64(part, "x")
    except InvalidRequest:
        return
    assert data.startswith(found)
