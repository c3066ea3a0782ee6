"""One ConfigMap, listed and watched through the API server with `kubernetes.aio`.

Address, certificates and tokens are the client's affair. The lines of a watch are read here and
not by its class Watch: that one takes a proxy's error page for events, connects again without a
pause, and works in the engine's event loop twenty times as long on a ConfigMap with a history.
"""

import asyncio
import os
import random
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp
import msgspec
from kubernetes.aio import client, config
from kubernetes.aio.client.api.core_v1_api import CoreV1Api  # `client` would import it when used
from kubernetes.aio.client.rest import RESTClientObject

from predictor.config_maps import (
    DOCUMENT_KEY,
    ApiStatus,
    ConfigMapPlace,
    is_in_cluster,
    status_message,
)

ANSWER_WITHIN_S = 5.0
WATCH_S = (240, 480)  # the server ends a watch after a time from here; drawn, so not all at once
LATE_S = 30.0  # for the server to end it, before it is given up
QUIET_S, PROBE_S, PROBES = 10, 5, 3  # a server that is silently gone is noticed in 25 s
MOST_ERROR_BYTES = 1 << 16
GONE = 410  # the version to go on from is too old


class ApiProblem(Exception):
    """The API server refuses, with a status, or is not reached: 0."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    @property
    def passes(self) -> bool:
        """Whether time alone may mend it."""
        return self.status in (0, 408, GONE, 429) or self.status >= 500


class Kind(Enum):
    THERE = "there"  # as listed, made or changed
    ABSENT = "absent"  # as listed, or deleted
    SAME = "same"  # nothing but a version to go on from


@dataclass(frozen=True, slots=True)
class Seen:
    """What a list or a watch tells. `document`: None where it lacks the key."""

    kind: Kind
    version: str
    document: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, msgspec.Raw] | None = None  # raw: a history need not be decoded


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[_ConfigMap]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class ConfigMapApi:
    """All methods belong to one event loop. Whatever fails is an ApiProblem."""

    def __init__(self, place: ConfigMapPlace) -> None:
        self._place = place
        self._client: client.ApiClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def current(self) -> Seen:
        """As it is now. The list is one of a single name, as a Role with resourceNames allows."""
        try:
            response = await self._ask(_request_timeout=ANSWER_WITHIN_S)
            listed = msgspec.json.decode(await response.read(), type=_List)
        except ApiProblem:
            raise
        except Exception as error:
            raise _unreached(error) from None
        version = listed.metadata.resource_version
        if not listed.items:
            return Seen(Kind.ABSENT, version)
        return Seen(Kind.THERE, version, _document(listed.items[0]))

    async def changes(self, version: str) -> AsyncGenerator[Seen, None]:
        """What happened after `version`, as it happens, until the server ends the watch.

        The first is always Kind.SAME: the server has taken the watch.
        """
        watch_s = random.randint(*WATCH_S)
        try:
            response = await self._ask(
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=version,
                timeout_seconds=watch_s,
                _request_timeout=watch_s + LATE_S,
            )
            try:
                yield Seen(Kind.SAME, version)
                async for line in response.content:
                    yield _seen(line)
            finally:
                response.close()
        except ApiProblem:
            raise
        except Exception as error:
            raise _unreached(error) from None

    async def _ask(self, **options: Any) -> aiohttp.ClientResponse:
        """The answer's head has come; of a watch, too, it comes at once."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            if self._client is None:
                self._client = await _connected()
            core = CoreV1Api(self._client)
            response: aiohttp.ClientResponse
            response = await core.list_namespaced_config_map_without_preload_content(
                self._place.namespace, field_selector=f"metadata.name={self._place.name}", **options
            )
            if response.status != 200:
                body = await response.content.read(MOST_ERROR_BYTES)
                response.close()
                raise ApiProblem(response.status, status_message(body) or response.reason or "")
            return response


async def _connected() -> client.ApiClient:
    settings = client.Configuration()
    if is_in_cluster(os.environ):
        config.load_incluster_config(client_configuration=settings)
    else:
        await config.load_kube_config(
            config_file=os.environ.get("KUBECONFIG") or None, client_configuration=settings
        )
    connected = client.ApiClient(settings)
    connected.rest_client = _KeptAlive(settings)
    return connected


class _KeptAlive(RESTClientObject):
    """Connections that notice a peer which is gone without a word, although they only listen."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(ssl=self.ssl_context, socket_factory=_probing_socket)


def _probing_socket(address: Any) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, QUIET_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made


def _seen(line: bytes) -> Seen:
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "ERROR":
        status = msgspec.json.decode(event.object, type=ApiStatus)
        raise ApiProblem(status.code, status.message)
    told = msgspec.json.decode(event.object, type=_ConfigMap)
    version = told.metadata.resource_version
    match event.type:
        case "ADDED" | "MODIFIED":
            return Seen(Kind.THERE, version, _document(told))
        case "DELETED":
            return Seen(Kind.ABSENT, version)
    return Seen(Kind.SAME, version)  # BOOKMARK


def _document(told: _ConfigMap) -> str | None:
    raw = (told.data or {}).get(DOCUMENT_KEY)
    return None if raw is None else msgspec.json.decode(raw, type=str)


def _unreached(error: Exception) -> ApiProblem:
    return ApiProblem(0, str(error) or type(error).__name__)
