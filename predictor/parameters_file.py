"""The parameter document as a file to edit: every knob with its default and what it does."""

import json
from typing import get_type_hints

import msgspec

from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    ModelParameters,
    Parameters,
    TierParameters,
)

_HEADER = """\
# Headway's parameters. Save this file and the change is in force within a second, without a
# restart. A mistake is refused whole: the last good parameters stay, and the log says why.

# Raise it with every edit; /metrics shows which generation is in force.
"""


def commented_document(model: str, parameters: Parameters = DEFAULT_PARAMETERS) -> str:
    """YAML of `parameters` as they hold for `model`, each knob explained where it first stands."""
    lines = [f"generation: {parameters.generation}", "models:"]
    lines += _section(model, parameters.for_model(model), _descriptions(ModelParameters))
    lines += ["tiers:"]
    descriptions = _descriptions(TierParameters)
    for name, tier in parameters.tiers.items():
        lines += _section(name, tier, descriptions)
        descriptions = {}
    return _HEADER + "\n".join(lines) + "\n"


def _section(
    name: str, values: ModelParameters | TierParameters, descriptions: dict[str, str]
) -> list[str]:
    lines = [f"  {name}:"]
    for field, value in msgspec.to_builtins(values).items():
        if field in descriptions:
            lines.append(f"    # {descriptions[field]}")
        lines.append(f"    {field}: {value if isinstance(value, str) else json.dumps(value)}")
    return lines


def _descriptions(kind: type[ModelParameters | TierParameters]) -> dict[str, str]:
    return {
        field: meta.description
        for field, hint in get_type_hints(kind, include_extras=True).items()
        for meta in getattr(hint, "__metadata__", ())
        if isinstance(meta, msgspec.Meta) and meta.description
    }
