"""Broken predictors and their rights."""

from manifests.check.rules import access, kserve, serving
from tests.manifests.breaking import append, drop, put, text
from tests.manifests.example import BOX, ISVC, METADATA, MODEL, ONE, PREDICTOR, RUNTIME, of

KSERVE = [
    *of(
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
    *of(kserve.one_container, (ONE, ISVC, put(*BOX, "name", "predictor"), "kserve-container")),
    *of(
        kserve.protocol,
        (ONE, ISVC, drop(*BOX, "env", 0), "env PROTOCOL must be v2"),
        (ONE, ISVC, append(*BOX, "env", {"name": "PYTHONPATH", "value": "/x"}), "PYTHONPATH"),
        (RUNTIME, ISVC, drop(*MODEL, "protocolVersion"), "protocolVersion must be v2"),
    ),
    *of(
        kserve.ports,
        (ONE, ISVC, drop(*BOX, "ports", 0), "the first port must be http"),
        (ONE, ISVC, put(*BOX, "ports", 1, "name", "rpc"), "must have grpc or h2c in its name"),
    ),
    *of(
        kserve.replicas,
        (ONE, ISVC, drop(*PREDICTOR, "maxReplicas"), "set minReplicas and maxReplicas"),
        (ONE, ISVC, put(*PREDICTOR, "maxReplicas", 4), "1 to 4 replicas, but ScaledObject"),
        (ONE, ISVC, drop(*PREDICTOR, "timeout"), "after 60 s"),
    ),
    *of(
        kserve.rollout,
        (ONE, ISVC, drop(*PREDICTOR, "deploymentStrategy"), "with maxSurge 0"),
        (
            *(ONE, ISVC),
            put(*PREDICTOR, "deploymentStrategy", "rollingUpdate", "maxUnavailable", 0),
            "maxUnavailable must be 1",
        ),
    ),
    *of(kserve.no_sidecars, (ONE, ISVC, put(*PREDICTOR, "batcher", {}), "batcher puts a proxy")),
    *of(
        kserve.runtime_fits,
        (RUNTIME, ISVC, put(*MODEL, "runtime", "other"), "no ServingRuntime other"),
        (RUNTIME, ISVC, put(*MODEL, "modelFormat", "name", "onnx"), "modelFormat onnx"),
        (RUNTIME, ISVC, drop(*MODEL, "storageUri"), "no storageUri"),
    ),
    *of(
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
    *of(
        serving.flags,
        (ONE, ISVC, append(*BOX, "args", "--max_latency=5"), "unrecognized arguments: --max_late"),
        (ONE, ISVC, put(*BOX, "args", 4, "--workers=0"), "--workers is 0"),
        (
            "overlays/spot",
            ISVC,
            put(*BOX, "args", 0, "--model_dir=$(DIR)"),
            "$(DIR), which env does not have",
        ),
    ),
    *of(
        serving.parameters_watched,
        (ONE, ISVC, put(*BOX, "args", 5, "--parameters=run/x.yaml"), "--parameters=configmap:NAME"),
        (ONE, ISVC, put(*BOX, "args", 5, "--parameters=configmap:x"), "ConfigMap x with the key"),
        (ONE, ISVC, put(*BOX, "volumeMounts", 0, "subPath", "parameters.yaml"), "never change"),
        (ONE, ISVC, put(*BOX, "volumeMounts", 0, "mountPath", "/etc/p"), "=/etc/p/parameters.yaml"),
        (ONE, ISVC, drop(*BOX, "volumeMounts", 0), "there is no fallback"),
    ),
    *of(
        serving.parameters_accepted,
        (
            *("base/parameters", "ConfigMap headway-parameters"),
            text("max_batch_size: 64", "max_batch_size: 0", "data", "parameters.yaml"),
            "refuses parameters.yaml: models.topics.max_batch_size",
        ),
        (ONE, ISVC, put(*BOX, "args", 0, "--model_name=other"), "models.topics"),
    ),
    *of(
        serving.parameters_stand_apart,
        (
            *(ONE, "Role headway-predictor"),
            lambda data: data.update(
                kind="ConfigMap", metadata=data["metadata"] | {"name": "headway-parameters"}
            ),
            "is edited live",
        ),
    ),
    *of(
        serving.ports_served,
        (ONE, ISVC, put(*BOX, "args", 3, "--grpc_port=9000"), "grpc is 8081, but it listens on"),
    ),
    *of(
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
    *of(
        serving.drains,
        (ONE, ISVC, put(*PREDICTOR, "terminationGracePeriodSeconds", 70), "must be over 70"),
        (ONE, ISVC, append(*BOX, "args", "--grace_s=60"), "must be over 130"),
        (ONE, ISVC, drop(*BOX, "lifecycle"), "preStop.sleep must be"),
    ),
    *of(
        serving.redis_reached,
        ("overlays/spot", "Service headway-redis", None, "no Service headway-redis in namespace"),
        ("overlays/spot", ISVC, drop(*BOX, "env", 3), "give it as HEADWAY_REDIS_PASSWORD"),
        (
            *("overlays/spot", ISVC),
            text(":6379", ":6380", *BOX, "args", 8),
            "headway-redis has no port 6380",
        ),
    ),
]

ACCESS = [
    *of(
        access.bindings_lead,
        (ONE, "RoleBinding headway-predictor", put("roleRef", "name", "x"), "there is no Role x"),
        (
            *(ONE, "RoleBinding headway-predictor"),
            drop("subjects", 0, "namespace"),
            "is in namespace None",
        ),
        (ONE, "ServiceAccount headway-predictor", None, "no ServiceAccount headway-predictor"),
    ),
    *of(
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
    *of(
        access.accounts_bound,
        (ONE, "RoleBinding headway-predictor", None, "no RoleBinding names it"),
    ),
]
