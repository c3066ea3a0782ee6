"""Scraping, queries and alerts: names and labels that there are, and rules in step."""

from collections.abc import Iterator

from manifests.check import metrics, promql, recording
from manifests.check.objects import Json, Object, World, dig

# What the dashboard tells pools and prices by, and what queries tell pools and services by.
RELABELLED = ("node", "capacity_type", "instance_type", "inferenceservice", "service")
_NODE_LABEL = "__meta_kubernetes_node_label_"
_SPOT_SOURCES = {  # Prometheus keeps the case of a label
    "karpenter_sh_capacity_type",
    "eks_amazonaws_com_capacityType",
    "cloud_google_com_gke_spot",
    "kubernetes_azure_com_scalesetpriority",
}


def scraped_with_nodes(world: World) -> Iterator[str]:
    for each in world.of("PodMonitor"):
        if each.get("spec", "attachMetadata", "node") is not True:
            yield f"{each}: attachMetadata.node must be true: no labels of nodes without."
        for endpoint in each.get("spec", "podMetricsEndpoints") or ():
            rules = endpoint.get("relabelings", ())
            made = {rule.get("targetLabel") for rule in rules}
            for label in RELABELLED:
                if label not in made:
                    yield f"{each}: no relabeling makes the label {label}."
            sources = {
                source.removeprefix(_NODE_LABEL)
                for rule in rules
                for source in rule.get("sourceLabels", ())
                if rule.get("targetLabel") == "capacity_type"
            }
            for source in sorted(_SPOT_SOURCES - sources):
                yield f"{each}: capacity_type is not made from {_NODE_LABEL}{source}."


def series_exist(world: World) -> Iterator[str]:
    """Every series of a query, with labels that it has."""
    exported, recorded = metrics.exported(), metrics.recorded(world)
    for whose, query in _queries(world):
        try:
            found = promql.selectors(query)
        except promql.PromqlError as error:
            yield f"{whose}: query: {error}."
            continue
        for selector in found:
            labels = exported.get(selector.metric)
            if labels is None and selector.metric not in recorded | metrics.OUTSIDE:
                yield f"{whose}: nothing exports or records {selector.metric}."
            if labels is None:
                continue
            for matcher in selector.matchers:
                if matcher.label not in labels | metrics.TARGET_LABELS:
                    yield f"{whose}: {selector.metric} has no label {matcher.label}."


def groups_exist(world: World) -> Iterator[str]:
    """Labels to aggregate by are those of some metric, or of the target."""
    known = metrics.TARGET_LABELS.union(*metrics.exported().values()) | {"headway_pool"}
    for whose, query in _queries(world):
        try:
            unknown = promql.grouping_labels(query) - known
        except promql.PromqlError:  # series_exist tells it
            continue
        for label in sorted(unknown):
            yield f"{whose}: aggregates by {label}, which no series has."


def recording_in_step(world: World) -> Iterator[str]:
    """With the dashboard, which reads them by name."""
    rules = world.of("PrometheusRule")
    if not rules:
        return
    found = [each for each in rules if each.name == recording.NAME]
    if not found or found[0].get("spec", "groups") != recording.groups():
        yield (
            f"PrometheusRule {recording.NAME}: is not what the dashboard reads; run python -m"
            " manifests.check.recording > manifests/overlays/monitoring/recording.yaml."
        )


def alerts_tell(world: World) -> Iterator[str]:
    for each, rule in _rules(world):
        if "alert" not in rule:
            continue
        name = f"{each}: alert {rule['alert']}"
        if dig(rule, "labels", "severity") not in ("critical", "warning"):
            yield f"{name}: severity must be critical or warning."
        for text in ("summary", "description"):
            if not dig(rule, "annotations", text):
                yield f"{name}: has no {text}."


def _queries(world: World) -> Iterator[tuple[str, str]]:
    """Whose each is, and its text."""
    for each, rule in _rules(world):
        yield f"{each}: {rule.get('alert') or rule.get('record')}", str(rule.get("expr", ""))
    for each in world.of("ScaledObject"):
        for trigger in each.get("spec", "triggers") or ():
            query = dig(trigger, "metadata", "query")
            if query:
                yield f"{each}: trigger {trigger.get('name')}", str(query)


def _rules(world: World) -> Iterator[tuple[Object, Json]]:
    for each in world.of("PrometheusRule"):
        for group in each.get("spec", "groups") or ():
            for rule in group.get("rules", ()):
                yield each, rule
