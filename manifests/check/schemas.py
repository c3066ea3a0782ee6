"""What an API server would accept: schemas of core kinds and CRDs, unknown fields as errors.

Core schemas come with the package kubernetes-validate; crds/ has those of KServe, KEDA and the
Prometheus operator. An API server drops unknown fields of a custom resource without a word: a typo
would be a setting that never was.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

from manifests.check.objects import Json, Object

KUBERNETES = "1.34"
CRDS = Path(__file__).parent / "crds"
# Kinds whose schema is nowhere to be had in a package: the k6 operator's.
UNCHECKED = {("k6.io/v1alpha1", "TestRun")}
MAX_SHOWN = 160


def findings(given: Object) -> list[str]:
    """One sentence for each thing that an API server would refuse or drop."""
    if (given.api, given.kind) in UNCHECKED:
        return []
    # Overlays share most of their objects.
    return list(_findings(json.dumps(given.data, sort_keys=True)))


@lru_cache(maxsize=1024)
def _findings(document: str) -> tuple[str, ...]:
    given = Object(json.loads(document))
    schema = _custom().get((given.api, given.kind))
    if schema is not None:
        return tuple(f"{given}: {problem}." for problem in _of_custom(schema, given.data))
    return tuple(_of_core(given))


def _of_core(given: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(dict(given.data), KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{given}: nothing is known of {given.api}/{given.kind}; is it spelled right?"
    except kubernetes_validate.ValidationError as error:
        yield f"{given}: {_where(error.absolute_path)}: {error.message[:MAX_SHOWN]}."


def _of_custom(schema: Json, data: Json) -> Iterator[str]:
    for error in Draft202012Validator(schema).iter_errors(data):
        yield f"{_where(error.absolute_path)}: {error.message[:MAX_SHOWN]}"
    yield from _unknown(schema, data, "")


def _unknown(schema: Json, value: Any, path: str) -> Iterator[str]:
    """Fields that the schema does not name. `metadata` is the API server's own."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(schema.get("items", {}), item, f"{path}[{index}]")
        return
    if not isinstance(value, Mapping):
        return
    named: Json = schema.get("properties", {})
    more = schema.get("additionalProperties")
    free = schema.get("x-kubernetes-preserve-unknown-fields") or not (named or more)
    for key, item in value.items():
        if key in named:
            yield from _unknown(named[key], item, f"{path}.{key}")
        elif isinstance(more, Mapping):
            yield from _unknown(more, item, f"{path}.{key}")
        elif not (free or more):
            yield f"{path.removeprefix('.') or 'top level'}: {key!r} is no field of it"


def _where(path: Any) -> str:
    return ".".join(map(str, path)) or "top level"


@cache
def _custom() -> Mapping[tuple[str, str], Json]:
    """By apiVersion and kind."""
    found: dict[tuple[str, str], Json] = {}
    for file in CRDS.glob("*.yaml"):
        spec = yaml.load(file.read_bytes(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[key] = version["schema"]["openAPIV3Schema"]
    return found
