"""Large bodies mean what small ones mean, and are refused before they cost anything."""

import json
import threading
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.errors import InvalidRequest
from predictor.edge import http_codec, json_text, large_bodies
from predictor.edge.http import EdgeApp
from predictor.edge.service import InferService
from tests.edge.asgi import answered, ids_input, nothing_here
from tests.edge.conftest import MAX_ROWS
from tests.edge.fake_engine import FakeEngine

MIB = 1 << 20
DECODERS = {
    code: (http_codec._FLAT[datatype], http_codec._NESTED[datatype])
    for datatype, code in http_codec._TYPE_CODES.items()
}


def body(data: bytes, datatype: str = "INT64", shape: str = "[1,2]", name: str = "x") -> bytes:
    return b'{"inputs":[{"name":"%b","datatype":"%b","shape":%b,"data":%b}]}' % (
        name.encode(),
        datatype.encode(),
        shape.encode(),
        data,
    )


@given(
    rows=st.lists(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1), min_size=1),
    piece=st.integers(1, 40),
    spaced=st.booleans(),
    code=st.sampled_from("qif"),
    by_rows=st.booleans(),
)
def test_pieces_are_the_whole(
    rows: list[list[int]], piece: int, spaced: bool, code: str, by_rows: bool
) -> None:
    plain: Any = rows if by_rows else [value for row in rows for value in row]
    text = json.dumps(plain, separators=(" , ", ":") if spaced else (",", ":")).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_bodies, "_PIECE_BYTES", piece)
        found = large_bodies.numbers(text, code, *DECODERS[code])
    assert found == array(code, [value for row in rows for value in row])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"[1,2,3,4,5,6,true]", "inputs[0].data[6]: Expected `int`, got `bool`"),
        (b"[1,2,3,4.5,5,6]", "inputs[0].data[3]: Expected `int`, got `float`"),
        (b"[[1,2],[3,4],[5,null]]", "inputs[0].data[2][1]: Expected `int`, got `null`"),
        (b'[1,2,"a,b"]', "inputs[0].data[2]: Expected `int`, got `str`"),
    ],
)
def test_errors_in_pieces_name_the_element(
    data: bytes, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_codec, "LARGE_BYTES", 1)
    for piece in range(1, 12):
        monkeypatch.setattr(large_bodies, "_PIECE_BYTES", piece)
        with pytest.raises(InvalidRequest) as raised:
            http_codec.decode_request(body(data))
        assert raised.value.message == error
        with pytest.raises(InvalidRequest, match="a value does not fit INT64"):
            http_codec.decode_request(body(b"[1,99999999999999999999]"))


@pytest.mark.parametrize("data", [b"[1,,2]", b"[1,2,]", b"[,1]", b"[1 2]", b"[[1],2]", b"[1,[2]]"])
def test_no_piece_hides_what_is_no_array_of_numbers(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_codec, "LARGE_BYTES", 1)
    for piece in range(1, 8):
        monkeypatch.setattr(large_bodies, "_PIECE_BYTES", piece)
        with pytest.raises(InvalidRequest):
            http_codec.decode_request(body(data))


@pytest.mark.parametrize(
    "text",
    [
        body(b"[" + b"[]," * (5 * MIB) + b"[]]"),
        body(b"[" + b"[1]," * (4 * MIB) + b"[1]]"),
        body(b"[" + b"{}," * (5 * MIB) + b"{}]"),
        body(b"[" * (16 * MIB)),
        b'{"inputs":[' + b'{"name":"","datatype":"","shape":[]},' * (16 * MIB // 37) + b"{}]}",
        b'{"inputs":' + b"[" * MIB,
        b'{"id":"a","unknown":[' + b"[]," * MIB + b"[]]}",
    ],
    ids=["empty rows", "rows of one", "objects", "deep", "inputs", "deep inputs", "unknown"],
)
def test_brackets_are_counted_before_they_are_decoded(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never:
        def decode(self, _text: bytes) -> None:
            raise AssertionError("this was refused before")

    monkeypatch.setattr(http_codec, "_REQUEST", Never())
    monkeypatch.setattr(large_bodies, "_OUTLINE", Never())
    with pytest.raises(InvalidRequest, match="lists and objects"):
        http_codec.decode_request(text)


def test_brackets_in_texts_are_text() -> None:
    texts = ['[{"[' * 120_000, "\\" * 99_999 + '"[' * 50_000, "{\\"]
    text = json.dumps({"inputs": [{"name": "t", "datatype": "BYTES", "shape": [3], "data": texts}]})
    assert text.count("[") > json_text._MAX_BRACKETS
    assert http_codec.decode_request(text.encode()).inputs["t"].data == texts


@given(
    st.recursive(
        st.text('[]{}"\\a,:', max_size=6) | st.integers(0, 9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('["\\', max_size=3), inner),
    ),
    st.integers(1, 9),
)
def test_containers_are_counted_in_any_pieces(plain: Any, piece: int) -> None:
    def containers(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + sum(map(containers, value.values()))
        return 1 + sum(map(containers, value)) if isinstance(value, list) else 0

    text = json.dumps(plain).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "LARGE_BYTES", 0)
        patch.setattr(json_text, "_COUNTED_AT_ONCE", piece)
        patch.setattr(json_text, "_MAX_BRACKETS", containers(plain))
        json_text.check_brackets(text)
        patch.setattr(json_text, "_MAX_BRACKETS", containers(plain) - 1)
        if containers(plain):
            with pytest.raises(InvalidRequest):
                json_text.check_brackets(text)


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * MIB + b"[" * MIB,  # a string without an end
        b'"' + b"\\" * (4 * MIB) + b"[" * MIB,
        b'"' * MIB + b"[" * MIB,
        b"\\" * MIB + b'"[' * MIB,
    ],
)
def test_no_body_takes_long_to_count(text: bytes) -> None:
    """A pattern that goes back would take hours for these, and run into the time limit of tests."""
    with pytest.raises(InvalidRequest):
        http_codec.decode_request(text)


def test_inputs_and_dimensions_are_counted_first() -> None:
    dimensions = "[" + "1," * MIB + "1]"
    with pytest.raises(InvalidRequest, match=r"inputs\[0\].shape: send at most 8"):
        http_codec.decode_request(body(b"[1]", shape=dimensions))
    many = b",".join([b'{"name":"a","datatype":"INT64","shape":[1],"data":[1]}'] * 60_000)
    with pytest.raises(InvalidRequest, match="inputs: there are 60000"):
        http_codec.decode_request(b'{"inputs":[%b]}' % many)


async def test_large_bodies_are_decoded_beside_the_loop(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    decode = http_codec.decode_request

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*args, **kwargs)

    monkeypatch.setattr(http_codec, "decode_request", watched)
    app = EdgeApp(InferService(engine, ("sim",), MAX_ROWS), nothing_here, MIB)
    small = json.dumps({"inputs": [ids_input(1, 2)]}).encode()
    for text in (small, b" " * json_text.LARGE_BYTES + small):
        answer = await answered(app, "/v2/models/sim/infer", text)
        assert answer.json["outputs"][0]["data"] == [3]
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
