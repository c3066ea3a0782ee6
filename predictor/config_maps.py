"""The ConfigMap that holds the parameters: what the predictor, which watches it, and the dashboard,
which edits it, have to agree on. No client of Kubernetes is needed for that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from predictor.core.errors import StartupError

PREFIX = "configmap:"
DOCUMENT_KEY = "parameters.yaml"
NAMESPACE_VARIABLE = "HEADWAY_NAMESPACE"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MOST_REASON_CHARS = 300
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # a DNS subdomain


@dataclass(frozen=True, slots=True)
class ConfigMapPlace:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"ConfigMap {self.namespace}/{self.name}"


class ApiStatus(msgspec.Struct):
    """With which the API server says what went wrong."""

    code: int = 0
    message: str = ""


def status_message(body: bytes | str) -> str:
    """Of an answer that is an ApiStatus; a proxy's error page is none, and empty."""
    try:
        return msgspec.json.decode(body, type=ApiStatus).message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def config_map_name(text: str) -> str | None:
    """NAME of `configmap:NAME`; None where the text is a file's path instead.

    Raises StartupError where NAME cannot be that of a ConfigMap.
    """
    if not text.startswith(PREFIX):
        return None
    name = text.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise StartupError(
            f"{text[:MOST_REASON_CHARS]!r} names no ConfigMap; write {PREFIX}NAME, of small"
            " letters, digits, '-' and '.'"
        )
    return name


def config_map_place(name: str, environment: Mapping[str, str]) -> ConfigMapPlace:
    """The ConfigMap of that name in the namespace of this process.

    Raises StartupError where nothing tells the namespace.
    """
    namespace = environment.get(NAMESPACE_VARIABLE, "").strip()
    if not namespace:
        try:
            namespace = NAMESPACE_FILE.read_text().strip()
        except OSError:
            raise StartupError(
                f"nothing tells the namespace of ConfigMap {name}: this process has no service"
                f" account; set {NAMESPACE_VARIABLE}"
            ) from None
    return ConfigMapPlace(namespace, name)


def is_in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether a pod's service account is the way to the API server; else it is a kubeconfig."""
    return not environment.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in environment


def refusal(place: ConfigMapPlace, status: int, verbs: str, reason: str) -> str:
    """A sentence for a status with which the API server refuses, and what to do about it."""
    match status:
        case 401:
            return (
                f"{place}: the API server does not know who asks (401); see that the pod has the"
                " token of its service account"
            )
        case 403:
            return (
                f"{place} is not for this service account (403); give it a Role with {verbs} on"
                f" configmaps and resourceNames [{place.name}]. The API server says:"
                f" {_short(reason)}"
            )
        case 404:
            return f"{place} does not exist; create it, with the key {DOCUMENT_KEY}"
    return f"{place}: the API server answers {status} ({_short(reason)})"


def unreachable(place: ConfigMapPlace, reason: str) -> str:
    return f"{place}: the API server cannot be reached ({_short(reason)})"


def _short(reason: str) -> str:
    return " ".join(reason.split())[:MOST_REASON_CHARS].rstrip(".")
