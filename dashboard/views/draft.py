"""An edit in progress: the document it started from, and what was changed in it.

Everything here is plain data in, plain data out; whether a value is allowed is decided by the
predictor's own parser and by nothing else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dashboard.ports import Change
from dashboard.views.knobs import PlainValue, shown
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import Parameters, parse_plain


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: `models.topics.max_batch_size`."""

    section: str  # models or tiers
    name: str
    field: str

    def __str__(self) -> str:
        return f"{self.section}.{self.name}.{self.field}"


Edits = Mapping[Place, PlainValue]


def value_at(parameters: Parameters, place: Place) -> PlainValue:
    """What is in force there; a model that the document leaves out has the defaults."""
    if place.section == "models":
        values: Any = parameters.for_model(place.name)
    else:
        values = parameters.tiers[place.name]
    value: PlainValue = msgspec.to_builtins(getattr(values, place.field))
    return value


def real_edits(base: Parameters, typed: Edits) -> Edits:
    """Those that differ from the base; 10 typed where 10.0 stands is none."""
    return {
        place: value
        for place, value in typed.items()
        if shown(value) != shown(value_at(base, place))
    }


def edited(base: Parameters, edits: Edits) -> dict[str, Any]:
    """The base with the edits in it and the next generation, unchecked."""
    plain: dict[str, Any] = msgspec.to_builtins(base)
    plain["generation"] = base.generation + 1
    for place, value in edits.items():
        section = plain[place.section]
        if place.name not in section:
            section[place.name] = msgspec.to_builtins(base.for_model(place.name))
        section[place.name][place.field] = value
    return plain


def checked(base: Parameters, edits: Edits) -> Parameters:
    """The parameters that the edits make. Raises ParametersRefused, naming the field."""
    return parse_plain(edited(base, edits))


def problems(base: Parameters, edits: Edits) -> Mapping[Place | None, str]:
    """What is wrong, by field; under None what only the fields together do wrong."""
    found: dict[Place | None, str] = {}
    for place, value in edits.items():
        try:
            checked(base, {place: value})
        except ParametersRefused as refusal:
            if refusal.field == str(place):
                found[place] = refusal.message.removeprefix(f"{place}: ")
    if not found:
        try:
            checked(base, edits)
        except ParametersRefused as refusal:
            found[None] = refusal.message
    return found


def known_to_be(base: Parameters, edits: Edits, wrong: Collection[Place | None]) -> Parameters:
    """The parameters with those of the edits that are right."""
    right = {place: value for place, value in edits.items() if place not in wrong}
    try:
        return checked(base, right)
    except ParametersRefused:
        return base


def edit_changes(base: Parameters, edits: Edits) -> Sequence[Change]:
    """The edits as changes of what is in force."""
    return [Change(str(place), value_at(base, place), value) for place, value in edits.items()]


def told(change: Change) -> str:
    """`tiers.bulk.max_age_s: 600 → none`."""
    before, after = (shown(value) or "none" for value in (change.before, change.after))
    return f"{change.field}: {before} → {after}"
