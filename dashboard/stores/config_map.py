"""Parameters in a ConfigMap, patched with the version that was read: both keys or none.

The document and its history are two keys of one ConfigMap, so one patch replaces both. It carries
the resourceVersion of what it was made from, and the API server refuses it (409) where anything
else has been written since. Then the ConfigMap is read again, and where the document is still the
one that was edited, the patch is made anew: someone wrote a label, not parameters.

The dashboard needs the rights to get and to patch this one ConfigMap, and no other.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.api.core_v1_api import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from dashboard.ports import Conflict, HistoryEntry, NotAllowed, Refused, SourceDown, Stored
from dashboard.stores import documents
from dashboard.stores.editing import EditedStore
from dashboard.stores.history import HISTORY_SUFFIX, decoded, encoded
from predictor.config_maps import (
    DOCUMENT_KEY,
    ConfigMapPlace,
    is_in_cluster,
    refusal,
    status_message,
    unreachable,
)

HISTORY_KEY = DOCUMENT_KEY + HISTORY_SUFFIX  # sorted behind what a person wants to edit
MOST_HISTORY_BYTES = 1 << 18
MOST_BYTES = 1 << 20  # of all keys; more, and the API server refuses it
CONNECT_WITHIN_S, ANSWER_WITHIN_S = 2.0, 5.0
MOST_TRIES = 3  # to write between the writes of others
WRITER = "headway-dashboard"  # as the ConfigMap's managedFields name it
RIGHTS = "get and patch"


@dataclass(frozen=True, slots=True)
class _Found:
    """The ConfigMap as it was read."""

    version: str
    document: bytes  # empty where the key is missing
    history: bytes
    other_bytes: int  # of the keys that are not ours


class ConfigMapParameterStore(EditedStore):
    """Parameters and their history under two keys of one ConfigMap."""

    def __init__(
        self, place: ConfigMapPlace, *, editable: bool, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(editable=editable, clock=clock)
        self._place = place
        self._client: CoreV1Api | None = None  # one for all threads: it keeps connections

    @property
    def place(self) -> str:
        return str(self._place)

    def _read_document(self) -> bytes:
        return self._find().document

    def _read_history(self) -> list[HistoryEntry]:
        return decoded(self._find().history)

    def _write(self, entry: HistoryEntry, expected: Stored) -> None:
        for _ in range(MOST_TRIES):
            found = self._find()
            if documents.version(found.document) != expected.version:
                raise Conflict(documents.conflict(found.document, expected))
            history = encoded([*decoded(found.history), entry], MOST_HISTORY_BYTES)
            room = MOST_BYTES - found.other_bytes - len(entry.after.encode())
            if len(history) > room:
                raise Refused(
                    f"{self._place} has no room for this edit and its history: at most"
                    f" {MOST_BYTES} bytes are allowed; make the document or other keys shorter."
                )
            if self._patch(found.version, entry.after, history.decode()):
                return
        raise Conflict(f"Others write {self._place} at this moment; try again.")

    def _find(self) -> _Found:
        with self._told(SourceDown):
            found = self._core().read_namespaced_config_map(
                self._place.name,
                self._place.namespace,
                _request_timeout=(CONNECT_WITHIN_S, ANSWER_WITHIN_S),
            )
        data: dict[str, str] = found.data or {}
        sizes = {key: len(value.encode()) for key, value in data.items()}
        binary: dict[str, str] = found.binary_data or {}
        return _Found(
            version=found.metadata.resource_version,
            document=data.get(DOCUMENT_KEY, "").encode(),
            history=data.get(HISTORY_KEY, "").encode(),
            other_bytes=sum(
                [size for key, size in sizes.items() if key not in (DOCUMENT_KEY, HISTORY_KEY)]
                + [len(value) for value in binary.values()]
            ),
        )

    def _patch(self, version: str, document: str, history: str) -> bool:
        """False where something was written since `version` was read, and nothing was by this."""
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": version},
            "data": {DOCUMENT_KEY: document, HISTORY_KEY: history},
        }
        with self._told(NotAllowed):
            try:
                self._core().patch_namespaced_config_map(
                    self._place.name,
                    self._place.namespace,
                    body,
                    field_manager=WRITER,
                    _content_type="application/merge-patch+json",
                    _request_timeout=(CONNECT_WITHIN_S, ANSWER_WITHIN_S),
                )
            except ApiException as error:
                if error.status == 409:
                    return False
                raise
        return True

    def _core(self) -> CoreV1Api:
        if self._client is None:
            settings = client.Configuration()
            settings.retries = (
                1  # of what was not sent; a patch that may have arrived is not sent again
            )
            if is_in_cluster(os.environ):
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(
                    config_file=os.environ.get("KUBECONFIG") or None,
                    client_configuration=settings,
                )
            self._client = CoreV1Api(client.ApiClient(settings))
        return self._client

    @contextmanager
    def _told(self, forbidden: type[SourceDown | NotAllowed]) -> Iterator[None]:
        """What goes wrong, as a sentence for the reader. `forbidden`: raised for 403."""
        try:
            yield
        except ApiException as error:
            sentence = refusal(
                self._place, error.status, RIGHTS, status_message(error.body or "") or error.reason
            )
            raise (forbidden if error.status == 403 else SourceDown)(f"{sentence}.") from None
        except (HTTPError, OSError, ValueError, config.ConfigException) as error:
            raise SourceDown(
                f"{unreachable(self._place, str(error))}; try again when it answers."
            ) from None
