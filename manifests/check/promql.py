"""As much of PromQL as a check needs: the series that a query reads, and whether it answers once.

No parser of the language: queries are cut into words, and only their brackets are followed.
Prometheus itself checks the syntax, in the tests.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PART = re.compile(
    r"""\s*(?: (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>\d[\w.]*)
      | (?P<name>[a-zA-Z_:][\w:]*)
      | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){}\[\],:@]) )""",
    re.VERBOSE,
)
_AGGREGATORS = {"sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "quantile"}
_SAME_NUMBER = {"clamp_min", "clamp_max", "clamp", "abs", "ceil", "floor", "round"}
_LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_SET_OPERATORS = {"and", "or", "unless"}
_WORDS = _SET_OPERATORS | _LABEL_LISTS | {"bool", "offset", "inf", "nan"}
_BINARY = _SET_OPERATORS | {*"+-*/%^<>", "==", "!=", "<=", ">="}


class PromqlError(ValueError):
    """One sentence."""


@dataclass(frozen=True)
class Matcher:
    label: str
    operator: str
    value: str

    @property
    def alternatives(self) -> Sequence[str]:
        """The values it names, one, or as a pattern with nothing but `|`."""
        return self.value.split("|") if self.operator in ("=~", "!~") else [self.value]


@dataclass(frozen=True)
class Selector:
    metric: str
    matchers: Sequence[Matcher]

    def matcher(self, label: str) -> Matcher | None:
        return next((each for each in self.matchers if each.label == label), None)


def selectors(query: str) -> list[Selector]:
    """Every series that the query reads. Raises PromqlError."""
    words = _cut(query)
    found = []
    at = 0
    while at < len(words):
        word, after = words[at], _peek(words, at + 1)
        if word in _LABEL_LISTS and after == "(":
            at = _closing(words, at + 1)
        elif word == "[":
            at = _closing(words, at)
        elif word == "{":
            raise PromqlError("a selector has no metric name")
        elif _is_metric(word, after):
            matchers: Sequence[Matcher] = ()
            if after == "{":
                end = _closing(words, at + 1)
                matchers = list(_matchers(words[at + 2 : end]))
                at = end
            found.append(Selector(word, matchers))
        at += 1
    return found


def grouping_labels(query: str) -> set[str]:
    """The labels that it aggregates or joins by."""
    words = _cut(query)
    return {
        label
        for at, word in enumerate(words)
        if word in _LABEL_LISTS and _peek(words, at + 1) == "("
        for label in words[at + 2 : _closing(words, at + 1)]
        if label != ","
    }


def answers_one_element(query: str) -> bool:
    """Whether it can have at most one element: every part is an aggregate over everything."""
    return _is_single(_cut(query))


def _is_single(words: Sequence[str]) -> bool:
    operands = list(_operands(words))
    return all(map(_is_single_operand, operands)) and not all(map(_is_number, operands))


def _is_single_operand(words: Sequence[str]) -> bool:
    if _is_number(words):
        return True
    first, after = words[0], _peek(words, 1)
    if first == "(":
        return _closing(words, 0) == len(words) - 1 and _is_single(words[1:-1])
    if after != "(" or _closing(words, 1) != len(words) - 1:
        return False  # a plain selector, or an aggregate with a list of labels
    if first in _SAME_NUMBER:
        return _is_single(_first_argument(words[2:-1]))
    return first in _AGGREGATORS or first == "vector"


def _is_number(words: Sequence[str]) -> bool:
    return len(words) == 1 and words[0][0].isdigit()


def _operands(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """The parts between binary operators that are in no bracket."""
    depth, begun = 0, 0
    for at, word in enumerate(words):
        depth += (word in "([{") - (word in ")]}")
        if not depth and word in _BINARY:
            if at > begun:  # else it is a sign
                yield words[begun:at]
            begun = at + 1
    yield words[begun:] or ["?"]


def _first_argument(words: Sequence[str]) -> Sequence[str]:
    depth = 0
    for at, word in enumerate(words):
        depth += (word in "([{") - (word in ")]}")
        if not depth and word == ",":
            return words[:at]
    return words


def _is_metric(word: str, after: str) -> bool:
    if not (word[0].isalpha() or word[0] in "_:") or word.lower() in _WORDS:
        return False
    return after != "(" and not (word in _AGGREGATORS and after in _LABEL_LISTS)


def _matchers(words: Sequence[str]) -> Iterator[Matcher]:
    for at in range(0, len(words), 4):
        part = words[at : at + 3]
        if len(part) < 3 or part[2][0] not in "\"'":
            raise PromqlError(f"{' '.join(words)!r} is no list of matchers")
        yield Matcher(part[0], part[1], part[2][1:-1])


def _cut(query: str) -> list[str]:
    text, at, found = query.strip(), 0, []
    while at < len(text):
        matched = _PART.match(text, at)
        if matched is None:
            raise PromqlError(f"{text[at : at + 20].strip()!r} is not understood")
        found.append(matched[0].strip())
        at = matched.end()
    if not found:
        raise PromqlError("it is empty")
    for opening, closing in ("()", "[]", "{}"):
        if found.count(opening) != found.count(closing):
            raise PromqlError(f"a {opening} is not closed, or never opened")
    return found


def _peek(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""


def _closing(words: Sequence[str], opening: int) -> int:
    """The index of the bracket that closes the one there."""
    depth = 0
    for at in range(opening, len(words)):
        depth += (words[at] in "([{") - (words[at] in ")]}")
        if not depth:
            return at
    raise PromqlError("brackets are crossed")
