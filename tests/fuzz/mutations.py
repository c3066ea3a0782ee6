"""Bytes that nobody meant, from bytes that somebody did."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

FORGED = "2026-01-01 00:00:00,000 ERROR forged"  # a line of the log, if it became one
VALUES: Sequence[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 65, 1 << 31, -(1 << 31), 1 << 63, 1 << 64, 10**30),
    *(0.5, -0.0, 1e308, 1e-308, float("nan"), float("inf")),
    *("", "1", "INT64", "INT32", "FP32", "BYTES", "words", "bulk", "auto", "é\u2028\u202e\0\ud800"),
    *(f"x\n{FORGED}\r\n", "x" * 10_000, "\x1b[2J"),
    *([], {}, [[]], [1, 2], [[1], [2, 3]], [[[[[[[[[1]]]]]]]]], [1] * 1000, ["a"] * 100, [None]),
    *({"a": 1}, {"": {}}, {"type": "text", "text": "x"}, {"role": "user", "content": "x"}),
]
NAMES = [
    *("id", "inputs", "parameters", "outputs", "data", "shape", "priority", "timeout", "stream"),
    *("n", "logprobs", "echo", "tools", "response_format", "classification", "binary_data"),
    *("binary_data_output", "content_type", "truncate", "best_of", "suffix", "stop", "", "x\n"),
]
TOKENS: Sequence[bytes] = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"99999999999999999999",
    b"\\ud800",
    b"1.5",
    b'"INT64"',
    b'"BYTES"',
    b"[[",
    b",",
]


def mutated(body: bytes, chance: random.Random, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """`body` after one to three edits: cut, doubled, or with something else in it."""
    mutant = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(mutant) + 1)
        end = min(len(mutant), start + chance.choice((0, 1, 1, 4, 40)))
        filling = chance.choice(
            (b"", chance.choice(tokens), chance.randbytes(2), mutant[start:end] * 2)
        )
        mutant[start:end] = filling
    return bytes(mutant)


def changed(body: bytes, chance: random.Random) -> bytes:
    """JSON that is still JSON: one or two of its values replaced, left out, added or doubled."""
    plain = json.loads(body)
    for _ in range(chance.randint(1, 2)):
        _change(chance.choice(_containers(plain)), chance)
    return json.dumps(plain).encode()


def _containers(plain: Any) -> list[Any]:
    inner = plain.values() if isinstance(plain, dict) else plain
    found = [plain] if plain or isinstance(plain, dict) else []
    for each in inner:
        if isinstance(each, (dict, list)):
            found += _containers(each)
    return found


def _change(container: Any, chance: random.Random) -> None:
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    value = copy.deepcopy(chance.choice(VALUES))
    if isinstance(container, dict) and (not keys or chance.random() < 0.2):
        container[chance.choice(NAMES)] = value
    elif chance.random() < 0.15:
        del container[chance.choice(keys)]
    elif isinstance(container, list) and chance.random() < 0.15:
        container += container
    else:
        container[chance.choice(keys)] = value
