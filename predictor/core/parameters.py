"""The parameter document: every knob that can be turned while serving.

Parsing is strict and whole: an unknown name, a wrong type or an impossible value refuses
the document with a message that names the field, and whatever was in force stays so.
Descriptions, units and ranges are part of the types, so that a form can be built from them.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from predictor.core.errors import InvalidRequest, ParametersRefused
from predictor.core.rows import NO_DEADLINE
from predictor.core.shown import shown, shown_in_path
from predictor.core.validation_messages import plainly
from predictor.core.yaml_documents import YamlRefusedError, load_yaml

MAX_DOCUMENT_BYTES = 1 << 17  # a thousand models' worth, parsed in a fraction of a second
MAX_MODELS = 256
MAX_TIERS = 16
MAX_NAME_LENGTH = 128
MAX_GENERATION = 1 << 53  # beyond it, metrics could not tell one generation from the next

DEFAULT_DOCUMENT: Mapping[str, Any] = {
    "generation": 1,
    "models": {},
    "tiers": {
        "interactive": {"priority": 1, "slo_ms": 200, "max_queue_size": 2000, "weight": 10},
        "bulk": {
            "priority": 2,
            "slo_ms": None,
            "max_queue_size": 100_000,
            "weight": 1,
            "min_share": 0.05,
            "max_age_s": 600,
        },
    },
}
# Where a served model generates. What two CPU cores, and whatever else runs on them, hold with the
# default model; a tier that asks for more than the device can do is refused all it sends.
GENERATING_DOCUMENT: Mapping[str, Any] = {
    **DEFAULT_DOCUMENT,
    "tiers": {
        **DEFAULT_DOCUMENT["tiers"],
        "interactive": {
            **DEFAULT_DOCUMENT["tiers"]["interactive"],
            "slo_ms": 10_000,
            "itl_slo_ms": 1000,
        },
    },
}


class Policy(StrEnum):
    ADAPTIVE = "adaptive"
    CONSTANT = "constant"


class Order(StrEnum):
    ARRIVAL = "arrival"
    DEADLINE = "deadline"
    SHORTEST = "shortest"


class PackingChoice(StrEnum):
    AUTO = "auto"
    PACKED = "packed"
    PADDED = "padded"


class Overload(StrEnum):
    SHED = "shed"
    RELEGATE = "relegate"


class ModelParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one model's rows are batched."""

    policy: Annotated[
        Policy,
        Meta(description="adaptive follows deadlines and load; constant is size-or-window."),
    ] = Policy.ADAPTIVE
    max_batch_size: Annotated[
        int, Meta(ge=1, le=4096, description="Most rows in a batch.", extra={"unit": "rows"})
    ] = 64
    max_batch_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 24,
            description="Most tokens in a batch, padding included. A longer row is refused.",
            extra={"unit": "tokens"},
        ),
    ] = 16384
    max_wait_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=60_000,
            description="Constant policy only: the longest a batch waits to fill.",
            extra={"unit": "ms"},
        ),
    ] = 10.0
    order: Annotated[
        Order, Meta(description="Which row goes first: by arrival, deadline or length.")
    ] = Order.DEADLINE
    packing: Annotated[
        PackingChoice,
        Meta(description="packed: no padding; padded: similar lengths together; auto: best."),
    ] = PackingChoice.AUTO


class TierParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one class of traffic is promised."""

    priority: Annotated[int, Meta(ge=1, le=1000, description="1 is the most urgent.")]
    slo_ms: Annotated[
        Annotated[float, Meta(gt=0, le=3_600_000)] | None,
        Meta(
            description="Answers later than this are worth nothing; null: no deadline.",
            extra={"unit": "ms"},
        ),
    ] = None
    itl_slo_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)] | None,
        Meta(
            description="Where a model generates: slo_ms is for the first token, this for each"
            " later one, from the one before it (99% of them); null: none.",
            extra={"unit": "ms"},
        ),
    ] = None
    max_queue_size: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="Most rows that wait.", extra={"unit": "rows"}),
    ] = 2000
    weight: Annotated[
        float,
        Meta(
            gt=0,
            le=1e6,
            description="Its part of the device, beside other tiers, when not all can be served.",
        ),
    ] = 1.0
    min_share: Annotated[
        float,
        Meta(
            ge=0,
            le=0.9,
            description="Share of device time guaranteed while rows wait.",
            extra={"unit": "ratio"},
        ),
    ] = 0.0
    max_age_s: Annotated[
        Annotated[float, Meta(gt=0, le=604_800)] | None,
        Meta(
            description="Where a row is this old, its tier is owed a twentieth of the device.",
            extra={"unit": "s"},
        ),
    ] = None
    max_slice_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)] | None,
        Meta(
            description="Longest batch of this tier while a more urgent tier is in use.",
            extra={"unit": "ms"},
        ),
    ] = None

    overload: Annotated[
        Overload,
        Meta(
            description="What becomes of a row that cannot meet the SLO. shed: it is refused at"
            " once; relegate: it is answered late, when there is room."
        ),
    ] = Overload.SHED

    @property
    def relegates(self) -> bool:
        return self.overload is Overload.RELEGATE

    @property
    def slo_s(self) -> float:
        return NO_DEADLINE if self.slo_ms is None else self.slo_ms / 1e3

    @property
    def itl_slo_s(self) -> float:
        return NO_DEADLINE if self.itl_slo_ms is None else self.itl_slo_ms / 1e3


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """A whole document, checked. `tiers` is ordered from most to least urgent."""

    generation: int
    models: Mapping[str, ModelParameters]
    tiers: Mapping[str, TierParameters]

    def for_model(self, name: str) -> ModelParameters:
        return self.models.get(name, _DEFAULT_MODEL)

    @property
    def default_tier(self) -> str:
        """The tier of a request that names none: the most urgent."""
        return next(iter(self.tiers))

    @property
    def tightest_slo_s(self) -> float:
        """The shortest SLO of any tier, in seconds; infinite where none has one."""
        return min(tier.slo_s for tier in self.tiers.values())

    @property
    def bulk_tier(self) -> str:
        """The least urgent tier without an SLO; empty where all have one."""
        return next(
            (name for name in reversed(list(self.tiers)) if self.tiers[name].slo_ms is None), ""
        )

    @property
    def priorities(self) -> Mapping[str, int]:
        """The priority of each tier by its name."""
        return {name: tier.priority for name, tier in self.tiers.items()}

    def tier_named(self, name: str | None, priority: int | None) -> str:
        """The tier that a request asks for by name or by Triton's `priority`.

        Raises:
            InvalidRequest: no such tier, or name and priority disagree.
        """
        if name is None and priority is None:
            return self.default_tier
        if name is not None and name not in self.tiers:
            raise InvalidRequest(f"tier {shown(name)} does not exist; use one of: {self._listed()}")
        if priority is None:
            assert name is not None
            return name
        if name is not None:
            if self.tiers[name].priority == priority:
                return name
            raise InvalidRequest(
                f"priority {priority} is not that of tier {shown(name)}; send one of the two"
            )
        for tier, parameters in self.tiers.items():
            if parameters.priority == priority:
                return tier
        raise InvalidRequest(f"priority {priority} is not in use; use one of: {self._listed()}")

    def _listed(self) -> str:
        return ", ".join(f"{name} (priority {tier.priority})" for name, tier in self.tiers.items())

    def check_models(self, served: frozenset[str]) -> None:
        """Raises ParametersRefused if the document speaks of a model that is not served."""
        for name in self.models:
            if name not in served:
                raise ParametersRefused(
                    f"models.{name}",
                    f"is not served here; served: {', '.join(sorted(served))}",
                )


_DEFAULT_MODEL = ModelParameters()
_Section = TypeVar("_Section", ModelParameters, TierParameters)


def parse_document(document: bytes) -> Parameters:
    """Parameters from YAML or JSON text. Raises ParametersRefused, naming the field."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ParametersRefused("", f"the document is over {MAX_DOCUMENT_BYTES} bytes")
    try:
        plain = _decode(document)
    except (YamlRefusedError, RecursionError) as error:
        raise ParametersRefused("", f"not YAML: {error}") from None
    return parse_plain(plain)


def _decode(document: bytes) -> Any:
    try:
        # YAML 1.1 would take JSON's 1e3 for a string.
        return json.loads(document, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return load_yaml(document)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key that is there twice; as YAML, the document is refused for it."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError
    return plain


def parse_plain(plain: object) -> Parameters:
    """Parameters from plain dicts and scalars. Raises ParametersRefused, naming the field."""
    if not isinstance(plain, dict):
        raise ParametersRefused("", "the document must be a mapping with generation and tiers")
    for name in plain:
        if name not in ("generation", "models", "tiers"):
            raise ParametersRefused(
                shown_in_path(name), "unknown name; use generation, models, tiers"
            )
    generation = plain.get("generation")
    if type(generation) is not int or not 0 <= generation <= MAX_GENERATION:
        raise ParametersRefused("generation", f"must be an integer from 0 to {MAX_GENERATION}")
    models = _sections(plain, "models", ModelParameters, MAX_MODELS)
    tiers = _sections(plain, "tiers", TierParameters, MAX_TIERS)
    if not tiers:
        raise ParametersRefused("tiers", "at least one tier is needed")
    for name, tier in tiers.items():
        if tier.itl_slo_ms is not None and tier.slo_ms is None:
            raise ParametersRefused(
                f"tiers.{name}.itl_slo_ms",
                "needs slo_ms: a tier without a deadline for the first token has none for others",
            )
    by_priority = sorted(tiers.items(), key=lambda item: item[1].priority)
    for (first, one), (second, other) in pairwise(by_priority):
        if one.priority == other.priority:
            raise ParametersRefused(
                f"tiers.{second}.priority", f"is {other.priority}, which {first} has already"
            )
    if sum(tier.min_share for tier in tiers.values()) > 0.9:
        raise ParametersRefused("tiers", "min_share of all tiers together must be at most 0.9")
    return Parameters(generation=generation, models=models, tiers=dict(by_priority))


def _sections(
    plain: Mapping[str, Any], name: str, kind: type[_Section], limit: int
) -> dict[str, _Section]:
    sections = plain.get(name)
    if sections is None:
        return {}
    if not isinstance(sections, dict):
        raise ParametersRefused(name, "must be a mapping from name to values")
    if len(sections) > limit:
        raise ParametersRefused(name, f"has {len(sections)} entries; at most {limit}")
    parsed = {}
    for key, values in sections.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_NAME_LENGTH or not key.isprintable():
            raise ParametersRefused(
                f"{name}.{shown_in_path(key)}",
                f"names must be strings of 1 to {MAX_NAME_LENGTH} printable characters",
            )
        try:
            parsed[key] = msgspec.convert(values, kind)
        except msgspec.ValidationError as error:
            raise _refusal(f"{name}.{key}", str(error)) from None
    return parsed


def _refusal(prefix: str, problem: str) -> ParametersRefused:
    """msgspec's "problem - at `$.field`" with the field's whole path in front."""
    text, _, path = problem.partition(" - at `$")
    field = path.rstrip("`")
    return ParametersRefused(f"{prefix}{field}", plainly(text))


DEFAULT_PARAMETERS = parse_plain(DEFAULT_DOCUMENT)
GENERATING_PARAMETERS = parse_plain(GENERATING_DOCUMENT)
