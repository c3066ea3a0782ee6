"""Single tokens as bytes: put together, they are the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from predictor.edge.token_texts import TokenTexts, byte_alphabet


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={each: place for place, each in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("naïve 語")])
    return tokenizer


def byte_fallback() -> Tokenizer:
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁", "é", "<0xZZ>"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: place for place, name in enumerate(names)},
            merges=[],
            unk_token=names[0],
            byte_fallback=True,
        )
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def test_the_alphabet_is_that_of_the_library() -> None:
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


@given(st.text(max_size=40))
def test_bytes_of_byte_level_tokens_are_the_text(text: str) -> None:
    tokenizer = byte_level()
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(texts.raw(each) for each in ids) == text.encode()


def test_tokens_that_are_parts_of_a_character() -> None:
    tokenizer = byte_level()
    texts = TokenTexts(tokenizer)
    first, second = tokenizer.encode("é").ids
    assert (texts.raw(first), texts.raw(second)) == (b"\xc3", b"\xa9")
    assert texts.text(first) == texts.text(second) == "\N{REPLACEMENT CHARACTER}"


def test_added_tokens_are_as_they_are_written() -> None:
    tokenizer = byte_level()
    texts = TokenTexts(tokenizer)
    for name in ("<|end|>", "naïve 語"):
        token = tokenizer.token_to_id(name)
        assert token is not None
        assert (texts.text(token), texts.raw(token)) == (name, name.encode())


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("<0x0A>", b"\n"),
        ("<0xC3>", b"\xc3"),
        ("▁the", b" the"),
        ("▁", b" "),
        ("é", "é".encode()),
        ("<unk>", b"<unk>"),
        ("<0xZZ>", b"<0xZZ>"),
    ],
)
def test_tokens_of_vocabularies_with_bytes_to_fall_back_on(name: str, raw: bytes) -> None:
    tokenizer = byte_fallback()
    texts = TokenTexts(tokenizer)
    token = tokenizer.token_to_id(name)
    assert token is not None
    assert texts.raw(token) == raw
    assert texts.text(token) == raw.decode(errors="replace")
    assert texts.raw(token) == raw  # the second time, too


def test_a_row_of_the_weights_without_a_token() -> None:
    texts = TokenTexts(byte_level())
    assert (texts.text(99_999), texts.raw(99_999)) == ("", b"")
