"""One ConfigMap as an API server keeps it: versions, events since, and what was compacted."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

NAMESPACE, NAME = "headway", "headway-parameters"
BOUND_S = 20.0  # only a hang takes this long
MOST_BYTES = 1 << 20
FIRST_VERSION = 1000


class Refusal(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self) -> dict[str, Any]:
        told = {"code": self.code, "reason": self.reason, "message": self.message}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"} | told


class OneConfigMap:
    """All methods may be called from any thread. `changed` is notified of whatever happens."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = FIRST_VERSION
        self.events: list[tuple[int, dict[str, Any]]] = []
        self._oldest = FIRST_VERSION  # watches may go on from there
        self._data: dict[str, str] | None = None
        self._labels: dict[str, str] = {}

    @property
    def data(self) -> Mapping[str, str]:
        with self.changed:
            assert self._data is not None
            return dict(self._data)

    @property
    def exists(self) -> bool:
        return self._data is not None

    def forget(self) -> None:
        with self.changed:
            self._data = None
            self._labels = {}

    def wait_for(self, happened: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(happened, BOUND_S), "it did not happen"

    # What people with kubectl do.

    def put(self, **data: str) -> None:
        """Create it, or replace all its keys; `_` stands for the dot of a key's name."""
        with self.changed:
            kind = "ADDED" if self._data is None else "MODIFIED"
            self._data = {key.replace("_", "."): value for key, value in data.items()}
            self._happen(kind)

    def label(self, **labels: str) -> None:
        with self.changed:
            self._labels.update(labels)
            self._happen("MODIFIED")

    def delete(self) -> None:
        with self.changed:
            last = self.found()
            self._data = None
            self._happen("DELETED", last)

    # What the server itself does.

    def bookmark(self) -> None:
        """Other objects have moved the version on, and watches are told."""
        with self.changed:
            self.version += 10
            self._happen("BOOKMARK", {"kind": "ConfigMap", "metadata": {}})

    def compact(self) -> None:
        """Forget the past: a watch may be opened from this moment on only."""
        with self.changed:
            self._oldest = self.version

    def found(self) -> dict[str, Any]:
        with self.changed:
            if self._data is None:
                raise Refusal(404, "NotFound", f'configmaps "{NAME}" not found')
            named = {"name": NAME, "namespace": NAMESPACE, "labels": dict(self._labels)}
            return {
                "kind": "ConfigMap",
                "apiVersion": "v1",
                "metadata": named | {"resourceVersion": str(self.version)},
                **({"data": dict(self._data)} if self._data else {}),  # left out where empty
            }

    def listed(self) -> dict[str, Any]:
        with self.changed:
            return {
                "kind": "ConfigMapList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": str(self.version)},
                "items": [] if self._data is None else [self.found()],
            }

    def check_version(self, version: int) -> None:
        with self.changed:
            if version < self._oldest:
                raise Refusal(
                    410, "Expired", f"too old resource version: {version} ({self._oldest})"
                )

    def since(self, version: int) -> list[tuple[int, dict[str, Any]]]:
        with self.changed:
            return [(at, event) for at, event in self.events if at > version]

    def merge(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """RFC 7386, as far as a ConfigMap needs it."""
        with self.changed:
            before = self.found()
            metadata = patch.get("metadata", {})
            if metadata.get("resourceVersion", str(self.version)) != str(self.version):
                raise Refusal(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on configmaps "{NAME}": the object has been'
                    " modified; please apply your changes to the latest version and try again",
                )
            merged = {**(self._data or {}), **patch.get("data", {})}
            merged = {key: value for key, value in merged.items() if value is not None}
            if sum(len(value.encode()) for value in merged.values()) > MOST_BYTES:
                raise Refusal(
                    422, "Invalid", f'ConfigMap "{NAME}" is invalid: Too long: at most 1048576'
                )
            self._data = merged
            self._labels.update(metadata.get("labels", {}))
            after = self.found()
            if after != before:  # a patch without effect makes no version
                self._happen("MODIFIED")
            return self.found()

    def _happen(self, kind: str, last: dict[str, Any] | None = None) -> None:
        self.version += 1
        told = json.loads(json.dumps(last)) if last is not None else self.found()
        told["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, {"type": kind, "object": told}))
        self.changed.notify_all()
