"""Broken monitoring and dashboards."""

from manifests.check.rules import dashboard, monitoring
from tests.manifests.breaking import drop, put, text
from tests.manifests.example import DASHBOARD, MONITOR, ONE, POD, QUERY, SCALED, TRIGGERS, of

RULES = "overlays/monitoring"
ALERTS, RECORDING = "PrometheusRule headway-alerts", "PrometheusRule headway-recording"
RELABELINGS = ("spec", "podMetricsEndpoints", 0, "relabelings")
BURN, SERVING_RULES = ("spec", "groups", 0, "rules"), ("spec", "groups", 1, "rules")

MONITORING = [
    *of(
        monitoring.scraped_with_nodes,
        (ONE, MONITOR, drop("spec", "attachMetadata"), "attachMetadata.node must be true"),
        (ONE, MONITOR, drop(*RELABELINGS, 3), "no relabeling makes the label instance_type"),
        (
            *(ONE, MONITOR),
            text("capacityType", "capacity_type", *RELABELINGS, 6, "sourceLabels", 0),
            "not made from __meta_kubernetes_node_label_eks_amazonaws_com_capacityType",
        ),
    ),
    *of(
        monitoring.series_exist,
        (
            *(RULES, ALERTS),
            text("refused_total", "refusals_total", *SERVING_RULES, 1, "expr"),
            "nothing exports or records headway_parameters_refusals_total",
        ),
        (
            *(RULES, ALERTS),
            text("slo_good:rate1m", "slo_good:rate5m", *BURN, 2, "expr"),
            "nothing exports or records headway:slo_good:rate5m",
        ),
        (
            *(ONE, SCALED),
            text("tier!=", "tier_name!=", *TRIGGERS, 0, *QUERY),
            "headway_queue_depth has no label tier_name",
        ),
        (ONE, SCALED, put(*TRIGGERS, 0, *QUERY, "sum(headway_queue_depth"), "a ( is not closed"),
    ),
    *of(
        monitoring.groups_exist,
        (ONE, SCALED, text("engine)", "engin)", *TRIGGERS, 1, *QUERY), "aggregates by engin"),
    ),
    *of(
        monitoring.recording_in_step,
        (RULES, RECORDING, drop("spec", "groups", 0, "rules", 0), "is not what the dashboard"),
        (RULES, RECORDING, None, "is not what the dashboard reads"),
    ),
    *of(
        monitoring.alerts_tell,
        (RULES, ALERTS, drop(*SERVING_RULES, 0, "annotations", "summary"), "has no summary"),
        (RULES, ALERTS, put(*SERVING_RULES, 0, "labels", "severity", "bad"), "severity must be"),
    ),
]

ENV = (*POD, "containers", 0, "env")
OF_DASHBOARD = [
    *of(
        dashboard.environment,
        ("overlays/dashboard", DASHBOARD, put(*ENV, 3, "name", "HEADWAY_EDITS"), "HEADWAY_EDITS"),
        ("overlays/dashboard", DASHBOARD, put(*ENV, 3, "value", "maybe"), "HEADWAY_EDIT is"),
        ("overlays/dashboard", DASHBOARD, put(*ENV, 1, "value", "configmap:x"), "of one that is"),
        (
            *("overlays/dashboard", DASHBOARD),
            put(*ENV, 3, {"name": "HEADWAY_USER_HEADER", "value": "x-forwarded-email"}),
            "needs HEADWAY_HOSTS",
        ),
    ),
    *of(
        dashboard.same_prometheus,
        (
            *("overlays/dashboard", DASHBOARD),
            put(*ENV, 0, "value", "http://prometheus.other.svc:9090"),
            "but triggers read http://prometheus-operated.monitoring.svc:9090",
        ),
    ),
]
