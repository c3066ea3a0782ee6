"""The form of the Tuning page, read from the parameter types: no field is listed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import inspect

from predictor.core.parameters import ModelParameters, TierParameters

Section = type[ModelParameters | TierParameters]
PlainValue = str | int | float | None


@dataclass(frozen=True, slots=True)
class Knob:
    """One live parameter: how to name it, explain it and offer it."""

    name: str
    meaning: str
    unit: str = ""
    choices: tuple[str, ...] = ()  # of an enumeration; empty where a number is typed
    lowest: str = ""  # as a person reads it: "≥ 1", "> 0"
    highest: str = ""
    optional: bool = False  # an empty field means that there is none
    default: PlainValue = None
    required: bool = False

    @property
    def label(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def range(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        bounds = " and ".join(bound for bound in (self.lowest, self.highest) if bound)
        return f"{bounds}; empty: none" if self.optional else bounds

    @property
    def help(self) -> str:
        default = "" if self.required else f" Default: {shown(self.default) or 'none'}."
        return f"{self.meaning} Range: {self.range}.{default}"


def knobs_of(section: Section) -> Sequence[Knob]:
    """Every field of a section, in its order."""
    described = inspect.type_info(section)
    assert isinstance(described, inspect.StructType)
    return [_knob(field) for field in described.fields]


def shown(value: PlainValue) -> str:
    """A value as the form holds it: text, empty for none. 10.0 reads 10."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def typed(knob: Knob, text: str) -> PlainValue:
    """What was typed, as plain data. What is no number stays text, so that parsing says so."""
    text = text.strip()
    if knob.choices:
        return text
    if not text:
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _knob(field: inspect.Field) -> Knob:
    kind, meaning, unit = field.type, "", ""
    while isinstance(kind, inspect.Metadata):
        meaning = (kind.extra_json_schema or {}).get("description", meaning)
        unit = (kind.extra or {}).get("unit", unit)
        kind = kind.type
    choices: tuple[str, ...] = ()
    optional = False
    if isinstance(kind, inspect.UnionType):
        optional = any(isinstance(each, inspect.NoneType) for each in kind.types)
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, inspect.EnumType):
        choices = tuple(each.value for each in kind.cls)
    lowest, highest = _bounds(kind)
    return Knob(
        name=field.name,
        meaning=meaning,
        unit=unit,
        choices=choices,
        lowest=lowest,
        highest=highest,
        optional=optional,
        default=None if field.required else msgspec.to_builtins(field.default),
        required=field.required,
    )


def _bounds(kind: inspect.Type) -> tuple[str, str]:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return "", ""
    lowest = f"≥ {_spelled(kind.ge)}" if kind.ge is not None else ""
    if kind.gt is not None:
        lowest = f"> {_spelled(kind.gt)}"
    return lowest, f"≤ {_spelled(kind.le)}" if kind.le is not None else ""


def _spelled(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"
