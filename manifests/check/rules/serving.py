"""The predictor itself: flags it takes, parameters it accepts, probes and a drain that fit them."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from manifests.check.objects import Json, Pods, World, dig
from manifests.check.rules.network import complaint_about_address
from manifests.check.rules.pods import VARIABLE
from predictor.config_maps import DOCUMENT_KEY, PREFIX
from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.parameters import Parameters, parse_document
from predictor.redis_password import PASSWORD_VARIABLE
from predictor.settings import Settings, parse_settings

STARTUP_S = 300  # to load, warm up and capture graphs
LEAST_SLEEP_S = 5
SDK_DRAINS = 2  # HTTP and gRPC each may take the grace period


def flags(world: World) -> Iterator[str]:
    """All of them are flags that the predictor has, with values it takes."""
    for pods in world.predictors:
        env = {each["name"] for each in _container(pods).get("env", ())}
        for name in VARIABLE.findall(" ".join(_args(pods))):
            if name not in env:
                yield f"{pods}: args use $({name}), which env does not have."
        try:
            _parsed(pods)
        except StartupError as error:
            yield f"{pods}: the predictor refuses its args: {error.message}."


def parameters_watched(world: World) -> Iterator[str]:
    """The flag names a ConfigMap that is there; its mount is the fallback, and can change."""
    for pods in world.predictors:
        name = _configmap(pods)
        if name is None:
            yield f"{pods}: args must have --parameters=configmap:NAME."
            continue
        if DOCUMENT_KEY not in (_document(world, pods) or {}):
            yield f"{pods}: ConfigMap {name} with the key {DOCUMENT_KEY} is not there."
        mounts = [
            mount
            for mount in _container(pods).get("volumeMounts", ())
            if _volume(pods, mount["name"]) == name
        ]
        if not mounts:
            yield f"{pods}: ConfigMap {name} is not mounted, so there is no fallback."
        for mount in mounts:
            if mount.get("subPath"):
                yield f"{pods}: mounted by subPath, ConfigMap {name} would never change."
            wanted = str(PurePosixPath(mount["mountPath"]) / DOCUMENT_KEY)
            if _flag(pods, "parameters_fallback") != wanted:
                yield f"{pods}: args must have --parameters_fallback={wanted}."


def parameters_accepted(world: World) -> Iterator[str]:
    for each in world.own:
        if each.kind != "ConfigMap" or DOCUMENT_KEY not in (each.get("data") or {}):
            continue
        try:
            parse_document(each.get("data", DOCUMENT_KEY).encode())
        except ParametersRefused as refusal:
            yield f"{each}: the predictor refuses {DOCUMENT_KEY}: {refusal.message}."
    for pods in world.predictors:
        parameters, settings = parameters_of(world, pods), settings_of(pods)
        if parameters is None or settings is None:
            continue
        try:
            parameters.check_models(frozenset(model.name for model in settings.models))
        except ParametersRefused as refusal:
            yield f"{pods}: refuses ConfigMap {_configmap(pods)}: {refusal.message}."


def parameters_stand_apart(world: World) -> Iterator[str]:
    """Each `apply` of what has pods too would put a file over what an operator has in force."""
    for pods in world.all_pods:
        name = _configmap(pods) if pods.owner.kind == "InferenceService" else None
        if name is None or len(world.own) == 1:
            continue
        if any(each.kind == "ConfigMap" and each.name == name for each in world.own):
            yield f"ConfigMap {name}: is edited live, so only base/parameters may have it."
            return


def ports_served(world: World) -> Iterator[str]:
    for pods in world.predictors:
        settings = settings_of(pods)
        if settings is None:
            continue
        for name, flag in (("http", settings.http_port), ("grpc", settings.grpc_port)):
            if pods.ports.get(name) != flag:
                yield f"{pods}: port {name} is {pods.ports.get(name)}, but it listens on {flag}."


def model_probed(world: World) -> Iterator[str]:
    """/v2/health/ready says yes before a model is there; only the model's own path knows."""
    for pods in world.predictors:
        settings = settings_of(pods)
        if settings is None:
            continue
        paths = {f"/v2/models/{model.name}/ready" for model in settings.models}
        container = _container(pods)
        for probe in ("startupProbe", "readinessProbe"):
            path = dig(container, probe, "httpGet", "path")
            if path not in paths:
                yield f"{pods}: {probe} asks {path}; it must be {' or '.join(sorted(paths))}."
        if dig(container, "livenessProbe", "httpGet", "path") in paths:
            yield f"{pods}: livenessProbe must not ask the model: it would be killed while loading."
        startup = container.get("startupProbe") or {}
        allowed_s = startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3)
        if allowed_s < STARTUP_S:
            yield f"{pods}: startupProbe gives up after {allowed_s} s; loading takes {STARTUP_S} s."


def drains(world: World) -> Iterator[str]:
    """preStop, then two grace periods, and only then the kill."""
    for pods in world.predictors:
        settings = settings_of(pods)
        if settings is None:
            continue
        sleep_s = dig(_container(pods), "lifecycle", "preStop", "sleep", "seconds") or 0
        if sleep_s < LEAST_SLEEP_S:
            yield f"{pods}: preStop.sleep must be {LEAST_SLEEP_S} s or more: requests still come."
        needed_s = sleep_s + SDK_DRAINS * settings.grace_s
        given_s = pods.spec.get("terminationGracePeriodSeconds", 30)
        if given_s <= needed_s:
            yield (
                f"{pods}: terminationGracePeriodSeconds is {given_s}; it must be over"
                f" {needed_s:g}: {sleep_s} s of preStop and {SDK_DRAINS} x --grace_s."
            )


def redis_reached(world: World) -> Iterator[str]:
    for pods in world.predictors:
        settings = settings_of(pods)
        if settings is None or not settings.redis_url:
            continue
        problem = complaint_about_address(world, settings.redis_url, pods.namespace)
        if problem:
            yield f"{pods}: --redis_url: {problem}."
        if PASSWORD_VARIABLE not in {each["name"] for each in pods.variables}:
            yield f"{pods}: Redis has a password; give it as {PASSWORD_VARIABLE}, from the Secret."


def settings_of(pods: Pods) -> Settings | None:
    """None where `flags` complains."""
    try:
        return _parsed(pods)
    except StartupError:
        return None


def parameters_of(world: World, pods: Pods) -> Parameters | None:
    """None where there are none, or wrong ones."""
    text = (_document(world, pods) or {}).get(DOCUMENT_KEY)
    try:
        return parse_document(text.encode()) if text else None
    except ParametersRefused:
        return None


def _parsed(pods: Pods) -> Settings:
    return parse_settings([VARIABLE.sub("x", each) for each in _args(pods)])


def _container(pods: Pods) -> Json:
    return dig(pods.spec, "containers", 0) or {}


def _args(pods: Pods) -> list[str]:
    return [str(each) for each in _container(pods).get("args", ())]


def _flag(pods: Pods, name: str) -> str | None:
    start = f"--{name}="
    return next((each[len(start) :] for each in _args(pods) if each.startswith(start)), None)


def _configmap(pods: Pods) -> str | None:
    given = _flag(pods, "parameters") or ""
    return given.partition(PREFIX)[2] or None


def _document(world: World, pods: Pods) -> Mapping[str, str] | None:
    name = _configmap(pods)
    found = world.find("ConfigMap", name, pods.namespace) if name else None
    return found.get("data") if found is not None else None


def _volume(pods: Pods, name: str) -> str | None:
    """The ConfigMap that a volume is."""
    for volume in pods.spec.get("volumes", ()):
        if volume["name"] == name:
            return str(dig(volume, "configMap", "name"))
    return None
