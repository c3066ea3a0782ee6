"""What an edit changed: two documents, field by field."""

from typing import Any

import msgspec

from dashboard.ports import Change
from predictor.core.parameters import Parameters


def changed(before: Parameters, after: Parameters) -> tuple[Change, ...]:
    """Field by field, the generation left out; a model or tier that is new has all its fields."""
    old, new = _flat(before), _flat(after)
    return tuple(
        Change(field, old.get(field), new.get(field))
        for field in sorted({*old, *new})
        if (field in old) != (field in new) or old[field] != new[field]
    )


def _flat(parameters: Parameters) -> dict[str, Any]:
    plain = msgspec.to_builtins(parameters)
    return {
        f"{kind}.{name}.{field}": value
        for kind in ("models", "tiers")
        for name, section in plain[kind].items()
        for field, value in section.items()
    }
