"""Rows from text: tokenised in slices, and no further than the tokens that the model takes.

Of a long text a prefix is tokenised, up to a cut (text_cuts.py), and a longer one where its tokens
were too few. So the cost of a text does not grow with what is cut off. A text that has no cut, and
is too long to be tokenised whole, is refused.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path

import msgspec
from tokenizers import Encoding, Tokenizer

from predictor.core.errors import InvalidRequest, StartupError
from predictor.core.model import ModelSpec
from predictor.edge.heavy import check_wanted
from predictor.edge.rows import check_column, check_rows
from predictor.edge.tasks import TensorSpec
from predictor.edge.tensors import BYTES, Tensor, texts_of
from predictor.edge.text_cuts import UNSETTLED_WORDS, TextCuts
from predictor.engine.port import RowInput

# What the inputs of every model that reads text are called.
TEXT = TensorSpec("text", BYTES, (-1,))
IDS = TensorSpec("input_ids", "INT64", (-1, -1))
MASK = TensorSpec("attention_mask", "INT64", (-1, -1))

# Tokenising more characters than this at once would hold the event loop too long.
_HEAVY_CHARACTERS = 16_384
# Characters that are tokenised in one call: some 50 ms and 30 MB where each is a token.
SLICE_CHARACTERS = 1 << 16
# A text may be this long whatever its tokens are, and one that is longer is looked at so far.
LEAST_CHARACTERS = 1 << 17
_PREFIX_CHARACTERS_A_TOKEN = 8  # words of most languages have 4 to 6
_MOST_CHARACTERS_A_TOKEN = 2 * _PREFIX_CHARACTERS_A_TOKEN
_GROWTH = 4  # of the prefix whose tokens were too few
_LEAST_PREFIX = 256


def holds_long_text(inputs: Mapping[str, Tensor]) -> bool:
    """Whether `text` would hold the event loop too long if it were tokenised there."""
    text = inputs.get("text")
    return text is not None and not isinstance(text.data, bytes) and are_long(text.data)


def are_long(texts: Iterable[Sized]) -> bool:
    """As `holds_long_text`, of texts in characters, or prompts in tokens."""
    return sum(map(len, texts)) > _HEAVY_CHARACTERS


def text_of_instances(instances: Sequence[object], max_rows: int) -> Tensor:
    """V1 instances, strings or objects with a `text`, as the `text` tensor."""
    check_rows("instances", len(instances), max_rows)
    texts = []
    for index, instance in enumerate(instances):
        text = instance.get("text") if isinstance(instance, dict) else instance
        if not isinstance(text, str):
            raise InvalidRequest(
                f'instances[{index}]: must be a string, or an object {{"text": string}}'
            )
        texts.append(text)
    return Tensor("text", BYTES, (len(texts),), texts)


class TextRows(msgspec.Struct, frozen=True):
    """A row for each text, and how many of them lost their end."""

    rows: Sequence[RowInput]
    truncated: int


class TextReader:
    """Reads `text` of shape [n] or [n, 1], and tokenises it; longer text is cut at `max_tokens`."""

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        self._max_rows = max_rows
        self._max_tokens = spec.max_tokens
        self._prompt = spec.prompt
        # What the file says about truncation and padding was meant for another use.
        try:
            self._tokenizer = Tokenizer.from_file(spec.tokenizer_file)
            self._tokenizer.enable_truncation(max_length=spec.max_tokens)
            self._tokenizer.no_padding()
            self._cuts = TextCuts(Path(spec.tokenizer_file).read_bytes())
        except Exception as error:  # the library raises plain Exception for a broken file
            raise StartupError(
                f"model {spec.name!r}: cannot read tokenizer {spec.tokenizer_file}: {error}"
            ) from None
        self._prefix = max(_LEAST_PREFIX, _PREFIX_CHARACTERS_A_TOKEN * spec.max_tokens)
        self._row_characters = _MOST_CHARACTERS_A_TOKEN * spec.max_tokens
        self._text_characters = max(LEAST_CHARACTERS, self._row_characters)

    def read(self, text: Tensor) -> list[str]:
        """The texts. Raises InvalidRequest, as far as that can be told without tokenising."""
        if text.datatype != BYTES:
            raise InvalidRequest(f"input 'text': datatype must be BYTES, not {text.datatype}")
        check_column(text)
        check_rows("text", text.shape[0], self._max_rows)
        return texts_of(text)

    def tokenise(self, texts: Sequence[str], truncate: bool = True) -> TextRows:
        """A row for each text, with the first `max_tokens` of its tokens.

        Raises InvalidRequest for a text without a token, for a longer one that is not to be
        truncated, and for more characters than are looked at.
        """
        if self._prompt:
            texts = [self._prompt + text for text in texts]
        rows: dict[int, RowInput] = {}
        truncated = 0
        # Prefixes that were too short are looked at again: together less than another text.
        left = 2 * self._text_characters + len(texts) * self._row_characters
        parts = [self._part(index, text) for index, text in enumerate(texts)]
        while parts:
            unfilled = []
            for batch in _slices(parts):
                check_wanted()
                left -= sum(len(part.text) for part in batch)
                if left < 0:
                    raise InvalidRequest(
                        "text: the texts are too long together for the few tokens in them; send"
                        " fewer in a request"
                    )
                for part, encoding in zip(batch, self._encoded(batch), strict=True):
                    over = _has_more(encoding, part.whole)
                    if not (over or part.whole):
                        unfilled.append(part)
                        continue
                    if over and not truncate:
                        raise InvalidRequest(
                            f"text[{part.index}] has over {self._max_tokens} tokens, the most that"
                            " this model takes; send a shorter text, or let it be truncated"
                        )
                    rows[part.index] = _row_of_text(part.index, encoding.ids)
                    truncated += over
            parts = [self._part(part.index, texts[part.index], part.asked) for part in unfilled]
        return TextRows([rows[index] for index in range(len(texts))], truncated)

    def _part(self, index: int, text: str, tried: int = 0) -> "_Part":
        """The text, or what is before a cut in more of its characters than were `tried`.

        Raises InvalidRequest where that is more than is looked at.
        """
        limit = self._text_characters
        asked = tried
        while self._cuts.possible and asked < min(limit, len(text)):
            asked = min(asked * _GROWTH or self._prefix, limit)
            cut = self._cuts.before(text, asked) if asked < len(text) else 0
            if cut:
                return _Part(index, text[:cut], asked, whole=False)
        if len(text) > limit:
            raise InvalidRequest(
                f"text[{index}] has {len(text)} characters, and no place in the first {limit} to"
                f" cut it at {self._max_tokens} tokens; send at most {limit} characters"
            )
        return _Part(index, text, len(text), whole=True)

    def _encoded(self, parts: "Sequence[_Part]") -> list[Encoding]:
        texts = [part.text for part in parts]
        if all(part.whole for part in parts):
            return self._tokenizer.encode_batch_fast(texts)
        return self._tokenizer.encode_batch(texts)  # says of each token which word it is from


class _Part(msgspec.Struct, frozen=True):
    """What is tokenised of a text: all of it, or what is before a cut near `asked` characters."""

    index: int
    text: str
    asked: int
    whole: bool


def _slices(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """The parts in order, as many in each list as are tokenised at once."""
    held: list[_Part] = []
    room = SLICE_CHARACTERS
    for part in parts:
        if held and len(part.text) > room:
            yield held
            held, room = [], SLICE_CHARACTERS
        held.append(part)
        room -= len(part.text)
    if held:
        yield held


def _has_more(encoding: Encoding, whole: bool) -> bool:
    """Whether the text has more tokens than were kept.

    For a part of a text: whether the token after those is settled, and so are all that were kept.
    """
    beyond = encoding.overflowing
    if whole or not beyond:
        return bool(beyond)
    first = next((word for word in beyond[0].word_ids if word is not None), None)
    last = max((word for word in beyond[-1].word_ids if word is not None), default=None)
    return first is not None and last is not None and first + UNSETTLED_WORDS <= last


def _row_of_text(index: int, ids: list[int]) -> RowInput:
    if not ids:
        raise InvalidRequest(f"text[{index}] has no tokens; send some text")
    return RowInput(array("q", ids).tobytes(), len(ids))
