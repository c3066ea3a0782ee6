"""Series that there are, and the labels that each has."""

from collections.abc import Mapping, Sequence

from dashboard.sources.rules import rule_file
from manifests.check.objects import World
from predictor.metrics import names

# What the PodMonitor and Prometheus put on every series of a pod; `engine` where there are several.
TARGET_LABELS = {"namespace", "pod", "container", "job", "instance", "endpoint", "engine", "pool"}
TARGET_LABELS |= {"inferenceservice", "service", "node", "instance_type", "capacity_type"}
# Of Prometheus itself and kube-state-metrics.
OUTSIDE = {"up", "kube_pod_container_status_restarts_total"}
_OF_HISTOGRAM = ("_bucket", "_sum", "_count")


def exported() -> Mapping[str, frozenset[str]]:
    """Labels by the name of each series that a predictor has."""
    found: dict[str, frozenset[str]] = {}
    for metric in vars(names).values():
        if not isinstance(metric, names.Metric):
            continue
        labels = frozenset(metric.labels)
        if metric.buckets:
            found |= {f"{metric.name}{ending}": labels | {"le"} for ending in _OF_HISTOGRAM}
        else:
            found[metric.name] = labels
    return found


def recorded(world: World) -> set[str]:
    """Names that recording rules make, those of the dashboard too."""
    own: Sequence[str] = [
        rule["record"]
        for each in world.all
        if each.kind == "PrometheusRule"
        for group in each.get("spec", "groups") or ()
        for rule in group.get("rules", ())
        if "record" in rule
    ]
    return {*own, *(line.split()[-1] for line in rule_file().splitlines() if "record:" in line)}
