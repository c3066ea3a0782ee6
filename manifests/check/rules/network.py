"""Who finds whom: selectors, ports, addresses, and policies that let it through."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from manifests.check.objects import RUNS_ONCE, Json, Object, Pods, World, matches

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
PROMETHEUS = "monitoring"  # the namespaces of what others install
KEDA = "keda"
OUTSIDE: Mapping[tuple[str, str], frozenset[int]] = {
    ("prometheus-operated", PROMETHEUS): frozenset({9090}),
}
API_PORTS = (443, 6443)
_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


def services_select(world: World) -> Iterator[str]:
    for each in world.of("Service"):
        selected = _selected(world, each.get("spec", "selector") or {"": ""}, each.namespace)
        if not selected:
            yield f"{each}: its selector finds no pods."
        for port in each.get("spec", "ports") or ():
            target = port.get("targetPort", port["port"])
            for pods in selected:
                if pods.port(target) is None:
                    yield f"{each}: port {port['port']} leads to {target}, which {pods} lacks."
            if "grpc" in str(port.get("name", "")) and "h2c" not in str(port.get("appProtocol")):
                yield f"{each}: port {port['port']} needs appProtocol kubernetes.io/h2c for gRPC."


def budgets_select(world: World) -> Iterator[str]:
    """Each workload has one of its own; and one replica must not hold a node for ever."""
    for each in world.of("PodDisruptionBudget"):
        selected = world.selected(each.get("spec", "selector"))
        if len(selected) != 1:
            names = ", ".join(map(str, selected)) or "no pods"
            yield f"{each}: must select the pods of one workload; it selects {names}."
        if not each.get("spec", "maxUnavailable"):
            yield f"{each}: set maxUnavailable: minAvailable holds the node of one replica."
    budgets = world.of("PodDisruptionBudget")
    for pods in world.predictors:
        if not any(matches(each.get("spec", "selector"), pods.labels) for each in budgets):
            yield f"{pods}: no PodDisruptionBudget selects its pods."


def policies_select(world: World) -> Iterator[str]:
    for each in world.of("NetworkPolicy"):
        selected = world.selected(each.get("spec", "podSelector"))
        if not selected:
            yield f"{each}: its podSelector finds no pods."
        for rule in each.get("spec", "ingress") or ():
            for port in rule.get("ports", ()):
                for pods in selected:
                    if pods.port(port["port"]) is None:
                        yield f"{each}: lets in to port {port['port']}, which {pods} lacks."
    for pods in world.pods:
        if pods.owner.kind not in RUNS_ONCE and not _policies(world, pods, "Ingress"):
            yield f"{pods}: no NetworkPolicy says who may reach it."


def connections_allowed(world: World) -> Iterator[str]:
    """From a pod or a namespace of others to a pod of ours, as policies have it."""
    for pods in world.predictors:
        if not _enters(world, PROMETHEUS, {}, pods, "http"):
            yield f"{pods}: no NetworkPolicy lets Prometheus in from namespace {PROMETHEUS}."
        for container in pods.containers:
            for argument in container.get("args", ()):
                if str(argument).startswith("--redis_url="):
                    yield from _to_redis(world, pods)
    for scaled in world.of("ScaledObject"):
        if not any(trigger.get("type") == "redis" for trigger in scaled.get("spec", "triggers")):
            continue
        for redis in _redis(world):
            if not _enters(world, KEDA, {}, redis, "redis"):
                yield f"{scaled}: no NetworkPolicy lets KEDA in from namespace {KEDA} to {redis}."


def outside_reached(world: World) -> Iterator[str]:
    """The Kubernetes API by whoever has a token, and Prometheus by whoever names it."""
    for pods in world.pods:
        if pods.spec.get("automountServiceAccountToken") and not any(
            _leaves_for(world, pods, "", port) for port in API_PORTS
        ):
            yield f"{pods}: no NetworkPolicy lets it out to the Kubernetes API, port 443."
        for address in (urlsplit(str(each.get("value", ""))) for each in pods.variables):
            host, namespace, *_ = f"{address.hostname}..".split(".")
            if (host, namespace) not in OUTSIDE or not address.port:
                continue
            if not _leaves_for(world, pods, namespace, address.port):
                yield (
                    f"{pods}: no NetworkPolicy lets it out to namespace {namespace}, port"
                    f" {address.port}."
                )


def _to_redis(world: World, pods: Pods) -> Iterator[str]:
    for redis in _redis(world):
        if not _enters(world, pods.namespace, pods.labels, redis, "redis"):
            yield f"{pods}: no NetworkPolicy lets it in to {redis}."
        if not _leaves(world, pods, redis, "redis"):
            yield f"{pods}: no NetworkPolicy lets it out to {redis}."


def monitors_select(world: World) -> Iterator[str]:
    for each in world.of("PodMonitor"):
        selected = world.selected(each.get("spec", "selector"))
        if not selected:
            yield f"{each}: its selector finds no pods."
        for endpoint in each.get("spec", "podMetricsEndpoints") or ():
            for pods in selected:
                if endpoint.get("port") not in pods.ports:
                    yield f"{each}: scrapes port {endpoint.get('port')}, which {pods} lacks."
    monitors = world.of("PodMonitor")
    for pods in world.predictors if world.of("ScaledObject") else ():
        if not any(matches(each.get("spec", "selector"), pods.labels) for each in monitors):
            yield f"{pods}: no PodMonitor scrapes its pods, so nothing could scale them."


def addresses_exist(world: World) -> Iterator[str]:
    """URLs in ConfigMaps of settings, and in variables."""
    for each in world.of("ConfigMap"):
        for key in ("URL", "GRPC"):
            address = (each.get("data") or {}).get(key)
            problem = address and complaint_about_address(world, address, each.namespace)
            if problem:
                yield f"{each}: {key}: {problem}."
    for pods in world.pods:
        for variable in pods.variables:
            value = str(variable.get("value", ""))
            if value.startswith(("http://", "https://")):
                problem = complaint_about_address(world, value, pods.namespace)
                if problem:
                    yield f"{pods}: {variable['name']}: {problem}."


def complaint_about_address(
    world: World, address: str, namespace: str, *, from_elsewhere: bool = False
) -> str | None:
    """Why `host:port` or a URL leads nowhere. `from_elsewhere`: asked from another namespace."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    host, *rest = (parts.hostname or "").split(".")
    if from_elsewhere and not rest:
        return f"{address}: asked from another namespace, so it must be {host}.{namespace}.svc"
    if rest[1:2] not in ([], ["svc"]):
        return f"{address}: is no Service; write NAME.NAMESPACE.svc"
    where = rest[0] if rest else namespace
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    found = [s.ports for s in world.services if (s.name, s.namespace) == (host, where)]
    known = {*OUTSIDE.get((host, where), ()), *(number for ports in found for number in ports)}
    if not known:
        return f"there is no Service {host} in namespace {where}"
    if port not in known:
        return f"Service {host} has no port {port}, but {', '.join(map(str, sorted(known)))}"
    return None


def _selected(world: World, selector: Mapping[str, str], namespace: str) -> Sequence[Pods]:
    found = world.selected({"matchLabels": selector})
    return [pods for pods in found if pods.namespace == namespace]


def _redis(world: World) -> Sequence[Pods]:
    return [pods for pods in world.all_pods if "redis" in pods.ports]


def _policies(world: World, pods: Pods, direction: str) -> Sequence[Object]:
    return [
        each
        for each in world.all
        if each.kind == "NetworkPolicy"
        and each.namespace == pods.namespace
        and direction in (each.get("spec", "policyTypes") or ())
        and matches(each.get("spec", "podSelector"), pods.labels)
    ]


def _allowed(world: World, pods: Pods, direction: str, fits: Callable[[Json], bool]) -> bool:
    """Whether a rule of the pods' policies for this direction fits; without a policy, all is."""
    policies = _policies(world, pods, direction)
    rules = (rule for each in policies for rule in each.get("spec", direction.lower()) or ())
    return not policies or any(map(fits, rules))


def _enters(world: World, namespace: str, labels: Mapping[str, str], pods: Pods, port: str) -> bool:
    def fits(rule: Json) -> bool:
        peers = rule.get("from")
        return _has_port(rule, pods, port) and _has_peer(peers, namespace, labels, pods.namespace)

    return _allowed(world, pods, "Ingress", fits)


def _leaves(world: World, pods: Pods, to: Pods, port: str) -> bool:
    def fits(rule: Json) -> bool:
        peers = rule.get("to")
        return _has_port(rule, to, port) and _has_peer(
            peers, to.namespace, to.labels, pods.namespace
        )

    return _allowed(world, pods, "Egress", fits)


def _leaves_for(world: World, pods: Pods, namespace: str, port: int) -> bool:
    """To something outside of what is known here: a namespace, or an address (no namespace)."""

    def fits(rule: Json) -> bool:
        ports = [each["port"] for each in rule.get("ports", ({"port": port},))]
        return port in ports and _has_peer(rule.get("to"), namespace, {}, pods.namespace)

    return _allowed(world, pods, "Egress", fits)


def _has_port(rule: Json, pods: Pods, name: str) -> bool:
    wanted = pods.port(name)
    ports = rule.get("ports")
    return ports is None or any(pods.port(port["port"]) == wanted for port in ports)


def _has_peer(
    peers: Sequence[Json] | None, namespace: str, labels: Mapping[str, str], own: str
) -> bool:
    """Whether one of them is a pod with these labels in that namespace."""
    if peers is None:
        return True
    for peer in peers:
        spaces, selector = peer.get("namespaceSelector"), peer.get("podSelector")
        there = matches(spaces, {NAMESPACE_LABEL: namespace}) if spaces else namespace == own
        if there and (selector is None or matches(selector, labels)):
            return True
    return False
