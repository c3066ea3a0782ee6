"""What msgspec says of a value that does not fit, for people who write YAML, not Python."""

import re

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}
_GOT = {"float": "a fraction"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
_EXPECTED = re.compile(r"Expected `([a-z |]+)`(?:, got `([a-z]+)`| ([<>]=?) (\S+))")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.+)`")
_CHOICE = re.compile(r"Invalid enum value (.+)")


def plainly(problem: str) -> str:
    """ "Expected `int`, got `str`" as "must be a whole number, not text"; others stay."""
    if found := _EXPECTED.fullmatch(problem):
        kinds, got, sign, bound = found.groups()
        wanted = " or ".join(_KINDS.get(each, each) for each in kinds.split(" | "))
        if got:
            return f"must be {wanted}, not {_GOT.get(got) or _KINDS.get(got, got)}"
        return f"must be {wanted}, {_BOUNDS[sign]} {bound.removesuffix('.0')}"
    if found := _FIELD.fullmatch(problem):
        what = "has no such field" if found[1].startswith("contains") else "lacks"
        return f"{what}: {found[2]}"
    if found := _CHOICE.fullmatch(problem):
        return f"does not know the value {found[1]}"
    return problem
