"""For each rule, manifests that break it, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifests.check.rules import (
    Rule,
    access,
    dashboard,
    identity,
    keda,
    kserve,
    monitoring,
    network,
    placement,
    pods,
    scaling,
    serving,
)
from tests.manifests.breaking import Change, append, drop, put, text


@dataclass(frozen=True)
class Example:
    rule: Rule
    overlay: str
    which: str
    change: Change | None
    said: str


ISVC, SCALED = "InferenceService topics", "ScaledObject topics-predictor"
SPOT, SPOT_SCALED = "InferenceService topics-spot", "ScaledObject topics-spot-predictor"
MONITOR, POLICY = "PodMonitor headway-predictor", "NetworkPolicy headway-predictor"
DASHBOARD, REDIS = "Deployment headway-dashboard", "StatefulSet headway-redis"
PREDICTOR = ("spec", "predictor")
POD = ("spec", "template", "spec")
BOX = (*PREDICTOR, "containers", 0)
MODEL = (*PREDICTOR, "model")
TRIGGERS = ("spec", "triggers")
QUERY = ("metadata", "query")
METADATA = ("metadata", "annotations")
ONE, PAIR = "overlays/on-demand", "overlays/spot-and-on-demand"
RUNTIME = "overlays/serving-runtime"
AFFINITY = (
    *("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    "nodeSelectorTerms",
)
BEHAVIOR = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")


def _of(rule: Rule, *examples: tuple[str, str, Change | None, str]) -> list[Example]:
    return [Example(rule, *each) for each in examples]


IDENTITY = [
    *_of(
        identity.one_namespace,
        (ONE, MONITOR, drop("metadata", "namespace"), "has no namespace"),
        (ONE, MONITOR, put("metadata", "namespace", "other"), "is in namespace other"),
    ),
    *_of(
        identity.no_duplicates,
        (ONE, "Role headway-predictor", put("kind", "RoleBinding"), "is there 2 times"),
    ),
    *_of(
        identity.recommended_labels,
        (ONE, SCALED, drop("metadata", "labels"), "lacks the label app.kubernetes.io/name"),
        (
            *("overlays/dashboard", DASHBOARD),
            drop("spec", "template", "metadata", "labels", "app.kubernetes.io/component"),
            "its pods lack the label app.kubernetes.io/component",
        ),
    ),
    *_of(
        identity.names_fit,
        (ONE, ISVC, put("metadata", "name", "x" * 60), "must be a label"),
        (ONE, SCALED, put("metadata", "name", "x" * 60), "longer than 63"),
    ),
]

PODS = [
    *_of(
        pods.restricted,
        (ONE, ISVC, put(*PREDICTOR, "securityContext", "runAsUser", 0), "runAsUser a number"),
        (ONE, ISVC, drop(*PREDICTOR, "securityContext", "seccompProfile"), "RuntimeDefault"),
        (ONE, ISVC, drop(*BOX, "securityContext"), "allowPrivilegeEscalation must be false"),
        (
            *(ONE, ISVC),
            put(*BOX, "securityContext", "readOnlyRootFilesystem", False),
            "readOnlyRootFilesystem must be true",
        ),
        (ONE, ISVC, put(*BOX, "securityContext", "capabilities", "add", ["SYS_PTRACE"]), "add"),
        (ONE, ISVC, put(*BOX, "ports", 0, "hostPort", 80), "hostPort"),
        ("overlays/redis", REDIS, put(*POD, "hostPID", True), "hostPID is not allowed"),
        (
            *("overlays/redis", REDIS),
            append(*POD, "volumes", {"name": "x", "hostPath": {"path": "/"}}),
            "volume x is hostPath",
        ),
    ),
    *_of(
        pods.limited,
        (ONE, ISVC, drop(*BOX, "resources", "limits", "memory"), "no limit of memory"),
        (ONE, ISVC, drop(*BOX, "resources", "requests", "cpu"), "no request of cpu"),
        (ONE, ISVC, drop(*BOX, "resources", "requests", "nvidia.com/gpu"), "must be the same"),
    ),
    *_of(
        pods.images_pinned,
        (ONE, ISVC, put(*BOX, "image", "headway-predictor"), "needs a version"),
        (ONE, ISVC, put(*BOX, "image", "headway-predictor:latest"), "not latest"),
    ),
    *_of(
        pods.no_service_links,
        (ONE, ISVC, drop(*PREDICTOR, "enableServiceLinks"), "enableServiceLinks must be false"),
    ),
    *_of(
        pods.volumes_exist,
        (ONE, ISVC, drop(*PREDICTOR, "volumes", 1), "there is no volume tmp"),
        (ONE, "ConfigMap headway-parameters", None, "ConfigMap headway-parameters, which is not"),
    ),
    *_of(
        pods.configuration_exists,
        ("overlays/loadtest", "ConfigMap loadtest-settings", None, "loadtest-settings, which is"),
        (
            *("overlays/redis", REDIS),
            put(*POD, "containers", 0, "env", 0, "valueFrom", "secretKeyRef", "key", "pass"),
            "key pass of Secret headway-redis",
        ),
    ),
    *_of(
        pods.probed,
        (ONE, ISVC, drop(*BOX, "startupProbe"), "has no startupProbe"),
        (ONE, ISVC, put(*BOX, "livenessProbe", "httpGet", "port", "web"), "port web"),
    ),
    *_of(
        pods.accounts_exist,
        (ONE, ISVC, put(*PREDICTOR, "serviceAccountName", "other"), "no ServiceAccount other"),
        (ONE, ISVC, drop(*PREDICTOR, "automountServiceAccountToken"), "is of no use"),
        ("overlays/redis", REDIS, drop(*POD, "automountServiceAccountToken"), "needs no token"),
    ),
]

PLACEMENT = [
    *_of(
        placement.spot_everywhere,
        (
            *(PAIR, SPOT),
            put(*PREDICTOR, *AFFINITY, 1, "matchExpressions", 0, "values", ["spot"]),
            "eks.amazonaws.com/capacityType In [SPOT]",
        ),
        (PAIR, SPOT, put(*PREDICTOR, "tolerations", []), "must tolerate kubernetes.azure.com"),
        (PAIR, SPOT, put(*PREDICTOR, "terminationGracePeriodSeconds", 60), "may leave 15 s"),
    ),
    *_of(
        placement.on_demand_everywhere,
        (ONE, ISVC, drop(*PREDICTOR, *AFFINITY, 0, "matchExpressions", 3), "stay off spot"),
        (ONE, ISVC, append(*PREDICTOR, *AFFINITY, {"matchExpressions": []}), "stay off spot"),
    ),
    *_of(
        placement.spread,
        (ONE, ISVC, drop(*PREDICTOR, "topologySpreadConstraints", 0), "over topology.kubernetes"),
        (
            *(ONE, ISVC),
            put(*PREDICTOR, "labels", "app.kubernetes.io/instance", "other"),
            "does not select its pods",
        ),
    ),
    *_of(
        placement.gpu_tolerated,
        (ONE, ISVC, drop(*PREDICTOR, "tolerations"), "does not tolerate the taint"),
    ),
]

KSERVE = [
    *_of(
        kserve.annotations,
        (ONE, ISVC, put(*METADATA, kserve.MODE, "Serverless"), "must be Standard"),
        (ONE, ISVC, drop(*METADATA, kserve.AUTOSCALER), "must be external"),
        ("overlays/local", ISVC, put(*METADATA, kserve.AUTOSCALER, "external"), "must be none"),
        (
            *(ONE, ISVC),
            put(*METADATA, "serving.kserve.io/enable-prometheus-scraping", "true"),
            "points at a proxy",
        ),
        (ONE, ISVC, put(*METADATA, "headway/max-batch-size", "64"), "starts all anew"),
    ),
    *_of(kserve.one_container, (ONE, ISVC, put(*BOX, "name", "predictor"), "kserve-container")),
    *_of(
        kserve.protocol,
        (ONE, ISVC, drop(*BOX, "env", 0), "env PROTOCOL must be v2"),
        (ONE, ISVC, append(*BOX, "env", {"name": "PYTHONPATH", "value": "/x"}), "PYTHONPATH"),
        (RUNTIME, ISVC, drop(*MODEL, "protocolVersion"), "protocolVersion must be v2"),
    ),
    *_of(
        kserve.ports,
        (ONE, ISVC, drop(*BOX, "ports", 0), "the first port must be http"),
        (ONE, ISVC, put(*BOX, "ports", 1, "name", "rpc"), "must have grpc or h2c in its name"),
    ),
    *_of(
        kserve.replicas,
        (ONE, ISVC, drop(*PREDICTOR, "maxReplicas"), "set minReplicas and maxReplicas"),
        (ONE, ISVC, put(*PREDICTOR, "maxReplicas", 4), "1 to 4 replicas, but ScaledObject"),
        (ONE, ISVC, drop(*PREDICTOR, "timeout"), "after 60 s"),
    ),
    *_of(
        kserve.rollout,
        (ONE, ISVC, drop(*PREDICTOR, "deploymentStrategy"), "with maxSurge 0"),
        (
            *(ONE, ISVC),
            put(*PREDICTOR, "deploymentStrategy", "rollingUpdate", "maxUnavailable", 0),
            "maxUnavailable must be 1",
        ),
    ),
    *_of(kserve.no_sidecars, (ONE, ISVC, put(*PREDICTOR, "batcher", {}), "batcher puts a proxy")),
    *_of(
        kserve.runtime_fits,
        (RUNTIME, ISVC, put(*MODEL, "runtime", "other"), "no ServingRuntime other"),
        (RUNTIME, ISVC, put(*MODEL, "modelFormat", "name", "onnx"), "modelFormat onnx"),
        (RUNTIME, ISVC, drop(*MODEL, "storageUri"), "no storageUri"),
    ),
    *_of(
        kserve.runtime_serves,
        (RUNTIME, "ServingRuntime headway", put("spec", "protocolVersions", ["v2"]), "grpc-v2"),
        (RUNTIME, "ServingRuntime headway", put("spec", "multiModel", False), "ModelMesh"),
        (
            *(RUNTIME, "ServingRuntime headway"),
            drop("spec", "containers", 0, "args", 1),
            "args must have --model_dir=/mnt/models",
        ),
    ),
]

SERVING = [
    *_of(
        serving.flags,
        (ONE, ISVC, append(*BOX, "args", "--max_latency=5"), "unrecognized arguments: --max_late"),
        (ONE, ISVC, put(*BOX, "args", 4, "--workers=0"), "--workers is 0"),
        ("overlays/spot", ISVC, drop(*BOX, "env", 3), "$(REDIS_PASSWORD), which env does not have"),
    ),
    *_of(
        serving.parameters_watched,
        (ONE, ISVC, put(*BOX, "args", 5, "--parameters=run/x.yaml"), "--parameters=configmap:NAME"),
        (ONE, ISVC, put(*BOX, "args", 5, "--parameters=configmap:x"), "ConfigMap x with the key"),
        (ONE, ISVC, put(*BOX, "volumeMounts", 0, "subPath", "parameters.yaml"), "never change"),
        (ONE, ISVC, put(*BOX, "volumeMounts", 0, "mountPath", "/etc/p"), "=/etc/p/parameters.yaml"),
        (ONE, ISVC, drop(*BOX, "volumeMounts", 0), "there is no fallback"),
    ),
    *_of(
        serving.parameters_accepted,
        (
            *("base/parameters", "ConfigMap headway-parameters"),
            text("max_batch_size: 64", "max_batch_size: 0", "data", "parameters.yaml"),
            "refuses parameters.yaml: models.topics.max_batch_size",
        ),
        (ONE, ISVC, put(*BOX, "args", 0, "--model_name=other"), "models.topics"),
    ),
    *_of(
        serving.parameters_stand_apart,
        (
            *(ONE, "Role headway-predictor"),
            lambda data: data.update(
                kind="ConfigMap", metadata=data["metadata"] | {"name": "headway-parameters"}
            ),
            "is edited live",
        ),
    ),
    *_of(
        serving.ports_served,
        (ONE, ISVC, put(*BOX, "args", 3, "--grpc_port=9000"), "grpc is 8081, but it listens on"),
    ),
    *_of(
        serving.model_probed,
        (
            *(ONE, ISVC),
            put(*BOX, "readinessProbe", "httpGet", "path", "/v2/health/ready"),
            "readinessProbe asks /v2/health/ready; it must be /v2/models/topics/ready",
        ),
        (
            *(ONE, ISVC),
            put(*BOX, "livenessProbe", "httpGet", "path", "/v2/models/topics/ready"),
            "killed while loading",
        ),
        (ONE, ISVC, put(*BOX, "startupProbe", "failureThreshold", 3), "gives up after 15 s"),
    ),
    *_of(
        serving.drains,
        (ONE, ISVC, put(*PREDICTOR, "terminationGracePeriodSeconds", 70), "must be over 70"),
        (ONE, ISVC, append(*BOX, "args", "--grace_s=60"), "must be over 130"),
        (ONE, ISVC, drop(*BOX, "lifecycle"), "preStop.sleep must be"),
    ),
    *_of(
        serving.redis_reached,
        ("overlays/spot", "Service headway-redis", None, "no Service headway-redis in namespace"),
        (
            *("overlays/spot", ISVC),
            text(":6379", ":6380", *BOX, "args", 8),
            "headway-redis has no port 6380",
        ),
    ),
]

ACCESS = [
    *_of(
        access.bindings_lead,
        (ONE, "RoleBinding headway-predictor", put("roleRef", "name", "x"), "there is no Role x"),
        (
            *(ONE, "RoleBinding headway-predictor"),
            drop("subjects", 0, "namespace"),
            "is in namespace None",
        ),
        (ONE, "ServiceAccount headway-predictor", None, "no ServiceAccount headway-predictor"),
    ),
    *_of(
        access.least_rights,
        (
            *("overlays/dashboard", "Role headway-dashboard"),
            append("rules", 0, "verbs", "update"),
            "get, patch on ConfigMap headway-parameters, no more",
        ),
        (ONE, "Role headway-predictor", drop("rules", 0, "resourceNames"), "no more"),
        (ONE, "Role headway-predictor", drop("rules", 0, "verbs", 2), "lacks watch"),
        (ONE, "Role headway-predictor", put("kind", "ClusterRole"), "beyond the namespace"),
    ),
    *_of(
        access.accounts_bound,
        (ONE, "RoleBinding headway-predictor", None, "no RoleBinding names it"),
    ),
]

NETWORK = [
    *_of(
        network.services_select,
        (
            *(PAIR, "Service topics"),
            put("spec", "selector", "app.kubernetes.io/instance", "x"),
            "its selector finds no pods",
        ),
        (PAIR, "Service topics", put("spec", "ports", 0, "targetPort", "web"), "leads to web"),
        (PAIR, "Service topics", drop("spec", "ports", 1, "appProtocol"), "for gRPC"),
    ),
    *_of(
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
    *_of(
        network.policies_select,
        (ONE, POLICY, None, "no NetworkPolicy says who may reach it"),
        (ONE, POLICY, put("spec", "ingress", 0, "ports", 0, "port", "web"), "lets in to port web"),
        (
            *(ONE, POLICY),
            put("spec", "podSelector", "matchLabels", "app.kubernetes.io/name", "x"),
            "finds no pods",
        ),
    ),
    *_of(
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
    *_of(
        network.monitors_select,
        (
            *(ONE, MONITOR),
            put("spec", "podMetricsEndpoints", 0, "port", "metrics"),
            "scrapes port metrics",
        ),
        (ONE, MONITOR, None, "no PodMonitor scrapes its pods"),
        (ONE, MONITOR, put("spec", "selector", "matchLabels", {"app": "x"}), "finds no pods"),
    ),
    *_of(
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
    *_of(
        keda.target,
        (ONE, SCALED, put("spec", "scaleTargetRef", "name", "topics"), "no Deployment topics"),
        (
            *(PAIR, SPOT_SCALED),
            put("spec", "scaleTargetRef", "name", "topics-on-demand-predictor"),
            "is scaled by ScaledObject topics-on-demand-predictor already",
        ),
        (ONE, MONITOR, put("kind", "HorizontalPodAutoscaler"), "KEDA makes its own"),
    ),
    *_of(
        keda.limits,
        (ONE, SCALED, put("spec", "minReplicaCount", 0), "no trigger reads what is there"),
        ("overlays/spot", SCALED, put("spec", "minReplicaCount", 0), "no other pool stands"),
        (ONE, SCALED, put("spec", "minReplicaCount", 9), "the first no higher"),
        (PAIR, "Service topics", None, "no other pool stands behind its Service"),
    ),
    *_of(
        keda.triggers_named,
        (ONE, SCALED, drop(*TRIGGERS, 0, "name"), "a name of its own"),
        (ONE, SCALED, put(*TRIGGERS, 0, "name", "offered-load"), "a name of its own"),
    ),
    *_of(
        keda.triggers_read,
        (ONE, SCALED, put(*TRIGGERS, 0, "metadata", "metricName", "x"), "reads no metricName"),
        (ONE, SCALED, put(*TRIGGERS, 0, "metadata", "threshold", "many"), "is no number"),
        (ONE, SCALED, drop(*TRIGGERS, 0, "metadata", "serverAddress"), "lacks serverAddress"),
        (ONE, SCALED, put(*TRIGGERS, 0, "type", "cpu"), "type 'cpu' is not one of"),
        (ONE, SCALED, put(*TRIGGERS, 0, "metricType", "Value"), "must be AverageValue"),
    ),
    *_of(
        keda.fallback,
        (ONE, SCALED, drop("spec", "fallback"), "fallback needs replicas"),
        (PAIR, SPOT_SCALED, put("spec", "fallback", "replicas", 0), "fallback needs replicas"),
        (ONE, SCALED, drop(*TRIGGERS, 1, "metadata", "ignoreNullValues"), "ignoreNullValues must"),
    ),
    *_of(
        keda.fast_up_slow_down,
        (ONE, SCALED, put(*BEHAVIOR, "scaleDown", "stabilizationWindowSeconds", 60), "300 or more"),
        (ONE, SCALED, put(*BEHAVIOR, "scaleUp", "stabilizationWindowSeconds", 900), "no less"),
    ),
]

SCALING = [
    *_of(scaling.demand, (ONE, SCALED, drop(*TRIGGERS, 1), "no trigger reads headway_offered")),
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
        scaling.backlog,
        (PAIR, SPOT_SCALED, put(*TRIGGERS, 3, "metadata", "listName", "jobs"), "listName must be"),
        (
            *(PAIR, SPOT_SCALED),
            put(*TRIGGERS, 3, "metadata", "address", "headway-redis:6379"),
            "it must be headway-redis.headway.svc",
        ),
        (PAIR, SPOT_SCALED, put(*TRIGGERS, 3, "metadata", "databaseIndex", "1"), "another Redis"),
    ),
    *_of(
        scaling.backlog_opened,
        (PAIR, "TriggerAuthentication headway-redis", None, "there is no TriggerAuthentication"),
        (
            *(PAIR, "TriggerAuthentication headway-redis"),
            put("spec", "secretTargetRef", 0, "key", "pass"),
            "does not give the password",
        ),
    ),
]

RULES = "overlays/monitoring"
ALERTS, RECORDING = "PrometheusRule headway-alerts", "PrometheusRule headway-recording"
RELABELINGS = ("spec", "podMetricsEndpoints", 0, "relabelings")
BURN, SERVING_RULES = ("spec", "groups", 0, "rules"), ("spec", "groups", 1, "rules")

MONITORING = [
    *_of(
        monitoring.scraped_with_nodes,
        (ONE, MONITOR, drop("spec", "attachMetadata"), "attachMetadata.node must be true"),
        (ONE, MONITOR, drop(*RELABELINGS, 3), "no relabeling makes the label instance_type"),
        (
            *(ONE, MONITOR),
            text("capacityType", "capacity_type", *RELABELINGS, 6, "sourceLabels", 0),
            "not made from __meta_kubernetes_node_label_eks_amazonaws_com_capacityType",
        ),
    ),
    *_of(
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
    *_of(
        monitoring.groups_exist,
        (ONE, SCALED, text("engine)", "engin)", *TRIGGERS, 1, *QUERY), "aggregates by engin"),
    ),
    *_of(
        monitoring.recording_in_step,
        (RULES, RECORDING, drop("spec", "groups", 0, "rules", 0), "is not what the dashboard"),
        (RULES, RECORDING, None, "is not what the dashboard reads"),
    ),
    *_of(
        monitoring.alerts_tell,
        (RULES, ALERTS, drop(*SERVING_RULES, 0, "annotations", "summary"), "has no summary"),
        (RULES, ALERTS, put(*SERVING_RULES, 0, "labels", "severity", "bad"), "severity must be"),
    ),
]

ENV = (*POD, "containers", 0, "env")
OF_DASHBOARD = [
    *_of(
        dashboard.environment,
        ("overlays/dashboard", DASHBOARD, put(*ENV, 3, "name", "HEADWAY_EDITS"), "HEADWAY_EDITS"),
        ("overlays/dashboard", DASHBOARD, put(*ENV, 3, "value", "maybe"), "HEADWAY_EDIT is"),
        ("overlays/dashboard", DASHBOARD, put(*ENV, 1, "value", "configmap:x"), "of one that is"),
    ),
    *_of(
        dashboard.same_prometheus,
        (
            *("overlays/dashboard", DASHBOARD),
            put(*ENV, 0, "value", "http://prometheus.other.svc:9090"),
            "but triggers read http://prometheus-operated.monitoring.svc:9090",
        ),
    ),
]

EXAMPLES: Sequence[Example] = (
    *(*IDENTITY, *PODS, *PLACEMENT, *KSERVE, *SERVING, *ACCESS, *NETWORK),
    *(*KEDA, *SCALING, *MONITORING, *OF_DASHBOARD),
)
