"""The parameter document: what is refused names its field, and nothing else is ever raised."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.errors import InvalidRequest, ParametersRefused
from predictor.core.parameters import (
    DEFAULT_DOCUMENT,
    DEFAULT_PARAMETERS,
    GENERATING_DOCUMENT,
    GENERATING_PARAMETERS,
    MAX_DOCUMENT_BYTES,
    MAX_GENERATION,
    MAX_MODELS,
    MAX_NAME_LENGTH,
    MAX_TIERS,
    ModelParameters,
    Order,
    PackingChoice,
    Parameters,
    Policy,
    TierParameters,
    parse_document,
    parse_plain,
)
from predictor.core.rows import NO_DEADLINE

FAST = {"priority": 1}


def refusal_of(document: object) -> ParametersRefused:
    with pytest.raises(ParametersRefused) as raised:
        parse_plain(document)
    return raised.value


def with_model(**values: Any) -> dict[str, Any]:
    return {"generation": 1, "models": {"m": values}, "tiers": {"fast": FAST}}


def with_tier(**values: Any) -> dict[str, Any]:
    return {"generation": 1, "tiers": {"fast": FAST | values}}


# what is accepted


def test_the_default_document_is_accepted() -> None:
    assert parse_plain(DEFAULT_DOCUMENT) == DEFAULT_PARAMETERS
    assert DEFAULT_PARAMETERS.default_tier == "interactive"
    assert DEFAULT_PARAMETERS.tiers["interactive"].slo_s == 0.2
    assert DEFAULT_PARAMETERS.tiers["bulk"].slo_s == NO_DEADLINE


def test_models_that_generate_have_time_for_a_first_token_and_for_others() -> None:
    assert parse_plain(GENERATING_DOCUMENT) == GENERATING_PARAMETERS
    interactive = GENERATING_PARAMETERS.tiers["interactive"]
    assert (interactive.slo_s, interactive.itl_slo_s) == (10.0, 1.0)
    assert (
        msgspec.structs.replace(interactive, slo_ms=200, itl_slo_ms=None)
        == (DEFAULT_PARAMETERS.tiers["interactive"])
    )
    assert GENERATING_PARAMETERS.tiers["bulk"] == DEFAULT_PARAMETERS.tiers["bulk"]


def test_json_is_yaml_too() -> None:
    assert parse_document(msgspec.json.encode(DEFAULT_DOCUMENT)) == DEFAULT_PARAMETERS


def test_tiers_are_ordered_by_urgency() -> None:
    document = {"generation": 1, "tiers": {"slow": {"priority": 7}, "fast": {"priority": 2}}}
    assert list(parse_plain(document).tiers) == ["fast", "slow"]


def test_a_model_that_is_not_named_has_the_defaults() -> None:
    parameters = parse_plain(with_model(max_batch_size=3))
    assert parameters.for_model("m").max_batch_size == 3
    assert parameters.for_model("other") == ModelParameters()


def optional(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | values


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.isprintable)
MODELS = st.builds(
    ModelParameters,
    policy=st.sampled_from(Policy),
    max_batch_size=st.integers(1, 4096),
    max_batch_tokens=st.integers(1, 1 << 24),
    max_wait_ms=st.floats(0, 60_000),
    order=st.sampled_from(Order),
    packing=st.sampled_from(PackingChoice),
)
TIERS = st.builds(
    TierParameters,
    priority=st.integers(1, 1000),
    slo_ms=optional(st.floats(1e-3, 3_600_000)),
    max_queue_size=st.integers(1, 10_000_000),
    weight=st.floats(1e-6, 1e6),
    min_share=st.floats(0, 0.05),
    max_age_s=optional(st.floats(1e-3, 604_800)),
    max_slice_ms=optional(st.floats(1e-3, 60_000)),
)


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    unique = st.lists(TIERS, min_size=4, max_size=4, unique_by=lambda tier: tier.priority)
    tiers = sorted(draw(unique)[: len(names)], key=lambda tier: tier.priority)
    return Parameters(
        generation=draw(st.integers(0, MAX_GENERATION)),
        models=draw(st.dictionaries(NAMES, MODELS, max_size=4)),
        tiers=dict(zip(names, tiers, strict=True)),
    )


@settings(max_examples=30, deadline=None)
@given(parameters())
def test_a_document_survives_the_round_trip(written: Parameters) -> None:
    plain = msgspec.to_builtins(written)
    assert parse_plain(plain) == written
    assert parse_document(yaml.safe_dump(plain).encode()) == written


# what is refused


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"generation": 1, "tier": {}}, "tier"),
        ({"tiers": {"fast": FAST}}, "generation"),
        ({"generation": True, "tiers": {"fast": FAST}}, "generation"),
        ({"generation": -1, "tiers": {"fast": FAST}}, "generation"),
        ({"generation": MAX_GENERATION + 1, "tiers": {"fast": FAST}}, "generation"),
        ({"generation": "1", "tiers": {"fast": FAST}}, "generation"),
        ({"generation": 1}, "tiers"),
        ({"generation": 1, "tiers": {}}, "tiers"),
        ({"generation": 1, "tiers": [FAST]}, "tiers"),
        ({"generation": 1, "tiers": {"fast": None}}, "tiers.fast"),
        ({"generation": 1, "tiers": {"fast": {}}}, "tiers.fast"),
        ({"generation": 1, "tiers": {3: FAST}}, "tiers.3"),
        ({"generation": 1, "tiers": {"": FAST}}, "tiers."),
        ({"generation": 1, "tiers": {"a\nb": FAST}}, r"tiers.'a\nb'"),
        ({"generation": 1, "tiers": {"\ud800": FAST}}, r"tiers.'\ud800'"),
        ({"generation": 1, "tiers": {"x" * 500: FAST}}, "tiers." + "x" * MAX_NAME_LENGTH),
        ({"generation": 1, "tiers": {"a": FAST, "b": FAST}}, "tiers.b.priority"),
        (
            {"generation": 1, "tiers": {str(i): {"priority": i} for i in range(1, MAX_TIERS + 2)}},
            "tiers",
        ),
        (
            {
                "generation": 1,
                "tiers": {
                    "a": {"priority": 1, "min_share": 0.5},
                    "b": {"priority": 2, "min_share": 0.5},
                },
            },
            "tiers",
        ),
        ({"generation": 1, "models": 3, "tiers": {"fast": FAST}}, "models"),
        (
            {
                "generation": 1,
                "models": {str(i): {} for i in range(MAX_MODELS + 1)},
                "tiers": {"fast": FAST},
            },
            "models",
        ),
    ],
)
def test_the_refusal_of_a_document_names_the_field(document: object, field: str) -> None:
    refusal = refusal_of(document)
    assert refusal.field == field
    assert refusal.message.startswith(f"{field}: ")
    assert refusal.message.isprintable()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy", "clever"),
        ("max_batch_size", 0),
        ("max_batch_size", 4097),
        ("max_batch_size", 1.5),
        ("max_batch_size", "64"),
        ("max_batch_tokens", 0),
        ("max_wait_ms", -1),
        ("max_wait_ms", float("nan")),
        ("max_wait_ms", None),
        ("order", "random"),
        ("packing", 3),
    ],
)
def test_the_refusal_of_a_model_names_the_field(name: str, value: object) -> None:
    assert refusal_of(with_model(**{name: value})).field == f"models.m.{name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", 0),
        ("priority", True),
        ("slo_ms", 0),
        ("slo_ms", float("inf")),
        ("slo_ms", "200"),
        ("max_queue_size", 0),
        ("weight", 0),
        ("weight", float("nan")),
        ("min_share", 0.95),
        ("max_age_s", -1),
        ("max_slice_ms", 0),
        ("itl_slo_ms", 0),
        ("itl_slo_ms", 60_001),
    ],
)
def test_the_refusal_of_a_tier_names_the_field(name: str, value: object) -> None:
    assert refusal_of(with_tier(**{name: value})).field == f"tiers.fast.{name}"


def test_later_tokens_have_a_deadline_where_the_first_one_has() -> None:
    accepted = parse_plain(with_tier(slo_ms=500, itl_slo_ms=40)).tiers["fast"]
    assert (accepted.slo_s, accepted.itl_slo_s) == (0.5, 0.04)
    assert parse_plain(with_tier(slo_ms=500)).tiers["fast"].itl_slo_s == NO_DEADLINE
    refusal = refusal_of(with_tier(slo_ms=None, itl_slo_ms=40))
    assert refusal.field == "tiers.fast.itl_slo_ms"
    assert "needs slo_ms" in refusal.message


def test_an_unknown_knob_is_named() -> None:
    assert "max_batch" in refusal_of(with_model(max_batch=3)).message
    assert "slo" in refusal_of(with_tier(slo=3)).message


@pytest.mark.parametrize("document", [None, 3, "text", [], b""])
def test_what_is_no_mapping_is_refused(document: object) -> None:
    assert "mapping" in refusal_of(document).message


@pytest.mark.parametrize(
    "document",
    [
        b"generation: [",
        b"\0",
        b"\xff\xfe\xfa",
        b"[" * 2000,
        b"generation: " + b"9" * 5000,
        b"generation: 2001-99-99",
        b"generation: !!timestamp x",
        b"generation: !!int ''",
        b"generation: !!bool x",
        b"!!python/object:os.system {}",
        b"&a {generation: 1, tiers: *a}",
        b"#" * (MAX_DOCUMENT_BYTES + 1),
    ],
    ids=lambda document: repr(document[:30]),
)
def test_a_hostile_document_is_only_refused(document: bytes) -> None:
    with pytest.raises(ParametersRefused):
        parse_document(document)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
)
FIELDS = st.sampled_from(
    [
        *Parameters.__struct_fields__,
        *ModelParameters.__struct_fields__,
        *TierParameters.__struct_fields__,
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | SCALARS, inner),
    max_leaves=12,
)
DOCUMENTS = VALUES | st.fixed_dictionaries(
    {"generation": st.just(1) | SCALARS, "models": VALUES, "tiers": VALUES}
)


@settings(deadline=None)
@given(DOCUMENTS)
def test_any_value_is_accepted_or_refused(document: object) -> None:
    with suppress(ParametersRefused):
        assert parse_plain(document).tiers


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("ab:{}[]&*!<>|-?'\"%@ \n#,0.~=", max_size=60))
def test_any_text_is_accepted_or_refused(text: bytes | str) -> None:
    with suppress(ParametersRefused):
        assert parse_document(text if isinstance(text, bytes) else text.encode()).tiers


# what requests ask for

TWO = parse_plain(
    {"generation": 1, "tiers": {"fast": {"priority": 1}, "slow": {"priority": 5}}},
)


@pytest.mark.parametrize(
    ("name", "priority", "tier"),
    [
        (None, None, "fast"),
        ("slow", None, "slow"),
        (None, 5, "slow"),
        ("slow", 5, "slow"),
    ],
)
def test_a_tier_is_found_by_name_or_priority(
    name: str | None, priority: int | None, tier: str
) -> None:
    assert TWO.tier_named(name, priority) == tier


@pytest.mark.parametrize(("name", "priority"), [("none", None), (None, 2), ("fast", 5)])
def test_a_tier_that_does_not_exist_is_an_invalid_request(
    name: str | None, priority: int | None
) -> None:
    with pytest.raises(InvalidRequest, match=r"use one of|send one of"):
        TWO.tier_named(name, priority)


def test_a_model_that_is_not_served_is_refused() -> None:
    document = parse_plain(with_model())
    document.check_models(frozenset({"m"}))
    with pytest.raises(ParametersRefused) as raised:
        document.check_models(frozenset({"other"}))
    assert raised.value.field == "models.m"
    assert "other" in raised.value.message


@pytest.mark.parametrize(
    "text", ["generation: 1\ngeneration: 2", "tiers:\n  a: {priority: 1}\n  a: {priority: 2}"]
)
def test_a_key_that_is_there_twice(text: str) -> None:
    with pytest.raises(ParametersRefused, match="there twice"):
        parse_document(text.encode())


def test_json_numbers() -> None:
    document = b'{"generation": 1, "tiers": {"a": {"priority": 1, "slo_ms": 1e2}}}'
    assert parse_document(document).tiers["a"].slo_ms == 100
