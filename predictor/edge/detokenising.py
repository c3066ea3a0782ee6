"""Tokens to text as they come: no character is cut, and no part of a stop string is shown.

A token may end within a character, so text comes when its last byte has. Bytes of a character that
never ends are dropped. A stop string may begin in one token and end in another, so text that could
be the beginning of one is kept back until it is clear whether it is.
"""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

PROMPT_TOKENS_SEEN = 8  # of the prompt's end: decoders look at what is before a token for its space


class StopStrings:
    """Finds the first of several strings in a text that comes in pieces."""

    def __init__(self, strings: Sequence[str]) -> None:
        """`strings`: none of them empty."""
        self._strings = tuple(strings)
        self._longest = max(map(len, self._strings), default=0)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What may be shown now, and whether a stop string has come: then nothing else follows."""
        if not self._strings:
            return text, False
        text = self._held + text
        ends = [at for at in map(text.find, self._strings) if at >= 0]
        if ends:
            self._held = ""
            return text[: min(ends)], True
        held = self._held_back(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False

    def rest(self) -> str:
        """What was kept back and has turned out to be no stop string: the text has ended."""
        text, self._held = self._held, ""
        return text

    def _held_back(self, text: str) -> int:
        """How many characters at the end could be the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0


class TextStream:
    """The text of one row's output."""

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int] = (), stop: Sequence[str] = ()
    ) -> None:
        """`prompt`: the ids before the output."""
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(list(prompt[-PROMPT_TOKENS_SEEN:]), skip_special_tokens=True)
        self._stops = StopStrings(stop)
        self._stopped = False

    def feed(self, ids: Iterable[int]) -> str:
        """The text that may be shown now that these tokens have come."""
        step, tokenizer = self._decoder.step, self._tokenizer
        text = "".join([piece for each in ids if (piece := step(tokenizer, each)) is not None])
        if self._stopped or not text:
            return ""
        shown, self._stopped = self._stops.feed(text)
        return shown

    def rest(self) -> str:
        """What is left to show of a text that ended otherwise than by a stop string."""
        return "" if self._stopped else self._stops.rest()

    def has_stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._stopped
