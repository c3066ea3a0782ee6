"""The dashboard's environment: variables that it reads, with values it takes."""

from collections.abc import Iterator, Mapping

from dashboard.ports import Refused
from dashboard.settings import (
    HOSTS,
    NAMESPACE,
    PARAMETERS,
    PROMETHEUS,
    USER_HEADER,
    VARIABLES,
    read_settings,
)
from manifests.check.objects import Pods, World, dig

PREFIX = "HEADWAY_"
NAME = "headway-dashboard"


def environment(world: World) -> Iterator[str]:
    known = {variable.name for variable in VARIABLES}
    for pods in _dashboards(world):
        env = _env(pods)
        for name in sorted(name for name in env if name.startswith(PREFIX) and name not in known):
            yield f"{pods}: the dashboard reads no {name}."
        try:
            # The service account of a pod tells its namespace.
            given = {name: value for name, value in env.items() if name in known}
            read_settings({**given, NAMESPACE.name: pods.namespace})
        except Refused as refusal:
            yield f"{pods}: the dashboard refuses its variables: {refusal}"
        if env.get(USER_HEADER.name) and not env.get(HOSTS.name):
            yield f"{pods}: {USER_HEADER.name} needs {HOSTS.name}: the name that the proxy serves."
        kind, _, name = env.get(PARAMETERS.name, "").partition(":")
        if kind != "configmap" or world.find("ConfigMap", name, pods.namespace) is None:
            yield f"{pods}: {PARAMETERS.name} must be configmap:NAME of one that is there."


def same_prometheus(world: World) -> Iterator[str]:
    """Scaling and dashboard see the same series."""
    asked = {
        str(dig(trigger, "metadata", "serverAddress"))
        for each in world.all
        if each.kind == "ScaledObject"
        for trigger in each.get("spec", "triggers") or ()
        if trigger.get("type") == "prometheus"
    }
    for pods in _dashboards(world):
        address = _env(pods).get(PROMETHEUS.name)
        if asked and asked != {address}:
            yield f"{pods}: reads {address}, but triggers read {', '.join(sorted(asked))}."


def _dashboards(world: World) -> Iterator[Pods]:
    for pods in world.pods:
        if pods.labels.get("app.kubernetes.io/name") == NAME:
            yield pods


def _env(pods: Pods) -> Mapping[str, str]:
    return {each["name"]: str(each.get("value", "")) for each in pods.variables}
