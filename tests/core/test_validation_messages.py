"""Messages of a value that does not fit, for people who write YAML."""

import pytest

from predictor.core.errors import ParametersRefused
from predictor.core.parameters import parse_plain
from predictor.core.validation_messages import plainly


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"priority": "banana"}, "tiers.a.priority: must be a whole number, not text"),
        ({"priority": 1.5}, "tiers.a.priority: must be a whole number, not a fraction"),
        ({"priority": 0}, "tiers.a.priority: must be a whole number, at least 1"),
        ({"priority": 2000}, "tiers.a.priority: must be a whole number, at most 1000"),
        ({"priority": 1, "slo_ms": "soon"}, "tiers.a.slo_ms: must be a number or null, not text"),
        ({"priority": 1, "slo_ms": 0}, "tiers.a.slo_ms: must be a number, above 0"),
        ({"priority": 1, "min_share": 0.95}, "tiers.a.min_share: must be a number, at most 0.9"),
        ({"priority": 1, "weight": None}, "tiers.a.weight: must be a number, not null"),
        ({"priority": 1, "slo": 5}, "tiers.a: has no such field: slo"),
        ({}, "tiers.a: lacks: priority"),
        ({"priority": 1, "overload": "drop"}, "tiers.a.overload: does not know the value 'drop'"),
        ([], "tiers.a: must be a mapping, not a list"),
        (True, "tiers.a: must be a mapping, not true or false"),
    ],
)
def test_each_kind_of_misfit_is_a_sentence_with_its_field(values: object, said: str) -> None:
    with pytest.raises(ParametersRefused) as refused:
        parse_plain({"generation": 1, "tiers": {"a": values}})
    assert str(refused.value) == said


def test_what_is_not_known_stays_as_it_is() -> None:
    assert plainly("Number out of range") == "Number out of range"
