"""Kubernetes objects as they are applied, and the pods that will be made of them.

Nothing here reads files or asks a cluster; what KServe makes of an InferenceService is foretold by
the rules of its release 0.20.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Json = Mapping[str, Any]
RUNS_ONCE = ("Job", "TestRun")  # and serves nobody
KSERVE_CONTAINER = "kserve-container"
POOL_LABEL = "serving.kserve.io/inferenceservice"


@dataclass(frozen=True)
class Object:
    """One document. Reads as `Deployment headway-dashboard`."""

    data: Json

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", ""))

    @property
    def api(self) -> str:
        return str(self.data.get("apiVersion", ""))

    @property
    def name(self) -> str:
        return str(self.get("metadata", "name") or "")

    @property
    def namespace(self) -> str:
        return str(self.get("metadata", "namespace") or "")

    @property
    def labels(self) -> Mapping[str, str]:
        return self.get("metadata", "labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.get("metadata", "annotations") or {}

    def get(self, *path: str | int) -> Any:
        return dig(self.data, *path)


def dig(value: Any, *path: str | int) -> Any:
    """What is there under the keys and indices, or None."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


@dataclass(frozen=True)
class Pods:
    """The pods of one workload. `name` is that of the Deployment or the like."""

    owner: Object
    name: str
    labels: Mapping[str, str]
    spec: Json

    def __str__(self) -> str:
        return str(self.owner)

    @property
    def namespace(self) -> str:
        return self.owner.namespace

    @property
    def containers(self) -> Sequence[Json]:
        return [*self.spec.get("initContainers", ()), *self.spec.get("containers", ())]

    @property
    def variables(self) -> Sequence[Json]:
        """Of the environment of all containers."""
        return [each for container in self.containers for each in container.get("env", ())]

    @property
    def ports(self) -> Mapping[str, int]:
        """By name."""
        return {
            str(port.get("name", "")): int(port["containerPort"])
            for container in self.containers
            for port in container.get("ports", ())
        }

    def port(self, named: str | int) -> int | None:
        """A port's number, by its name or by itself."""
        if isinstance(named, int):
            return named if named in self.ports.values() else None
        return self.ports.get(named)


@dataclass(frozen=True)
class World:
    """What is applied together (`own`), and what is applied beside it (`around`)."""

    own: Sequence[Object]
    around: Sequence[Object] = field(default=())

    @cached_property
    def all(self) -> Sequence[Object]:
        return (*self.own, *self.around)

    @cached_property
    def pods(self) -> Sequence[Pods]:
        """Of what is applied."""
        return [pods for each in self.own for pods in _pods_of(each, self)]

    @cached_property
    def all_pods(self) -> Sequence[Pods]:
        return [pods for each in self.all for pods in _pods_of(each, self)]

    @cached_property
    def predictors(self) -> Sequence[Pods]:
        return [pods for pods in self.pods if pods.owner.kind == "InferenceService"]

    def selected(self, selector: Json | None) -> Sequence[Pods]:
        """Those of what is applied that a label selector finds."""
        return [pods for pods in self.pods if matches(selector, pods.labels)]

    def of(self, *kinds: str) -> Sequence[Object]:
        return [each for each in self.own if each.kind in kinds]

    def find(self, kind: str, name: str, namespace: str) -> Object | None:
        """Also beside what is applied."""
        for each in self.all:
            if (each.kind, each.name, each.namespace) == (kind, name, namespace):
                return each
        return None

    @cached_property
    def services(self) -> Sequence["Service"]:
        """Those that are there, and those that KServe makes."""
        found = [_service(each) for each in self.all if each.kind == "Service"]
        return [*found, *(_kserve_service(pods) for pods in self.all_pods if pods.ports)]


@dataclass(frozen=True)
class Service:
    """`ports`: the number that clients call, to the pod's port by name or number."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    ports: Mapping[int, str | int]


def _service(given: Object) -> Service:
    ports = {
        int(port["port"]): port.get("targetPort", port["port"])
        for port in given.get("spec", "ports") or ()
    }
    return Service(given.name, given.namespace, given.get("spec", "selector") or {}, ports)


def _kserve_service(pods: Pods) -> Service:
    """The first port becomes 80, the others stay as they are."""
    if pods.owner.kind != "InferenceService":
        return Service("", "", {}, {})
    first, *others = pods.ports.values()
    ports: dict[int, str | int] = {80: first}
    ports.update((number, number) for number in others)
    return Service(pods.name, pods.namespace, {"app": pods.labels["app"]}, ports)


def _pods_of(given: Object, world: World) -> Iterator[Pods]:
    match given.kind:
        case "Deployment" | "StatefulSet" | "Job":
            template = given.get("spec", "template") or {}
            labels = dig(template, "metadata", "labels") or {}
            yield Pods(given, given.name, labels, template.get("spec", {}))
        case "InferenceService":
            yield _kserve_pods(given, world)
        case "TestRun":
            for part in ("runner", "initializer"):
                yield _k6_pods(given, part)


def _k6_pods(given: Object, part: str) -> Pods:
    """The k6 operator's pods have one container, whose fields lie beside those of the pod."""
    pod: Json = given.get("spec", part) or {}
    container = {
        key: pod[key] for key in ("image", "resources", "volumeMounts", "envFrom") if key in pod
    }
    container |= {"name": part, "securityContext": pod.get("containerSecurityContext") or {}}
    token = {"true": True, "false": False}.get(str(pod.get("automountServiceAccountToken")))
    spec = {**pod, "containers": [container], "automountServiceAccountToken": token}
    labels = dig(pod, "metadata", "labels") or {}
    return Pods(given, f"{given.name}-{part}", labels, spec)


def _kserve_pods(given: Object, world: World) -> Pods:
    predictor: Json = given.get("spec", "predictor") or {}
    name = f"{given.name}-predictor"
    runtime: Json = {}
    spec = predictor
    model = predictor.get("model")
    if model is not None:
        found = world.find("ServingRuntime", str(model.get("runtime", "")), given.namespace)
        runtime = found.data.get("spec", {}) if found is not None else {}
        spec = _merged(runtime, predictor, model, given.name)
    labels = {
        **(runtime.get("labels") or {}),
        **given.labels,
        **(predictor.get("labels") or {}),
        "app": f"isvc.{name}",
        POOL_LABEL: given.name,
        "component": "predictor",
    }
    return Pods(given, name, labels, spec)


def _merged(runtime: Json, predictor: Json, model: Json, name: str) -> Json:
    """A runtime's pod with what the InferenceService adds: args go behind, the rest goes first."""
    containers = []
    for container in runtime.get("containers", ()):
        merged = dict(container)
        if container.get("name") == KSERVE_CONTAINER:
            own = {key: model[key] for key in ("resources", "env") if key in model}
            merged |= own | {"args": [*container.get("args", ()), *model.get("args", ())]}
        filled = json.dumps(merged).replace("{{.Name}}", name)
        containers.append(json.loads(filled))
    pod = {key: value for key, value in runtime.items() if key in ("volumes", "tolerations")}
    return {**pod, **predictor, "containers": containers}


def matches(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """A label selector. An empty one matches all, none (None) nothing."""
    if selector is None:
        return False
    exact = all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return exact and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
