"""What triggers ask: the demand of pools that are there, once, and the backlog where jobs wait."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from manifests.check import promql
from manifests.check.objects import POOL_LABEL, Json, Object, World, dig
from manifests.check.rules import serving
from manifests.check.rules.keda import target_of, triggers_of
from manifests.check.rules.network import complaint_about_address

_DEMAND = ("headway_queue_depth", "headway_offered_load_ratio")


def demand(world: World) -> Iterator[str]:
    """Queue depth, and offered load, which still tells the demand that shedding hides."""
    for each in world.of("ScaledObject"):
        read = {
            selector.metric
            for trigger in each.get("spec", "triggers") or ()
            for selector in _selectors(trigger)
        }
        for metric in _DEMAND:
            if metric not in read:
                yield f"{each}: no trigger reads {metric}."


def queries(world: World) -> Iterator[str]:
    """One element each, of this namespace, of pools that are there."""
    pools = {pods.labels[POOL_LABEL] for pods in world.predictors}
    for each, trigger in triggers_of(world, "prometheus"):
        name = f"{each}: trigger {trigger.get('name')}"
        found = _selectors(trigger)
        if found and not promql.answers_one_element(_query(trigger)):
            yield f"{name}: its query may answer several elements, which KEDA takes for an error."
        for selector in found:
            space, pool = selector.matcher("namespace"), selector.matcher("inferenceservice")
            if space is None or (space.operator, space.value) != ("=", each.namespace):
                yield f'{name}: {selector.metric} needs namespace="{each.namespace}".'
            if pool is None or not set(pool.alternatives) <= pools:
                yield f"{name}: {selector.metric} needs inferenceservice, one of {_listed(pools)}."


def bulk_left_out(world: World) -> Iterator[str]:
    """Bulk rows wait by design: where nothing else is asked, they would scale for ever."""
    for each, trigger in triggers_of(world, "prometheus"):
        pods = target_of(world, each)
        parameters = serving.parameters_of(world, pods) if pods else None
        if parameters is None:
            continue
        patient = {name for name, tier in parameters.tiers.items() if tier.slo_ms is None}
        for selector in _selectors(trigger):
            tier = selector.matcher("tier")
            named = set(tier.alternatives) if tier else set()
            if tier and not named <= parameters.tiers.keys():
                yield (
                    f"{each}: trigger {trigger.get('name')}: the parameters have no tier"
                    f" {_listed(named - parameters.tiers.keys())}."
                )
            without_bulk = tier and tier.operator in ("!=", "!~") and patient <= named
            bulk_alone = tier and tier.operator in ("=", "=~") and named <= patient
            if selector.metric in _DEMAND and not (without_bulk or bulk_alone):
                yield (
                    f"{each}: trigger {trigger.get('name')}: {selector.metric} must leave out the"
                    f" tiers without an SLO ({_listed(patient)}), or be of them alone."
                )


def floor_in_step(world: World) -> Iterator[str]:
    """A query may take off `threshold * clamp_max(replicas of a pool, its minimum)`."""
    least = {
        each.get("spec", "scaleTargetRef", "name"): each.get("spec", "minReplicaCount")
        for each in world.of("ScaledObject")
    }
    for each, trigger in triggers_of(world, "prometheus"):
        text, selectors = _query(trigger), _selectors(trigger)
        if not selectors or " clamp_max(" not in text:
            continue
        name = f"{each}: trigger {trigger.get('name')}"
        factor = text.partition(" * clamp_max(")[0].split()[-1]
        threshold = dig(trigger, "metadata", "threshold")
        if factor != threshold:
            yield f"{name}: takes off {factor} for each replica, but its threshold is {threshold}."
        pool = selectors[-1].matcher("inferenceservice")
        minimum = least.get(f"{pool.value}-predictor") if pool else None
        if f"or vector(0), {minimum})" not in text:
            yield f"{name}: must take off {minimum} replicas at most, the minimum of that pool."


def backlog(world: World) -> Iterator[str]:
    """The sorted set that jobs wait in, asked as the predictor asks, from KEDA's namespace."""
    for each, trigger in triggers_of(world, "redis"):
        name = f"{each}: trigger {trigger.get('name')}"
        metadata: Json = trigger.get("metadata") or {}
        address = str(metadata.get("address", ""))
        problem = complaint_about_address(world, address, each.namespace, from_elsewhere=True)
        if problem:
            yield f"{name}: address: {problem}."
        pods = target_of(world, each)
        settings = serving.settings_of(pods) if pods else None
        if settings is None:
            continue
        keys = {f"headway:model:{model.name}:queue" for model in settings.models}
        if metadata.get("listName") not in keys:
            yield f"{name}: listName must be {_listed(keys)}."
        redis = urlsplit(settings.redis_url)
        if (redis.netloc, redis.path.strip("/") or "0") != (
            address,
            metadata.get("databaseIndex", "0"),
        ):
            yield f"{name}: asks {address}, but --redis_url is another Redis or database."


def backlog_opened(world: World) -> Iterator[str]:
    """By the password that Redis itself has."""
    used = {
        (secret.get("name"), secret.get("key"))
        for pods in world.all_pods
        if "redis" in pods.ports
        for variable in pods.variables
        if (secret := dig(variable, "valueFrom", "secretKeyRef"))
    }
    for each, trigger in triggers_of(world, "redis"):
        name = f"{each}: trigger {trigger.get('name')}"
        reference = str(dig(trigger, "authenticationRef", "name"))
        found = world.find("TriggerAuthentication", reference, each.namespace)
        if found is None:
            yield f"{name}: there is no TriggerAuthentication {reference}."
        elif used.isdisjoint(_passwords(found)):
            yield f"{name}: {found} does not give the password that Redis has."


def _passwords(given: Object) -> Sequence[tuple[str, str]]:
    secrets = given.get("spec", "secretTargetRef") or ()
    return [(one.get("name"), one.get("key")) for one in secrets if one["parameter"] == "password"]


def _query(trigger: Json) -> str:
    """On one line."""
    return " ".join(str(dig(trigger, "metadata", "query") or "").split())


def _selectors(trigger: Json) -> Sequence[promql.Selector]:
    """None where the query is not understood, which monitoring.series_exist tells."""
    try:
        return promql.selectors(_query(trigger))
    except promql.PromqlError:
        return ()


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
