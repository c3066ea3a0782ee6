"""What every pod must have: restricted security, limits, pinned images, volumes that are there."""

import re
from collections.abc import Iterator, Mapping

from manifests.check.objects import RUNS_ONCE, Json, Pods, World, dig

# Secrets that a person makes by hand, and their keys.
SECRETS: Mapping[str, frozenset[str]] = {"headway-redis": frozenset({"password"})}
VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"}
_VOLUMES |= {"persistentVolumeClaim", "projected", "secret"}
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_PINNED = re.compile(r".+(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})")
_RESOURCES = ("cpu", "memory")
_GPU = "nvidia.com/gpu"


def restricted(world: World) -> Iterator[str]:
    """The Pod Security Standard of that name, and a root filesystem that cannot be written."""
    for pods in world.pods:
        for name in _HOST:
            if pods.spec.get(name):
                yield f"{pods}: {name} is not allowed in restricted pod security."
        for volume in pods.spec.get("volumes", ()):
            kinds = set(volume) - {"name"}
            if not kinds <= _VOLUMES:
                yield f"{pods}: volume {volume.get('name')} is {', '.join(kinds)}, not allowed."
        for container in pods.containers:
            for problem in _unrestricted(pods.spec, container):
                yield f"{pods}: container {container.get('name')}: {problem}."


def _unrestricted(pod: Json, container: Json) -> Iterator[str]:
    shared: Json = pod.get("securityContext") or {}
    own: Json = container.get("securityContext") or {}
    both = {**shared, **own}
    if both.get("runAsNonRoot") is not True or not both.get("runAsUser"):
        yield "runAsNonRoot must be true, and runAsUser a number above 0"
    if dig(both, "seccompProfile", "type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile.type must be RuntimeDefault"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "allowPrivilegeEscalation must be false, and privileged left out"
    if dig(own, "capabilities", "drop") != ["ALL"] or dig(own, "capabilities", "add"):
        yield "capabilities must drop [ALL] and add none"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem must be true"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "a hostPort is not allowed"


def limited(world: World) -> Iterator[str]:
    """KServe fills in 1 CPU and 2Gi where limits are missing; a node gives all it has."""
    for pods in world.pods:
        for container in pods.containers:
            limits = dig(container, "resources", "limits") or {}
            requests = dig(container, "resources", "requests") or {}
            name = f"{pods}: container {container.get('name')}"
            for resource in _RESOURCES:
                for kind, given in (("limit", limits), ("request", requests)):
                    if resource not in given:
                        yield f"{name}: has no {kind} of {resource}."
            if limits.get(_GPU) != requests.get(_GPU):
                yield f"{name}: request and limit of {_GPU} must be the same."


def images_pinned(world: World) -> Iterator[str]:
    for pods in world.pods:
        for container in pods.containers:
            image = str(container.get("image", ""))
            if not _PINNED.fullmatch(image):
                yield f"{pods}: image {image!r} needs a version, and not latest."


def no_service_links(world: World) -> Iterator[str]:
    """A Service `headway-…` would put HEADWAY_…_PORT into the environment of every pod."""
    for pods in world.pods:
        if pods.owner.kind != "TestRun" and pods.spec.get("enableServiceLinks") is not False:
            yield f"{pods}: enableServiceLinks must be false: variables of Services would come in."


def volumes_exist(world: World) -> Iterator[str]:
    for pods in world.pods:
        claimed = pods.owner.get("spec", "volumeClaimTemplates") or ()
        claims = {dig(each, "metadata", "name") for each in claimed}
        volumes = {each["name"]: each for each in pods.spec.get("volumes", ())}
        for container in pods.containers:
            for mount in container.get("volumeMounts", ()):
                if mount["name"] not in claims | volumes.keys():
                    yield f"{pods}: there is no volume {mount['name']} to mount."
        for name, volume in volumes.items():
            config = dig(volume, "configMap", "name")
            if config and world.find("ConfigMap", config, pods.namespace) is None:
                yield f"{pods}: volume {name} is ConfigMap {config}, which is not there."


def configuration_exists(world: World) -> Iterator[str]:
    """ConfigMaps and Secrets that variables come from."""
    for pods in world.pods:
        for container in pods.containers:
            for source in container.get("envFrom", ()):
                name = dig(source, "configMapRef", "name")
                if name and world.find("ConfigMap", name, pods.namespace) is None:
                    yield f"{pods}: envFrom is ConfigMap {name}, which is not there."
        for variable in pods.variables:
            secret = dig(variable, "valueFrom", "secretKeyRef")
            if secret and secret.get("key") not in SECRETS.get(secret.get("name"), ()):
                yield (
                    f"{pods}: {variable['name']} is key {secret.get('key')} of Secret"
                    f" {secret.get('name')}, which nobody makes."
                )


def secrets_stay_out_of_arguments(world: World) -> Iterator[str]:
    """Every process of a pod, and of a node, can read the command lines of others."""
    for pods in world.pods:
        for container in pods.containers:
            secret = {
                each["name"]
                for each in container.get("env", ())
                if dig(each, "valueFrom", "secretKeyRef")
            }
            words = " ".join(map(str, (*container.get("command", ()), *container.get("args", ()))))
            for name in sorted(secret.intersection(VARIABLE.findall(words))):
                yield f"{pods}: $({name}) is a Secret's, so it must not be in command or args."


def probed(world: World) -> Iterator[str]:
    """Whoever serves says when it is ready, and has time to start."""
    for pods in world.pods:
        if pods.owner.kind in RUNS_ONCE:
            continue
        for container in pods.spec.get("containers", ()):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                given = container.get(probe)
                name = f"{pods}: container {container.get('name')}"
                if given is None:
                    yield f"{name}: has no {probe}."
                    continue
                port = dig(given, "httpGet", "port")
                if port is not None and pods.port(port) is None:
                    yield f"{name}: {probe} asks port {port}, which it does not have."


def accounts_exist(world: World) -> Iterator[str]:
    """A pod has a token only where a role is bound to its account."""
    for pods in world.pods:
        name = pods.spec.get("serviceAccountName")
        token = pods.spec.get("automountServiceAccountToken")
        if name is None:
            if token is not False:
                yield f"{pods}: needs no token: set automountServiceAccountToken: false."
            continue
        if world.find("ServiceAccount", name, pods.namespace) is None:
            yield f"{pods}: there is no ServiceAccount {name}."
        if token is not True and _bound(world, name, pods):
            yield f"{pods}: set automountServiceAccountToken: true, or its role is of no use."


def _bound(world: World, account: str, pods: Pods) -> bool:
    subject = {"kind": "ServiceAccount", "name": account, "namespace": pods.namespace}
    return any(subject in (each.get("subjects") or ()) for each in world.of("RoleBinding"))
