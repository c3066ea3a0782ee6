"""Where a long text may be cut so that the tokens before the cut are those of the whole text.

A model takes so many tokens of a text and drops the rest, but tokenising the rest costs as much
as tokenising what is kept. Cut anywhere, a text has other tokens near the cut: an accent joins the
letter before it, a merge reaches over the end of a word, half of `[SEP]` is three words. So a cut
must lie between two characters which no normaliser joins, and the tokens of the last few words
before it must not be needed. With both, and a tokenizer that works from left to right on words,
every token before those words is the one that the whole text has there.

Whether a tokenizer works like that is read from its tokenizer.json, by a closed list of the parts
that are known to. A text for any other tokenizer is tokenised whole.

Sources: Unicode Standard Annexes 15 (normalisation) and 29 (grapheme clusters); the tokenizers
library, whose normalisers work on characters or on grapheme clusters.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

# Patterns of pre-tokenizers look ahead by a contraction ('re) at most: three short words.
UNSETTLED_WORDS = 4

_PLAIN_CATEGORIES = frozenset(
    ("Lu", "Ll", "Lt", "Lo", "Nd", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc")
)
_DOT_REPH = "\u0d4e"  # a letter that joins the one after it
_HANGUL_SYLLABLES = ("\uac00", "\ud7a3")
_IDEOGRAPHS = ("\U00020000", "\U0003134f")
# Pictures that stand alone unless something joins them: no flags' halves, no skin tones.
_PICTURES = (("\U0001f300", "\U0001f3fa"), ("\U0001f400", "\U0001faff"))

_SETTLED_NORMALIZERS = frozenset(
    (
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Strip",
        "StripAccents",
    )
)
_SETTLED_PRE_TOKENIZERS = frozenset(
    (
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Whitespace",
        "WhitespaceSplit",
    )
)
_SETTLED_MODELS = frozenset(("BPE", "Unigram", "WordLevel", "WordPiece"))
_SPACE_PATTERNS = frozenset((" {2,}", r"\s+", r"\s{2,}", r"\n", r"\r\n", r"[\r\n]+"))
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD_PATTERNS = _SPACE_PATTERNS | {
    # GPT-2
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # cl100k, Llama 3; Qwen 2 and 3
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST,
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST,
    # CLIP
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"\p{N}",
    r"\p{N}{1,3}",
    r"\d",
}


class _AddedToken(msgspec.Struct):
    content: str
    single_word: bool = False


class _Description(msgspec.Struct):
    """What of a tokenizer.json says how texts become words; the vocabulary is passed over."""

    model: dict[str, msgspec.Raw]
    added_tokens: list[_AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None


class TextCuts:
    """Finds cuts for one tokenizer. `possible`: whether its texts may be cut at all."""

    def __init__(self, description: bytes) -> None:
        """`description`: a tokenizer.json. Raises msgspec.MsgspecError where it is none."""
        plain = msgspec.json.decode(description, type=_Description)
        normalizers = list(_leaves(plain.normalizer, "normalizers"))
        words = list(_leaves(plain.pre_tokenizer, "pretokenizers"))
        self.possible = (
            bool(words)
            and all(map(_is_settled_normalizer, normalizers))
            and all(map(_is_settled_pre_tokenizer, words))
            and _is_settled_model(plain.model)
        )
        literals = [text for part in normalizers if (text := _literal(part))]
        self._replaced = frozenset("".join(literals)) - {" "}
        self._inside = frozenset(
            pair for token in plain.added_tokens for pair in _pairs(_spellings(token.content))
        )
        self._ends = frozenset(
            end
            for token in plain.added_tokens
            if token.single_word and token.content
            for end in (token.content[-1], token.content[-1].lower())
        )

    def before(self, text: str, at: int) -> int:
        """The last cut from half of `at` to `at`; 0 where there is none."""
        for cut in range(min(at, len(text) - 1), at // 2, -1):
            if self._allows(text[cut - 1], text[cut]):
                return cut
        return 0

    def _allows(self, left: str, right: str) -> bool:
        if not is_plain(left) or not (right == " " or is_plain(right)):
            return False
        if left in self._replaced or right in self._replaced or left in self._ends:
            return False
        pair = left + right
        return pair not in self._inside and pair.lower() not in self._inside


@lru_cache(maxsize=1 << 14)
def is_plain(character: str) -> bool:
    """Whether the character, beside another such one, is joined to it by no normaliser."""
    if character.isascii():
        return character.isprintable() and character != " "
    if _HANGUL_SYLLABLES[0] <= character <= _HANGUL_SYLLABLES[1]:
        return True
    if unicodedata.normalize("NFKD", character) != character or unicodedata.combining(character):
        return False
    category = unicodedata.category(character)
    if character > "\uffff":
        if any(first <= character <= last for first, last in _PICTURES):
            return category == "So"
        return category == "Lo" and _IDEOGRAPHS[0] <= character <= _IDEOGRAPHS[1]
    return (
        category in _PLAIN_CATEGORIES and character != _DOT_REPH and not _is_conjoining(character)
    )


def _is_conjoining(character: str) -> bool:
    """Jamo, the parts of Hangul syllables."""
    return (
        "\u1100" <= character <= "\u11ff"
        or "\ua960" <= character <= "\ua97f"
        or "\ud7b0" <= character <= "\ud7ff"
    )


def _leaves(part: dict[str, Any] | None, children: str) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for child in part.get(children) or ():
        yield from _leaves(child, children)


def _is_settled_normalizer(part: dict[str, Any]) -> bool:
    if part.get("type") != "Replace":
        return part.get("type") in _SETTLED_NORMALIZERS
    pattern = part.get("pattern") or {}
    return "String" in pattern or pattern.get("Regex") in _SPACE_PATTERNS


def _is_settled_pre_tokenizer(part: dict[str, Any]) -> bool:
    if part.get("type") != "Split":
        return part.get("type") in _SETTLED_PRE_TOKENIZERS
    pattern = part.get("pattern") or {}
    text = pattern.get("String")
    if text is not None:
        return len(text) == 1
    return pattern.get("Regex") in _WORD_PATTERNS


def _is_settled_model(model: dict[str, msgspec.Raw]) -> bool:
    kind = msgspec.json.decode(model["type"]) if "type" in model else None
    dropout = msgspec.json.decode(model["dropout"]) if "dropout" in model else None
    return kind in _SETTLED_MODELS and not dropout


def _literal(part: dict[str, Any]) -> str:
    if part.get("type") != "Replace":
        return ""
    return str((part.get("pattern") or {}).get("String", ""))


def _spellings(content: str) -> set[str]:
    """An added token as normalisers may make it, which look for it in what they made of a text."""
    spellings = {content, content.lower()}
    for form in ("NFKC", "NFKD"):
        spellings |= {unicodedata.normalize(form, spelling) for spelling in tuple(spellings)}
    bare = (filter(lambda character: not unicodedata.combining(character), s) for s in spellings)
    return spellings | {"".join(each) for each in bare}


def _pairs(contents: Iterable[str]) -> Iterator[str]:
    for content in contents:
        yield from (content[start : start + 2] for start in range(len(content) - 1))
