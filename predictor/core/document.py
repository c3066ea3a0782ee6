"""The parameter document as text to edit: every knob with its value and what it does."""

import json
from typing import get_type_hints

import msgspec
import yaml

from predictor.core.parameters import ModelParameters, Parameters, TierParameters

_HEADER = """\
# Headway's parameters. Save this file and the change is in force within a second, without a
# restart. A mistake is refused whole: the last good parameters stay, and the log says why.

# Raise it with every edit; /metrics shows which generation is in force.
"""


def commented_document(parameters: Parameters) -> str:
    """YAML that says all of `parameters`, each knob explained where it first stands."""
    lines = [f"generation: {parameters.generation}"]
    for title, sections, kind in (
        ("models", parameters.models, ModelParameters),
        ("tiers", parameters.tiers, TierParameters),
    ):
        lines.append(f"{title}:" if sections else f"{title}: {{}}")
        descriptions = _descriptions(kind)
        for name, section in sections.items():
            lines += _section(name, section, descriptions)
            descriptions = {}
    return _HEADER + "\n".join(lines) + "\n"


def _section(
    name: str, values: ModelParameters | TierParameters, descriptions: dict[str, str]
) -> list[str]:
    plain = name.isidentifier() and isinstance(yaml.safe_load(name), str)
    lines = [f"  {name if plain else json.dumps(name, ensure_ascii=False)}:"]
    for field, value in msgspec.to_builtins(values).items():
        if field in descriptions:
            lines.append(f"    # {descriptions[field]}")
        lines.append(f"    {field}: {_scalar(value)}")
    return lines


def _scalar(value: str | float | None) -> str:
    """YAML 1.1 takes 1e-07 for a string, so numbers are written by its own library."""
    return value if isinstance(value, str) else yaml.safe_dump(value).splitlines()[0]


def _descriptions(kind: type[ModelParameters | TierParameters]) -> dict[str, str]:
    return {
        field: meta.description
        for field, hint in get_type_hints(kind, include_extras=True).items()
        for meta in getattr(hint, "__metadata__", ())
        if isinstance(meta, msgspec.Meta) and meta.description
    }
