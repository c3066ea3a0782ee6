"""Rows of each task: what the tokenizer makes of text, what masks leave of ids."""

from array import array
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.errors import InvalidRequest, StartupError
from predictor.edge.codecs import codec_for
from predictor.edge.tasks import TaskCodec, TaskRows
from predictor.edge.tensors import Tensor
from tests.edge.conftest import MAX_ROWS, WORDS
from tests.edge.fake_engine import SIMULATED, text_specs

CLS, SEP = 1, 2


@pytest.fixture(scope="module")
def topics(tokenizer_file: Path) -> TaskCodec:
    return codec_for(text_specs(tokenizer_file, len(WORDS))["topics"], MAX_ROWS)


def ids_of(taken: TaskRows) -> list[list[int]]:
    assert taken.counts is None
    for row in taken.rows:
        assert row.tokens * 8 == len(row.payload)
    return [array("q", row.payload).tolist() for row in taken.rows]


def texts(*values: str) -> dict[str, Tensor]:
    return {"text": Tensor("text", "BYTES", (len(values), 1), values)}


def test_text_is_cut_at_max_tokens_and_never_padded(topics: TaskCodec) -> None:
    words = "the bus is late again the bus is late"
    rows = ids_of(topics.rows(texts("the bus", "", words)))
    assert rows == [[CLS, 4, 5, SEP], [CLS, SEP], [CLS, 4, 5, 6, 7, 8, 4, SEP]]


def test_long_text_is_worth_a_thread(topics: TaskCodec) -> None:
    assert not topics.is_heavy(texts("the bus"))
    assert topics.is_heavy(texts("the bus " * 5000))
    assert not topics.is_heavy({"text": Tensor("text", "INT64", (1,), b"12345678")})


def test_a_tokenizer_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{")
    for path in (broken, tmp_path / "missing.json"):
        with pytest.raises(StartupError, match="cannot read tokenizer"):
            codec_for(text_specs(path, 9)["topics"], MAX_ROWS)


def test_a_text_without_tokens_is_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    plain = msgspec.json.decode(tokenizer_file.read_bytes())
    plain["post_processor"] = None
    bare = tmp_path / "tokenizer.json"
    bare.write_bytes(msgspec.json.encode(plain))
    codec = codec_for(text_specs(bare, 9)["topics"], MAX_ROWS)
    with pytest.raises(InvalidRequest, match=r"text\[1\] has no tokens"):
        codec.rows(texts("bus", ""))


def test_text_comes_as_strings_or_as_bytes_of_utf8(topics: TaskCodec) -> None:
    raw = Tensor("text", "BYTES", (2,), [b"the bus", b"late"])
    assert ids_of(topics.rows({"text": raw})) == [[CLS, 4, 5, SEP], [CLS, 7, SEP]]
    with pytest.raises(InvalidRequest, match="'text': element 1 is not UTF-8"):
        topics.rows({"text": Tensor("text", "BYTES", (2,), [b"late", b"\xff"])})


def test_floats_are_no_ids(topics: TaskCodec) -> None:
    floats = Tensor("input_ids", "FP32", (1, 2), bytes(8))
    with pytest.raises(InvalidRequest, match="must be INT64 or INT32, not FP32"):
        topics.rows({"input_ids": floats})


RAGGED = st.lists(
    st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=8), min_size=1, max_size=MAX_ROWS
)


@given(lists=RAGGED, kind=st.sampled_from(["INT32", "INT64"]))
def test_masked_positions_are_left_out(
    topics: TaskCodec, lists: list[list[int]], kind: str
) -> None:
    shape = (len(lists), max(map(len, lists)))
    numpy_kind = "<i4" if kind == "INT32" else "<i8"
    ids = np.full(shape, -100, numpy_kind)
    mask = np.zeros(shape, numpy_kind)
    for row, values in enumerate(lists):
        ids[row, : len(values)] = values
        mask[row, : len(values)] = 1
    rows = topics.rows(
        {
            "input_ids": Tensor("input_ids", kind, shape, ids.tobytes()),
            "attention_mask": Tensor("attention_mask", kind, shape, mask.tobytes()),
        }
    )
    assert ids_of(rows) == lists


@given(
    lists=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), min_size=1, max_size=8)
)
def test_simulated_takes_any_ids_of_v1(lists: list[list[int]]) -> None:
    codec = codec_for(SIMULATED, MAX_ROWS)
    assert ids_of(codec.rows(codec.instances(lists))) == lists


@pytest.mark.parametrize(
    "instances", [[], ["a"], [[1.5]], [[1 << 63]], [[]], [[True]], [[1]] * 9, [[1] * 4097], [{}]]
)
def test_bad_v1_instances_of_simulated(instances: list[object]) -> None:
    codec = codec_for(SIMULATED, MAX_ROWS)
    with pytest.raises(InvalidRequest):
        codec.rows(codec.instances(instances))


def test_v1_instances_of_text(topics: TaskCodec) -> None:
    rows = topics.rows(topics.instances(["bus", {"text": "late"}]))
    assert ids_of(rows) == [[CLS, 5, SEP], [CLS, 7, SEP]]
    for wrong in ([], [1], [{"words": "x"}], [{"text": 1}], [None]):
        with pytest.raises(InvalidRequest, match="instances"):
            topics.instances(wrong)


def test_metadata_names_what_is_taken_and_given(topics: TaskCodec) -> None:
    assert [spec.name for spec in topics.inputs] == ["text", "input_ids", "attention_mask"]
    assert [spec.name for spec in topics.outputs] == ["label", "score", "probabilities"]
    simulated = codec_for(SIMULATED, MAX_ROWS)
    assert simulated.inputs[0].name == "input_ids"
    assert [spec.name for spec in simulated.outputs] == ["checksum"]
