"""Who an object is: namespace, labels, names that others are derived from."""

import re
from collections import Counter
from collections.abc import Iterator

from manifests.check.objects import World

PART_OF = "headway"
RECOMMENDED = tuple(f"app.kubernetes.io/{part}" for part in ("name", "component", "part-of"))
MAX_LABEL = 63
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def one_namespace(world: World) -> Iterator[str]:
    """Addresses, role bindings and queries name it, so it cannot be left to `kubectl -n`."""
    namespaces = Counter(each.namespace for each in world.own)
    most, _ = namespaces.most_common(1)[0] if namespaces else ("", 0)
    for each in world.own:
        if not each.namespace:
            yield f"{each}: has no namespace; set `namespace:` in the kustomization."
        elif each.namespace != most:
            yield f"{each}: is in namespace {each.namespace}, the others in {most}."


def no_duplicates(world: World) -> Iterator[str]:
    counted = Counter((each.kind, each.name, each.namespace) for each in world.own)
    for (kind, name, _), times in counted.items():
        if times > 1:
            yield f"{kind} {name}: is there {times} times."


def recommended_labels(world: World) -> Iterator[str]:
    for each in world.own:
        for label in RECOMMENDED:
            if label not in each.labels:
                yield f"{each}: lacks the label {label}."
        if each.labels.get(RECOMMENDED[-1], PART_OF) != PART_OF:
            yield f"{each}: its label {RECOMMENDED[-1]} is not {PART_OF}."
    for pods in world.pods:
        for label in RECOMMENDED:
            if label not in pods.labels:
                yield f"{pods}: its pods lack the label {label}."


def names_fit(world: World) -> Iterator[str]:
    """A Service, a label and an HPA are named after an InferenceService or a ScaledObject."""
    for each in world.of("InferenceService"):
        derived = f"isvc.{each.name}-predictor"
        if not _NAME.fullmatch(each.name) or len(derived) > MAX_LABEL:
            yield f"{each}: {derived!r} must be a label: at most {MAX_LABEL} of a-z, 0-9 and -."
    for each in world.of("ScaledObject"):
        if len(f"keda-hpa-{each.name}") > MAX_LABEL:
            yield f"{each}: keda-hpa-{each.name} is longer than {MAX_LABEL} characters."
