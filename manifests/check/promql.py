"""As much of PromQL as a check needs: which series a query reads, and whether it answers one element.

No parser of the language: queries are cut into tokens, and only their brackets are followed.
Prometheus itself checks the syntax, in the tests.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
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
        """The values it names, where it is `=`, or `=~` without more than `|`."""
        return self.value.split("|") if self.operator == "=~" else [self.value]


@dataclass(frozen=True)
class Selector:
    metric: str
    matchers: Sequence[Matcher]

    def matcher(self, label: str) -> Matcher | None:
        return next((each for each in self.matchers if each.label == label), None)


def selectors(query: str) -> list[Selector]:
    """Every series that the query reads. Raises PromqlError."""
    tokens = _tokens(query)
    found = []
    at = 0
    while at < len(tokens):
        token, after = tokens[at], _peek(tokens, at + 1)
        if token in _LABEL_LISTS and after == "(":
            at = _closing(tokens, at + 1)
        elif token == "[":
            at = _closing(tokens, at)
        elif token == "{":
            raise PromqlError("a selector has no metric name")
        elif _is_metric(token, after):
            matchers: Sequence[Matcher] = ()
            if after == "{":
                end = _closing(tokens, at + 1)
                matchers = list(_matchers(tokens[at + 2 : end]))
                at = end
            found.append(Selector(token, matchers))
        at += 1
    return found


def grouping_labels(query: str) -> set[str]:
    """The labels that it aggregates or joins by."""
    tokens = _tokens(query)
    return {
        label
        for at, token in enumerate(tokens)
        if token in _LABEL_LISTS and _peek(tokens, at + 1) == "("
        for label in tokens[at + 2 : _closing(tokens, at + 1)]
        if label != ","
    }


def answers_one_element(query: str) -> bool:
    """Whether it can have at most one element: every part is an aggregate over everything."""
    return _is_single(_tokens(query))


def _is_single(tokens: Sequence[str]) -> bool:
    operands = list(_operands(tokens))
    return all(map(_is_single_operand, operands)) and not all(map(_is_number, operands))


def _is_single_operand(tokens: Sequence[str]) -> bool:
    if _is_number(tokens):
        return True
    first, after = tokens[0], _peek(tokens, 1)
    if first == "(":
        return _closing(tokens, 0) == len(tokens) - 1 and _is_single(tokens[1:-1])
    if after != "(" or _closing(tokens, 1) != len(tokens) - 1:
        return False  # a plain selector, or an aggregate with a list of labels
    if first in _SAME_NUMBER:
        return _is_single(_first_argument(tokens[2:-1]))
    return first in _AGGREGATORS or first == "vector"


def _is_number(tokens: Sequence[str]) -> bool:
    return len(tokens) == 1 and tokens[0][0].isdigit()


def _operands(tokens: Sequence[str]) -> Iterator[Sequence[str]]:
    """The parts between binary operators that are in no bracket."""
    depth, begun = 0, 0
    for at, token in enumerate(tokens):
        depth += (token in "([{") - (token in ")]}")
        if not depth and token in _BINARY:
            if at > begun:  # else it is a sign
                yield tokens[begun:at]
            begun = at + 1
    yield tokens[begun:] or ["?"]


def _first_argument(tokens: Sequence[str]) -> Sequence[str]:
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token in "([{") - (token in ")]}")
        if not depth and token == ",":
            return tokens[:at]
    return tokens


def _is_metric(token: str, after: str) -> bool:
    if not (token[0].isalpha() or token[0] in "_:") or token.lower() in _WORDS:
        return False
    return after != "(" and not (token in _AGGREGATORS and after in _LABEL_LISTS)


def _matchers(tokens: Sequence[str]) -> Iterator[Matcher]:
    for at in range(0, len(tokens), 4):
        part = tokens[at : at + 3]
        if len(part) < 3 or part[2][0] not in "\"'":
            raise PromqlError(f"{' '.join(tokens)!r} is no list of matchers")
        yield Matcher(part[0], part[1], part[2][1:-1])


def _tokens(query: str) -> list[str]:
    text, at, found = query.strip(), 0, []
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            raise PromqlError(f"{text[at : at + 20]!r} is not understood")
        found.append(matched[0].strip())
        at = matched.end()
    if not found:
        raise PromqlError("it is empty")
    return found


def _peek(tokens: Sequence[str], at: int) -> str:
    return tokens[at] if at < len(tokens) else ""


def _closing(tokens: Sequence[str], opening: int) -> int:
    """The index of the bracket that closes the one there."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += (tokens[at] in "([{") - (tokens[at] in ")]}")
        if not depth:
            return at
    raise PromqlError("a bracket is not closed")
