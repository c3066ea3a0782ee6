"""YAML from outside is parsed within bounds, whatever it is: refused, or plain values."""

import tracemalloc
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.errors import ParametersRefused
from predictor.core.parameters import MAX_DOCUMENT_BYTES, parse_document
from predictor.core.yaml_documents import YamlLimits, YamlRefusedError, load_all_yaml, load_yaml

MOST = MAX_DOCUMENT_BYTES


def levels(first: str, each: str) -> bytes:
    """Ten levels of anchors, each of six aliases of the one before: 60 million values."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, 11):
        aliases = ",".join([f"*a{level - 1}"] * 6)
        lines.append(f"a{level}: &a{level} {each % aliases}")
    return "\n".join(lines).encode()


PAIRS = b"{" + b",".join(b"k%d: 1" % key for key in range(5000)) + b"}"
DEEP = {
    "brackets": b"[" * 60_000,
    "brackets that close": b"[" * 60_000 + b"]" * 60_000,
    "braces": b"{" * MOST,
    "pairs in pairs": b"{a: " * (MOST // 4),
    "dashes": b"- " * (MOST // 2),
    "question marks": b"? " * (MOST // 2),
    "indents": b"\n".join(b" " * level + b"a:" for level in range(500)),
    "a chain of aliases": b"a0: &a0 []\n"
    + b"\n".join(b"a%d: &a%d [*a%d]" % (n, n, n - 1) for n in range(1, 3000)),
    "a chain of merges": b"a0: &a0 {x: 1}\n"
    + b"\n".join(
        b"a%d: &a%d {<<: *a%d, y: {z: *a%d}}" % (n, n, n - 1, n - 1) for n in range(1, 20)
    ),
}
LARGE = {
    "aliases of aliases": levels("[x, x, x, x, x, x]", "[%s]"),
    "merges of merges": levels("{x: 1, y: 2}", "{<<: [%s]}"),
    "a merge of many": b"a: &a " + PAIRS + b"\nb: {<<: [" + b",".join([b"*a"] * 60) + b"]}",
    "many merges": b"a: &a " + PAIRS + b"\nb:\n" + b"  <<: *a\n" * 60,
    "values": b"[" + b"1," * 60_000 + b"]",
}
LONG = {
    "digits": b"a: " + b"9" * 100_000,
    "a number to base 60": b"a: " + b":".join([b"1"] * 60_000),
    "hexadecimal digits": b"0x" + b"f" * 100_000 + b": a",
}


@pytest.mark.parametrize("document", DEEP.values(), ids=DEEP)
def test_depth_is_bounded_before_anything_is_built(document: bytes) -> None:
    """As brackets alone, these ended the process."""
    with pytest.raises(YamlRefusedError, match=r"nested over 32 levels|over 16384 values"):
        load_yaml(document[:MOST])


@pytest.mark.parametrize("document", LARGE.values(), ids=LARGE)
def test_what_aliases_stand_for_is_counted_before_it_is_built(document: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(YamlRefusedError, match=r"line \d+: .* over 16384 values"):
            load_yaml(document)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("document", LONG.values(), ids=LONG)
def test_no_number_is_longer_than_can_be_shown(document: bytes) -> None:
    with pytest.raises(YamlRefusedError, match="over 1024 characters"):
        load_yaml(document)


@pytest.mark.parametrize("text", ["a: &a {<<: *a}", "&a [*a]", "&a {x: [1, *a]}"])
def test_nothing_holds_itself(text: str) -> None:
    with pytest.raises(YamlRefusedError, match="inside what it stands for"):
        load_yaml(text)


@pytest.mark.parametrize("document", [*DEEP.values(), *LARGE.values(), *LONG.values()])
def test_as_parameters_they_are_refused_whole(document: bytes) -> None:
    with pytest.raises(ParametersRefused, match="not YAML"):
        parse_document(document[:MOST])


@pytest.mark.parametrize("text", ["{'a': 1, 'a': 2}", "a: {b: 1, b: 2}", '{"a": 1, "a": 2}'])
def test_a_key_that_is_there_twice(text: str) -> None:
    with pytest.raises(YamlRefusedError, match="is there twice"):
        load_yaml(text)


def test_what_people_write_is_read() -> None:
    text = """
    fast: &fast {slo_ms: 50, weight: 3}
    tiers:
      a: {<<: *fast, priority: 1}
      b: {<<: [*fast, {weight: 1}], slo_ms: null}
    """
    assert load_yaml(text)["tiers"] == {
        "a": {"slo_ms": 50, "weight": 3, "priority": 1},
        "b": {"slo_ms": None, "weight": 3},
    }
    assert load_yaml("") is None
    assert load_all_yaml("a\n---\nb\n") == ["a", "b"]
    with pytest.raises(YamlRefusedError, match="several documents"):
        load_yaml("a\n---\nb\n")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(value=PLAIN)
def test_what_is_within_the_bounds_is_read_as_by_the_library(value: object) -> None:
    text = yaml.safe_dump(value)
    assert load_yaml(text, YamlLimits(depth=64)) == yaml.safe_load(text)


@given(document=st.binary(max_size=200) | st.text("[]{}&*!<>-?:,ab'\"|#% \n\t", max_size=300))
def test_any_document_is_read_or_refused(document: bytes | str) -> None:
    with suppress(YamlRefusedError):
        assert isinstance(load_all_yaml(document), list)
