"""What KEDA refuses or misreads in a ScaledObject (release 2.20)."""

from collections.abc import Iterator

from manifests.check.objects import Json, Object, Pods, World, dig

_PROMETHEUS = {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"}
_PROMETHEUS |= {"queryParameters", "customHeaders", "timeout", "unsafeSsl", "namespace"}
_REDIS = {"address", "listName", "listLength", "activationListLength", "databaseIndex"}
_REDIS |= {"enableTLS", "unsafeSsl"}
_FIELDS = {"prometheus": _PROMETHEUS, "redis": _REDIS}
_REQUIRED = {
    "prometheus": ("serverAddress", "query", "threshold"),
    "redis": ("address", "listName", "listLength"),
}
_NUMBERS = ("threshold", "activationThreshold", "listLength", "activationListLength")
SLOW_DOWN_S = 300


def target(world: World) -> Iterator[str]:
    """The Deployment that KServe makes, scaled by one object and by no HPA."""
    seen: dict[str, Object] = {}
    for each in world.of("ScaledObject"):
        reference = each.get("spec", "scaleTargetRef") or {}
        name = str(reference.get("name"))
        if target_of(world, each) is None or reference.get("kind") != "Deployment":
            yield f"{each}: there is no Deployment {name}; KServe makes NAME-predictor."
        if name in seen:
            yield f"{each}: {name} is scaled by {seen[name]} already."
        seen[name] = each
    for each in world.of("HorizontalPodAutoscaler"):
        yield f"{each}: KEDA makes its own; leave it out."


def limits(world: World) -> Iterator[str]:
    for each in world.of("ScaledObject"):
        least, most = each.get("spec", "minReplicaCount"), each.get("spec", "maxReplicaCount")
        if least is None or most is None or not least <= most:
            yield f"{each}: set minReplicaCount and maxReplicaCount, the first no higher."
        elif least == 0 and (problem := _why_not_zero(world, each)):
            yield f"{each}: minReplicaCount must be 1 or more: {problem}."


def triggers_named(world: World) -> Iterator[str]:
    for each in world.of("ScaledObject"):
        names = [trigger.get("name") for trigger in each.get("spec", "triggers") or ()]
        if None in names or len(set(names)) < len(names):
            yield f"{each}: every trigger needs a name of its own."


def triggers_read(world: World) -> Iterator[str]:
    """Of a type that is known, with fields that KEDA reads."""
    for each, trigger in triggers_of(world):
        name, kind = f"{each}: trigger {trigger.get('name')}", trigger.get("type", "")
        if kind not in _FIELDS:
            yield f"{name}: type {kind!r} is not one of {', '.join(_FIELDS)}."
            continue
        metadata: Json = trigger.get("metadata") or {}
        for key in sorted(metadata.keys() - _FIELDS[kind]):
            yield f"{name}: KEDA reads no {key} of a {kind} trigger."
        for key in _REQUIRED[kind]:
            if key not in metadata:
                yield f"{name}: lacks {key}."
        for key in _NUMBERS:
            if key in metadata and not _is_number(str(metadata[key])):
                yield f"{name}: {key} is {metadata[key]!r}, which is no number."
        if trigger.get("metricType") != "AverageValue":
            yield f"{name}: metricType must be AverageValue: thresholds are for each replica."


def fallback(world: World) -> Iterator[str]:
    """It works only where no answer is an error; and at 0 replicas, KEDA would scale to 0."""
    for each in world.of("ScaledObject"):
        given = each.get("spec", "fallback") or {}
        if not given.get("replicas") or given.get("behavior") != "currentReplicasIfHigher":
            yield f"{each}: fallback needs replicas of 1 or more and currentReplicasIfHigher."
    for each, trigger in triggers_of(world, "prometheus"):
        if dig(trigger, "metadata", "ignoreNullValues") != "false":
            yield f'{each}: trigger {trigger.get("name")}: ignoreNullValues must be "false".'


def fast_up_slow_down(world: World) -> Iterator[str]:
    for each in world.of("ScaledObject"):
        path = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
        up_s = each.get(*path, "scaleUp", "stabilizationWindowSeconds")
        down_s = each.get(*path, "scaleDown", "stabilizationWindowSeconds")
        if up_s is None or down_s is None or down_s < max(SLOW_DOWN_S, up_s):
            yield (
                f"{each}: scaleDown.stabilizationWindowSeconds must be {SLOW_DOWN_S} or more, and"
                " no less than that of scaleUp."
            )


def target_of(world: World, scaled: Object) -> Pods | None:
    name = scaled.get("spec", "scaleTargetRef", "name")
    return next((pods for pods in world.pods if pods.name == name), None)


def triggers_of(world: World, kind: str | None = None) -> Iterator[tuple[Object, Json]]:
    """All of a kind, each with the ScaledObject that has it."""
    for each in world.of("ScaledObject"):
        for trigger in each.get("spec", "triggers") or ():
            if kind in (None, trigger.get("type")):
                yield each, trigger


def _why_not_zero(world: World, scaled: Object) -> str | None:
    """What pods export is gone with the last of them: something outside must wake them."""
    kinds = {trigger.get("type") for trigger in scaled.get("spec", "triggers") or ()}
    if "redis" not in kinds:
        return "no trigger reads what is there without a pod"
    mine = target_of(world, scaled)
    standing = [
        pods
        for pods in world.predictors
        if mine is not None
        and pods.name != mine.name
        and (pods.owner.get("spec", "predictor", "minReplicas") or 0) > 0
        and _one_service(world, pods, mine)
    ]
    if not standing:
        return "requests come in through a replica, and no other pool stands behind its Service"
    return None


def _one_service(world: World, one: Pods, other: Pods) -> bool:
    return any(
        service.selector
        and service.selector.items() <= one.labels.items()
        and service.selector.items() <= other.labels.items()
        for service in world.services
    )


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
