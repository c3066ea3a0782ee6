"""Broken networks and scaling."""

from manifests.check.rules import keda, network, scaling
from tests.manifests.breaking import drop, put, text
from tests.manifests.example import (
    BEHAVIOR,
    DASHBOARD,
    MONITOR,
    ONE,
    PAIR,
    POD,
    POLICY,
    QUERY,
    SCALED,
    SPOT_SCALED,
    TRIGGERS,
    of,
)

NETWORK = [
    *of(
        network.services_select,
        (
            *(PAIR, "Service topics"),
            put("spec", "selector", "app.kubernetes.io/instance", "x"),
            "its selector finds no pods",
        ),
        (PAIR, "Service topics", put("spec", "ports", 0, "targetPort", "web"), "leads to web"),
        (PAIR, "Service topics", drop("spec", "ports", 1, "appProtocol"), "for gRPC"),
    ),
    *of(
        network.budgets_select,
        (
            *(PAIR, "PodDisruptionBudget topics-spot-predictor"),
            put("spec", "selector", "matchLabels", {"app.kubernetes.io/instance": "topics"}),
            "it selects InferenceService topics-on-demand, InferenceService topics-spot",
        ),
        (PAIR, "PodDisruptionBudget topics-spot-predictor", None, "no PodDisruptionBudget selects"),
        (
            *(ONE, "PodDisruptionBudget topics-predictor"),
            lambda data: data["spec"].update(minAvailable=data["spec"].pop("maxUnavailable")),
            "set maxUnavailable",
        ),
    ),
    *of(
        network.policies_select,
        (ONE, POLICY, None, "no NetworkPolicy says who may reach it"),
        (ONE, POLICY, put("spec", "ingress", 0, "ports", 0, "port", "web"), "lets in to port web"),
        (
            *(ONE, POLICY),
            put("spec", "podSelector", "matchLabels", "app.kubernetes.io/name", "x"),
            "finds no pods",
        ),
    ),
    *of(
        network.connections_allowed,
        (ONE, POLICY, drop("spec", "ingress", 1), "lets Prometheus in"),
        (PAIR, POLICY, drop("spec", "egress", 2), "lets it out to StatefulSet headway-redis"),
        (
            *(PAIR, "NetworkPolicy headway-redis"),
            drop("spec", "ingress", 0, "from", 1),
            "lets KEDA in",
        ),
        (PAIR, "NetworkPolicy headway-redis", drop("spec", "ingress", 0, "from", 0), "lets it in"),
    ),
    *of(
        network.outside_reached,
        (ONE, POLICY, drop("spec", "egress", 1), "out to the Kubernetes API, port 443"),
        (
            *("overlays/dashboard", "NetworkPolicy headway-dashboard"),
            put("spec", "egress", 2, "ports", 0, "port", 9091),
            "out to namespace monitoring, port 9090",
        ),
    ),
    *of(
        network.monitors_select,
        (
            *(ONE, MONITOR),
            put("spec", "podMetricsEndpoints", 0, "port", "metrics"),
            "scrapes port metrics",
        ),
        (ONE, MONITOR, None, "no PodMonitor scrapes its pods"),
        (ONE, MONITOR, put("spec", "selector", "matchLabels", {"app": "x"}), "finds no pods"),
    ),
    *of(
        network.addresses_exist,
        (
            *("overlays/loadtest", "ConfigMap loadtest-settings"),
            put("data", "URL", "http://topic-predictor"),
            "there is no Service topic-predictor",
        ),
        (
            *("overlays/loadtest", "ConfigMap loadtest-settings"),
            put("data", "GRPC", "topics-predictor:9081"),
            "has no port 9081, but 80, 8081",
        ),
        (
            *("overlays/dashboard", DASHBOARD),
            put(*POD, "containers", 0, "env", 0, "value", "http://prometheus.monitoring:9090"),
            "there is no Service prometheus",
        ),
    ),
]

KEDA = [
    *of(
        keda.target,
        (ONE, SCALED, put("spec", "scaleTargetRef", "name", "topics"), "no Deployment topics"),
        (
            *(PAIR, SPOT_SCALED),
            put("spec", "scaleTargetRef", "name", "topics-on-demand-predictor"),
            "is scaled by ScaledObject topics-on-demand-predictor already",
        ),
        (ONE, MONITOR, put("kind", "HorizontalPodAutoscaler"), "KEDA makes its own"),
    ),
    *of(
        keda.limits,
        (ONE, SCALED, put("spec", "minReplicaCount", 0), "no trigger reads what is there"),
        ("overlays/spot", SCALED, put("spec", "minReplicaCount", 0), "no other pool stands"),
        (ONE, SCALED, put("spec", "minReplicaCount", 9), "the first no higher"),
        (PAIR, "Service topics", None, "no other pool stands behind its Service"),
    ),
    *of(
        keda.triggers_named,
        (ONE, SCALED, drop(*TRIGGERS, 0, "name"), "a name of its own"),
        (ONE, SCALED, put(*TRIGGERS, 0, "name", "offered-load"), "a name of its own"),
    ),
    *of(
        keda.triggers_read,
        (ONE, SCALED, put(*TRIGGERS, 0, "metadata", "metricName", "x"), "reads no metricName"),
        (ONE, SCALED, put(*TRIGGERS, 0, "metadata", "threshold", "many"), "is no number"),
        (ONE, SCALED, drop(*TRIGGERS, 0, "metadata", "serverAddress"), "lacks serverAddress"),
        (ONE, SCALED, put(*TRIGGERS, 0, "type", "cpu"), "type 'cpu' is not one of"),
        (ONE, SCALED, put(*TRIGGERS, 0, "metricType", "Value"), "must be AverageValue"),
    ),
    *of(
        keda.fallback,
        (ONE, SCALED, drop("spec", "fallback"), "fallback needs replicas"),
        (PAIR, SPOT_SCALED, put("spec", "fallback", "replicas", 0), "fallback needs replicas"),
        (ONE, SCALED, drop(*TRIGGERS, 1, "metadata", "ignoreNullValues"), "ignoreNullValues must"),
    ),
    *of(
        keda.fast_up_slow_down,
        (ONE, SCALED, put(*BEHAVIOR, "scaleDown", "stabilizationWindowSeconds", 60), "300 or more"),
        (ONE, SCALED, put(*BEHAVIOR, "scaleUp", "stabilizationWindowSeconds", 3600), "no less"),
    ),
]

SCALING = [
    *of(scaling.demand, (ONE, SCALED, drop(*TRIGGERS, 1), "no trigger reads headway_offered")),
    *of(
        scaling.queries,
        (
            *(ONE, SCALED),
            put(*TRIGGERS, 0, *QUERY, 'sum by (pod) (headway_queue_depth{tier!="bulk"})'),
            "may answer several elements",
        ),
        (
            *(ONE, SCALED),
            text('namespace="headway"', 'namespace="other"', *TRIGGERS, 0, *QUERY),
            'needs namespace="headway"',
        ),
        (
            *(PAIR, SPOT_SCALED),
            text("topics-spot", "topics-spots", *TRIGGERS, 1, *QUERY),
            "one of topics-on-demand, topics-spot",
        ),
    ),
    *of(
        scaling.bulk_left_out,
        (
            *(ONE, SCALED),
            text('tier!="bulk"', 'model="topics"', *TRIGGERS, 0, *QUERY),
            "must leave out the tiers without an SLO (bulk)",
        ),
        (
            *(ONE, SCALED),
            text('tier!="bulk"', 'tier!="batch"', *TRIGGERS, 1, *QUERY),
            "the parameters have no tier batch",
        ),
    ),
    *of(
        scaling.floor_in_step,
        (
            *(PAIR, SPOT_SCALED),
            put(*TRIGGERS, 0, "metadata", "threshold", "32"),
            "takes off 64 for each replica, but its threshold is 32",
        ),
        (
            *(PAIR, "ScaledObject topics-on-demand-predictor"),
            put("spec", "minReplicaCount", 2),
            "must take off 2 replicas at most",
        ),
    ),
    *of(
        scaling.backlog,
        (PAIR, SPOT_SCALED, put(*TRIGGERS, 3, "metadata", "listName", "jobs"), "listName must be"),
        (
            *(PAIR, SPOT_SCALED),
            put(*TRIGGERS, 3, "metadata", "address", "headway-redis:6379"),
            "it must be headway-redis.headway.svc",
        ),
        (PAIR, SPOT_SCALED, put(*TRIGGERS, 3, "metadata", "databaseIndex", "1"), "another Redis"),
    ),
    *of(
        scaling.backlog_opened,
        (PAIR, "TriggerAuthentication headway-redis", None, "there is no TriggerAuthentication"),
        (
            *(PAIR, "TriggerAuthentication headway-redis"),
            put("spec", "secretTargetRef", 0, "key", "pass"),
            "does not give the password",
        ),
    ),
]
