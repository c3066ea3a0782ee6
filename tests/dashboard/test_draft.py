"""Edits in progress are data: checked by the predictor's parser, told as changes."""

import pytest

from dashboard.views.draft import Place, checked, edit_changes, problems, real_edits, told
from dashboard.views.knobs import knobs_of, shown, typed
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    ModelParameters,
    TierParameters,
)

SIZE = Place("models", "topics", "max_batch_size")
SLO = Place("tiers", "interactive", "slo_ms")
PRIORITY = Place("tiers", "bulk", "priority")


def test_a_knob_says_all_that_its_type_says() -> None:
    size = next(each for each in knobs_of(ModelParameters) if each.name == "max_batch_size")
    assert size.label == "max_batch_size (rows)"
    assert size.help == "Most rows in a batch. Range: ≥ 1 and ≤ 4,096. Default: 64."
    slo = next(each for each in knobs_of(TierParameters) if each.name == "slo_ms")
    assert slo.optional
    assert slo.range == "> 0 and ≤ 3,600,000; empty: none"


@pytest.mark.parametrize("section", [ModelParameters, TierParameters])
def test_every_knob_has_a_meaning_and_a_range(
    section: type[ModelParameters | TierParameters],
) -> None:
    knobs = knobs_of(section)
    assert [knob.name for knob in knobs] == list(section.__struct_fields__)
    assert all(knob.meaning and knob.range for knob in knobs)


def test_what_is_typed_comes_back_as_it_was() -> None:
    size = knobs_of(ModelParameters)[1]
    assert typed(size, " 32 ") == 32
    assert typed(size, "1.5") == 1.5
    assert typed(size, "") is None
    assert typed(size, "many") == "many"
    assert shown(10.0) == "10"
    assert shown(None) == ""


def test_an_edit_makes_the_next_generation_and_leaves_the_rest() -> None:
    after = checked(DEFAULT_PARAMETERS, {SIZE: 8})
    assert after.generation == DEFAULT_PARAMETERS.generation + 1
    assert after.for_model("topics").max_batch_size == 8
    assert after.tiers == DEFAULT_PARAMETERS.tiers


def test_the_same_value_is_no_edit() -> None:
    assert real_edits(DEFAULT_PARAMETERS, {SLO: 200, SIZE: 64}) == {}
    assert real_edits(DEFAULT_PARAMETERS, {SLO: 150}) == {SLO: 150}


@pytest.mark.parametrize("value", [0, 4097, "many", None, 1.5, "nan"])
def test_a_bad_value_is_told_at_its_field(value: str | float | None) -> None:
    found = problems(DEFAULT_PARAMETERS, {SIZE: value, SLO: 100})
    assert list(found) == [SIZE]
    assert found[SIZE].startswith("must be a whole number, ")


def test_values_that_only_clash_together_are_told_without_a_field() -> None:
    share = Place("tiers", "interactive", "min_share")
    found = problems(DEFAULT_PARAMETERS, {share: 0.88})
    assert found == {None: "tiers: min_share of all tiers together must be at most 0.9"}


def test_a_priority_in_use_is_told_at_its_field() -> None:
    assert problems(DEFAULT_PARAMETERS, {PRIORITY: 1}) == {
        PRIORITY: "is 1, which interactive has already"
    }


def test_a_number_that_is_none_is_refused() -> None:
    slo = next(each for each in knobs_of(TierParameters) if each.name == "slo_ms")
    for text in ("nan", "inf", "-inf"):
        with pytest.raises(ParametersRefused):
            checked(DEFAULT_PARAMETERS, {SLO: typed(slo, text)})


def test_edits_are_told_as_changes() -> None:
    edits = {SIZE: 8, Place("tiers", "bulk", "max_age_s"): None}
    assert [told(each) for each in edit_changes(DEFAULT_PARAMETERS, edits)] == [
        "models.topics.max_batch_size: 64 → 8",
        "tiers.bulk.max_age_s: 600 → none",
    ]
