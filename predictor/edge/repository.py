"""The model repository extension: models are fixed when the server starts.

The index lists them, a load finds what is there, and an unload is refused. Routes are those of
Triton's clients and of the SDK; the SDK has no index and does not read what a load asks for.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from predictor.core.errors import HeadwayError, InvalidRequest, UnknownModel
from predictor.edge.asgi import Receive, Scope, Send, send_error, send_json, send_not_allowed
from predictor.edge.bodies import Bodies
from predictor.edge.exchange import ClientGoneError
from predictor.edge.json_text import NOT_JSON, not_json, without_mark
from predictor.edge.parameters import fields_of
from predictor.edge.service import InferService
from predictor.edge.tensors import DEFAULT_VERSION

_INDEX = "/v2/repository/index"
_CHANGE = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")


class IndexedModel(msgspec.Struct, frozen=True):
    """A model of the index. `state` as Triton names it: READY, LOADING or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str


class _IndexRequest(msgspec.Struct, forbid_unknown_fields=True):
    ready: bool = False


class _ChangeRequest(msgspec.Struct, forbid_unknown_fields=True):
    parameters: dict[str, Any] | None = None


Asked = TypeVar("Asked", _IndexRequest, _ChangeRequest)


def index(service: InferService, *, ready: bool) -> Sequence[IndexedModel]:
    """All models by name; `ready`: only those that take requests now."""
    models = []
    for name in sorted(service.names):
        try:
            service.codec(name)
        except HeadwayError as error:
            loading = name in service.engine.status().loading
            state, reason = "LOADING" if loading else "UNAVAILABLE", error.message
        else:
            state, reason = "READY", ""
        if state == "READY" or not ready:
            models.append(IndexedModel(name, DEFAULT_VERSION, state, reason))
    return models


def check_load(service: InferService, model: str, parameters: Sequence[str]) -> None:
    """Raises UnknownModel, Unavailable, and InvalidRequest where it is to be loaded otherwise."""
    service.codec(model)
    for name in parameters:
        raise InvalidRequest(
            f"parameters.{name[:64]}: how models are loaded is fixed when the server starts;"
            " leave it out"
        )


def refuse_unload(service: InferService, model: str) -> None:
    """Raises UnknownModel or InvalidRequest, always."""
    if model not in service.names:
        raise UnknownModel(f"model {model[:128]!r} is not served here")
    raise InvalidRequest(f"model {model!r} cannot be unloaded while serving; restart without it")


class FixedRepository(ModelRepositoryExtension):
    """What the SDK's server asks for."""

    def __init__(self, service: InferService, registry: object) -> None:
        super().__init__(model_registry=registry)
        self._service = service

    async def load(self, model_name: str) -> dict[str, Any]:
        check_load(self._service, model_name, ())
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, Any]:
        refuse_unload(self._service, model_name)
        raise AssertionError("it is always refused")


class RepositoryRoutes:
    """ASGI: the routes of the repository."""

    def __init__(self, service: InferService, bodies: Bodies) -> None:
        self._service = service
        self._bodies = bodies

    @staticmethod
    def takes(path: str) -> bool:
        return path == _INDEX or _CHANGE.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await send_not_allowed(send, "POST")
            return
        try:
            body = await self._bodies.whole(dict(scope["headers"]), receive)
            answer = self._answer(scope["path"], body)
        except ClientGoneError:
            return
        except HeadwayError as error:
            await send_error(send, error)
            return
        await send_json(send, HTTPStatus.OK, msgspec.json.encode(answer))

    def _answer(self, path: str, body: bytes) -> object:
        change = _CHANGE.fullmatch(path)
        if change is None:
            return index(self._service, ready=_decoded(body, _IndexRequest).ready)
        model, verb = change.groups()
        asked = _decoded(body, _ChangeRequest)
        if verb == "unload":
            refuse_unload(self._service, model)
        check_load(self._service, model, list(asked.parameters or ()))
        return {"name": model, "load": True}


def _decoded(body: bytes, kind: type[Asked]) -> Asked:
    """Raises InvalidRequest. No body asks for nothing."""
    body = without_mark(body)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except NOT_JSON as error:
        raise not_json(error, body, {"": fields_of(kind)}) from None
