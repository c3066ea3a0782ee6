"""What KServe refuses or misreads in an InferenceService or a ServingRuntime (release 0.20)."""

from collections.abc import Iterator

from manifests.check.objects import KSERVE_CONTAINER, Object, World, dig

MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
# An annotation is copied to the pods, so what changes must not be one.
ANNOTATIONS = {MODE, AUTOSCALER}
_PROXY_PORT = "serving.kserve.io/enable-prometheus-scraping"


def annotations(world: World) -> Iterator[str]:
    scaled = {dig(each.data, "spec", "scaleTargetRef", "name") for each in world.of("ScaledObject")}
    for each in world.of("InferenceService"):
        if each.annotations.get(MODE) != "Standard":
            yield f"{each}: annotation {MODE} must be Standard, and cannot be changed later."
        wanted = "external" if f"{each.name}-predictor" in scaled else "none"
        if each.annotations.get(AUTOSCALER) != wanted:
            why = "a ScaledObject scales it" if wanted == "external" else "nobody scales it"
            yield f"{each}: annotation {AUTOSCALER} must be {wanted}: {why}."
        if _PROXY_PORT in each.annotations:
            yield f"{each}: {_PROXY_PORT} points at a proxy that Standard mode lacks; leave it out."
        for name in each.annotations.keys() - ANNOTATIONS - {_PROXY_PORT}:
            yield f"{each}: annotation {name} goes to the pods, and editing it starts all anew."


def one_container(world: World) -> Iterator[str]:
    """Its name is what roles, metrics and logs find it by; KServe would rename a single one."""
    for pods in world.predictors:
        names = [each.get("name") for each in pods.spec.get("containers", ())]
        if names != [KSERVE_CONTAINER]:
            yield f"{pods}: must have one container, {KSERVE_CONTAINER}; has {names}."


def protocol(world: World) -> Iterator[str]:
    for each in world.of("InferenceService"):
        predictor = each.get("spec", "predictor") or {}
        env = dig(predictor, "containers", 0, "env") or ()
        if "containers" in predictor and {"name": "PROTOCOL", "value": "v2"} not in env:
            yield f"{each}: env PROTOCOL must be v2, or KServe takes it for v1."
        if "model" in predictor and predictor["model"].get("protocolVersion") != "v2":
            yield f"{each}: model.protocolVersion must be v2."
        for variable in env:
            if variable["name"] == "PYTHONPATH":
                yield f"{each}: KServe refuses the variable PYTHONPATH."


def ports(world: World) -> Iterator[str]:
    """The first is port 80 of the Service, HTTP/1; a name with grpc or h2c makes it HTTP/2."""
    for pods in world.predictors:
        given = dig(pods.spec, "containers", 0, "ports") or ()
        names = [str(port.get("name", "")) for port in given]
        if not names or names[0] != "http":
            yield f"{pods}: the first port must be http: it becomes port 80 of the Service."
        for name in names[1:]:
            if "grpc" not in name and "h2c" not in name:
                yield f"{pods}: port {name!r} must have grpc or h2c in its name to be HTTP/2."


def replicas(world: World) -> Iterator[str]:
    """Left out, maxReplicas is minReplicas, and the route cuts requests off after a minute."""
    scaled = {
        dig(each.data, "spec", "scaleTargetRef", "name"): each for each in world.of("ScaledObject")
    }
    for each in world.of("InferenceService"):
        predictor = each.get("spec", "predictor") or {}
        least, most = predictor.get("minReplicas"), predictor.get("maxReplicas")
        if least is None or most is None:
            yield f"{each}: set minReplicas and maxReplicas; without, one follows the other."
        by = scaled.get(f"{each.name}-predictor")
        if by is not None:
            asked = by.get("spec", "minReplicaCount"), by.get("spec", "maxReplicaCount")
            if asked != (least, most):
                yield f"{each}: {least} to {most} replicas, but {by}: {asked[0]} to {asked[1]}."
        if not predictor.get("timeout"):
            yield f"{each}: set timeout; without, its route ends every request after 60 s."


def rollout(world: World) -> Iterator[str]:
    """A surge would wait for a GPU that is not there."""
    for each in world.of("InferenceService"):
        strategy = each.get("spec", "predictor", "deploymentStrategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        if strategy.get("type") != "RollingUpdate" or rolling.get("maxSurge") != 0:
            yield f"{each}: deploymentStrategy must be RollingUpdate with maxSurge 0."
        elif rolling.get("maxUnavailable") in (None, 0):
            yield f"{each}: with maxSurge 0, maxUnavailable must be 1 or more."


def no_sidecars(world: World) -> Iterator[str]:
    """KServe's batcher would batch before us, without deadlines, and answer failures with 200."""
    for each in world.of("InferenceService"):
        for name in ("batcher", "logger"):
            if each.get("spec", "predictor", name) is not None:
                yield f"{each}: {name} puts a proxy in front that speaks v1 alone; leave it out."


def runtime_fits(world: World) -> Iterator[str]:
    for each in world.of("InferenceService"):
        model = each.get("spec", "predictor", "model")
        if model is None:
            continue
        runtime = world.find("ServingRuntime", str(model.get("runtime", "")), each.namespace)
        if runtime is None:
            yield f"{each}: there is no ServingRuntime {model.get('runtime')}."
            continue
        formats = {one.get("name") for one in runtime.get("spec", "supportedModelFormats") or ()}
        wanted = dig(model, "modelFormat", "name")
        if wanted not in formats:
            yield f"{each}: {runtime} does not support modelFormat {wanted}."
        if not model.get("storageUri"):
            yield f"{each}: model has no storageUri, so /mnt/models would be empty."


def runtime_serves(world: World) -> Iterator[str]:
    for each in world.of("ServingRuntime"):
        if set(each.get("spec", "protocolVersions") or ()) != {"v2", "grpc-v2"}:
            yield f"{each}: protocolVersions must be [v2, grpc-v2]."
        if each.get("spec", "multiModel") is not None:
            yield f"{each}: leave multiModel out: it is for ModelMesh."
        args = _args(each)
        for wanted in ("--model_name={{.Name}}", "--model_dir=/mnt/models"):
            if wanted not in args:
                yield f"{each}: args must have {wanted}."


def _args(runtime: Object) -> list[str]:
    for container in runtime.get("spec", "containers") or ():
        if container.get("name") == KSERVE_CONTAINER:
            return list(container.get("args", ()))
    return []
