"""Text from tokens: whole characters, and nothing of a stop string."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from predictor.edge.detokenising import StopStrings, TextStream

LETTERS = st.text(alphabet="abc", max_size=30)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), max_size=4)


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """A token is a byte, so most characters take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={each: place for place, each in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


def before_first(text: str, stops: Sequence[str]) -> str:
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


@given(LETTERS, STOPS, st.lists(st.integers(0, 4), max_size=30))
def test_a_text_ends_before_its_first_stop_string_however_it_comes(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    found = StopStrings(stops)
    shown = ""
    came = ""
    for piece in cut(text, sizes):
        came += piece
        more, stopped = found.feed(piece)
        shown += more
        # What is shown is never taken back, and no stop string begins in it.
        assert before_first(came, stops).startswith(shown)
        if stopped:
            break
    else:
        shown += found.rest()
    # Only what has come by then can be looked at: of two, the one that is whole first counts.
    assert shown == before_first(came, stops)


@given(STOPS, LETTERS)
def test_no_more_is_kept_back_than_could_begin_a_stop_string(stops: list[str], text: str) -> None:
    found = StopStrings(stops)
    shown, stopped = found.feed(text)
    if not stopped:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)


@given(st.text(max_size=20))
def test_characters_come_whole(byte_level: Tokenizer, text: str) -> None:
    ids = byte_level.encode(text).ids
    stream = TextStream(byte_level)
    pieces = [stream.feed([each]) for each in ids]
    assert "".join(pieces) + stream.rest() == text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces) or "\N{REPLACEMENT CHARACTER}" in text


def test_a_character_that_never_ends_is_not_shown(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("so \N{GRINNING FACE}").ids
    stream = TextStream(byte_level)
    assert stream.feed(ids[:-1]) + stream.rest() == "so "


def test_a_stop_string_within_a_character_sequence(byte_level: Tokenizer) -> None:
    stream = TextStream(byte_level, stop=["\N{GRINNING FACE}!"])
    text = "".join(stream.feed([each]) for each in byte_level.encode("a\N{GRINNING FACE}!b").ids)
    assert text == "a"
    assert stream.has_stopped()
    assert stream.rest() == ""


def test_the_space_before_the_first_word_depends_on_the_prompt() -> None:
    """Vocabularies that mark the beginning of words drop the mark where a text begins."""
    vocabulary = {"\N{LOWER ONE EIGHTH BLOCK}one": 0, "\N{LOWER ONE EIGHTH BLOCK}two": 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="x"))  # noqa: S106 - no secret
    tokenizer.decoder = decoders.Metaspace()
    assert TextStream(tokenizer, prompt=[0]).feed([1]) == " two"
    assert TextStream(tokenizer).feed([1]) == "two"
