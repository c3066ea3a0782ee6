"""Single tokens as text and as bytes, for logprobs. A token may be a part of a character."""

import re
from collections.abc import Mapping
from functools import cache

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # of a character that has no token


class TokenTexts:
    """What each token of a vocabulary is, remembered once it was asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._byte_level = "ByteLevel" in str(tokenizer.decoder)
        self._known: dict[int, tuple[str, bytes]] = {}

    def text(self, token: int) -> str:
        """As text; with U+FFFD for a part of a character."""
        return self._of(token)[0]

    def raw(self, token: int) -> bytes:
        """Its bytes, which put together give the text of several."""
        return self._of(token)[1]

    def _of(self, token: int) -> tuple[str, bytes]:
        known = self._known.get(token)
        if known is None:
            raw = self._bytes(token)
            known = self._known[token] = (raw.decode(errors="replace"), raw)
        return known

    def _bytes(self, token: int) -> bytes:
        name = self._tokenizer.id_to_token(token)
        if name is None:  # a row of the weights without a token
            return b""
        byte = _BYTE_TOKEN.fullmatch(name)
        if byte is not None:
            return bytes.fromhex(byte[1])
        if self._byte_level:
            alphabet = byte_alphabet()
            if all(character in alphabet for character in name):
                return bytes(alphabet[character] for character in name)
            return name.encode()  # an added token, which is kept as it is written
        return name.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


@cache
def byte_alphabet() -> Mapping[str, int]:
    """The character that byte-level vocabularies write for each byte.

    Printable bytes are themselves, the others come from 256 on, as in GPT-2's encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(others)}
