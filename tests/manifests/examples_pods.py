"""Broken identities, pods and placements."""

from manifests.check.rules import identity, placement, pods
from tests.manifests.breaking import append, drop, put
from tests.manifests.example import (
    AFFINITY,
    BOX,
    DASHBOARD,
    ISVC,
    MONITOR,
    ONE,
    PAIR,
    POD,
    PREDICTOR,
    REDIS,
    SCALED,
    SPOT,
    of,
)

IDENTITY = [
    *of(
        identity.one_namespace,
        (ONE, MONITOR, drop("metadata", "namespace"), "has no namespace"),
        (ONE, MONITOR, put("metadata", "namespace", "other"), "is in namespace other"),
    ),
    *of(
        identity.no_duplicates,
        (ONE, "Role headway-predictor", put("kind", "RoleBinding"), "is there 2 times"),
    ),
    *of(
        identity.recommended_labels,
        (ONE, SCALED, drop("metadata", "labels"), "lacks the label app.kubernetes.io/name"),
        (
            *("overlays/dashboard", DASHBOARD),
            drop("spec", "template", "metadata", "labels", "app.kubernetes.io/component"),
            "its pods lack the label app.kubernetes.io/component",
        ),
    ),
    *of(
        identity.names_fit,
        (ONE, ISVC, put("metadata", "name", "x" * 60), "must be a label"),
        (ONE, SCALED, put("metadata", "name", "x" * 60), "longer than 63"),
    ),
]

PODS = [
    *of(
        pods.restricted,
        (ONE, ISVC, put(*PREDICTOR, "securityContext", "runAsUser", 0), "runAsUser a number"),
        (ONE, ISVC, drop(*PREDICTOR, "securityContext", "seccompProfile"), "RuntimeDefault"),
        (ONE, ISVC, drop(*BOX, "securityContext"), "allowPrivilegeEscalation must be false"),
        (
            *("overlays/loadtest/operator", "TestRun loadtest"),
            drop("spec", "runner", "containerSecurityContext"),
            "container runner: allowPrivilegeEscalation",
        ),
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
    *of(
        pods.limited,
        (ONE, ISVC, drop(*BOX, "resources", "limits", "memory"), "no limit of memory"),
        (ONE, ISVC, drop(*BOX, "resources", "requests", "cpu"), "no request of cpu"),
        (ONE, ISVC, drop(*BOX, "resources", "requests", "nvidia.com/gpu"), "must be the same"),
    ),
    *of(
        pods.images_pinned,
        (ONE, ISVC, put(*BOX, "image", "headway-predictor"), "needs a version"),
        (ONE, ISVC, put(*BOX, "image", "headway-predictor:latest"), "not latest"),
    ),
    *of(
        pods.no_service_links,
        (ONE, ISVC, drop(*PREDICTOR, "enableServiceLinks"), "enableServiceLinks must be false"),
    ),
    *of(
        pods.volumes_exist,
        (ONE, ISVC, drop(*PREDICTOR, "volumes", 1), "there is no volume tmp"),
        (ONE, "ConfigMap headway-parameters", None, "ConfigMap headway-parameters, which is not"),
    ),
    *of(
        pods.configuration_exists,
        ("overlays/loadtest", "ConfigMap loadtest-settings", None, "loadtest-settings, which is"),
        (
            *("overlays/redis", REDIS),
            put(*POD, "containers", 0, "env", 0, "valueFrom", "secretKeyRef", "key", "pass"),
            "key pass of Secret headway-redis",
        ),
    ),
    *of(
        pods.secrets_stay_out_of_arguments,
        (
            *("overlays/redis", REDIS),
            append(*POD, "containers", 0, "args", "--requirepass $(REDIS_PASSWORD)"),
            "$(REDIS_PASSWORD) is a Secret's",
        ),
    ),
    *of(
        pods.probed,
        (ONE, ISVC, drop(*BOX, "startupProbe"), "has no startupProbe"),
        (ONE, ISVC, put(*BOX, "livenessProbe", "httpGet", "port", "web"), "port web"),
    ),
    *of(
        pods.accounts_exist,
        (ONE, ISVC, put(*PREDICTOR, "serviceAccountName", "other"), "no ServiceAccount other"),
        (ONE, ISVC, drop(*PREDICTOR, "automountServiceAccountToken"), "is of no use"),
        ("overlays/redis", REDIS, drop(*POD, "automountServiceAccountToken"), "needs no token"),
    ),
]

PLACEMENT = [
    *of(
        placement.spot_everywhere,
        (
            *(PAIR, SPOT),
            put(*PREDICTOR, *AFFINITY, 1, "matchExpressions", 0, "values", ["spot"]),
            "eks.amazonaws.com/capacityType In [SPOT]",
        ),
        (PAIR, SPOT, put(*PREDICTOR, "tolerations", []), "must tolerate kubernetes.azure.com"),
        (PAIR, SPOT, put(*PREDICTOR, "terminationGracePeriodSeconds", 60), "may leave 15 s"),
    ),
    *of(
        placement.on_demand_everywhere,
        (ONE, ISVC, drop(*PREDICTOR, *AFFINITY, 0, "matchExpressions", 3), "stay off spot"),
        (ONE, ISVC, append(*PREDICTOR, *AFFINITY, {"matchExpressions": []}), "stay off spot"),
    ),
    *of(
        placement.spread,
        (ONE, ISVC, drop(*PREDICTOR, "topologySpreadConstraints", 0), "over topology.kubernetes"),
        (
            *(ONE, ISVC),
            put(*PREDICTOR, "labels", "app.kubernetes.io/instance", "other"),
            "does not select its pods",
        ),
    ),
    *of(
        placement.gpu_tolerated,
        (ONE, ISVC, drop(*PREDICTOR, "tolerations"), "does not tolerate the taint"),
    ),
]
