"""On which nodes pods may run: spot or not on every platform, and spread."""

from collections.abc import Iterator, Mapping, Sequence

from manifests.check.objects import Json, Pods, World, dig, matches

SPOT: Mapping[str, str] = {
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
TAINTED = ("kubernetes.azure.com/scalesetpriority", "cloud.google.com/gke-spot")
SHORTEST_NOTICE_S = 15  # GKE leaves so much of its 30 s to pods


def spot_everywhere(world: World) -> Iterator[str]:
    """The label of each platform, in its own case, each in a term of its own: terms are ORed."""
    for pods in world.pods:
        if not is_spot(pods):
            continue
        for key, value in SPOT.items():
            wanted = {"key": key, "operator": "In", "values": [value]}
            if [wanted] not in [term.get("matchExpressions") for term in _terms(pods)]:
                yield f"{pods}: on spot, a term of its affinity must be {key} In [{value}] alone."
        for key in TAINTED:
            if not any(_tolerates(each, key) for each in pods.spec.get("tolerations", ())):
                yield f"{pods}: on spot, it must tolerate {key}={SPOT[key]}:NoSchedule."
        grace_s = pods.spec.get("terminationGracePeriodSeconds", 30)
        if grace_s > SHORTEST_NOTICE_S:
            yield (
                f"{pods}: terminationGracePeriodSeconds is {grace_s}, but a spot node may leave"
                f" {SHORTEST_NOTICE_S} s."
            )


def on_demand_everywhere(world: World) -> Iterator[str]:
    """All in one term: a second one would be an alternative."""
    for pods in world.pods:
        kept_off = {
            each["key"]
            for term in _terms(pods)
            for each in term.get("matchExpressions", ())
            if each["key"] in SPOT and each["operator"] == "NotIn"
        }
        if not kept_off:
            continue
        wanted = [{"key": k, "operator": "NotIn", "values": [v]} for k, v in SPOT.items()]
        terms = [term.get("matchExpressions", ()) for term in _terms(pods)]
        if len(terms) != 1 or any(each not in terms[0] for each in wanted):
            yield f"{pods}: to stay off spot, one term must have NotIn for {', '.join(SPOT)}."


def spread(world: World) -> Iterator[str]:
    """Replicas over zones and nodes, counted among themselves."""
    for pods in world.predictors:
        constraints = pods.spec.get("topologySpreadConstraints", ())
        keys = {each.get("topologyKey") for each in constraints}
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname"):
            if key not in keys:
                yield f"{pods}: has no topologySpreadConstraint over {key}."
        for each in constraints:
            if not matches(each.get("labelSelector"), pods.labels):
                yield f"{pods}: the spread over {each.get('topologyKey')} does not select its pods."


def gpu_tolerated(world: World) -> Iterator[str]:
    for pods in world.predictors:
        wanted = any(
            dig(container, "resources", "limits", "nvidia.com/gpu") for container in pods.containers
        )
        tolerations = pods.spec.get("tolerations", ())
        if wanted and not any(each.get("key") == "nvidia.com/gpu" for each in tolerations):
            yield f"{pods}: asks for a GPU, but does not tolerate the taint nvidia.com/gpu."


def is_spot(pods: Pods) -> bool:
    return any(
        each.get("key") in SPOT and each.get("operator") == "In"
        for term in _terms(pods)
        for each in term.get("matchExpressions", ())
    )


def _terms(pods: Pods) -> Sequence[Json]:
    kind = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = dig(pods.spec, "affinity", "nodeAffinity", kind, "nodeSelectorTerms")
    return terms if isinstance(terms, list) else ()


def _tolerates(toleration: Json, key: str) -> bool:
    if toleration.get("key") != key or toleration.get("effect") not in (None, "NoSchedule"):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value") == SPOT[key]
