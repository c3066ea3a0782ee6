"""OpenAI's API, under the prefix that KServe gives it."""

import time
from http import HTTPStatus
from urllib.parse import unquote

from predictor.core.errors import UnknownModel
from predictor.edge.asgi import Receive, Scope, Send, send_json
from predictor.edge.bodies import Bodies
from predictor.edge.openai.answers import encode
from predictor.edge.openai.errors import openai_error
from predictor.edge.openai.exchange import ChatExchange, CompletionExchange
from predictor.edge.service import InferService
from predictor.edge.watch import Watchers

PREFIX = "/openai/v1/"
_MODELS = PREFIX + "models"
_EXCHANGES = {
    PREFIX + "completions": CompletionExchange,
    PREFIX + "chat/completions": ChatExchange,
}


class OpenAiRoutes:
    """ASGI: completions, chats and models. Errors are in OpenAI's shape, whatever the path."""

    def __init__(self, service: InferService, bodies: Bodies, watchers: Watchers) -> None:
        self._service = service
        self._bodies = bodies
        self._watchers = watchers
        self._began = int(time.time())

    @staticmethod
    def takes(path: str) -> bool:
        return path.startswith("/openai/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        kind = _EXCHANGES.get(path)
        lists = path == _MODELS or path.startswith(_MODELS + "/")
        if kind is None and not lists:
            await _refuse(
                send,
                HTTPStatus.NOT_FOUND,
                f"{path[:128]!r} is not served here; use {', '.join((*_EXCHANGES, _MODELS))}",
            )
            return
        allowed = ("GET", "HEAD") if kind is None else ("POST",)
        if scope["method"] not in allowed:
            await _refuse(
                send,
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"method not allowed; use {allowed[0]}",
                ((b"allow", ", ".join(allowed).encode()),),
            )
            return
        if kind is None:
            await self._models(unquote(path.removeprefix(_MODELS).lstrip("/")), send)
            return
        exchange = kind("", "", scope, receive, send, self._bodies, self._watchers)
        await exchange.run(self._service.lifecycle)

    async def _models(self, named: str, send: Send) -> None:
        """Models that generate; one of them where it is named."""
        served = [
            {"id": name, "object": "model", "created": self._began, "owned_by": "headway"}
            for name, spec in sorted(self._service.engine.status().models.items())
            if spec.generation is not None
        ]
        if not named:
            body = encode({"object": "list", "data": served})
        else:
            found = next((each for each in served if each["id"] == named), None)
            if found is None:
                status, body, headers = openai_error(
                    UnknownModel(f"model {named[:128]!r} is not served here, or generates no text")
                )
                await send_json(send, status, body, headers)
                return
            body = encode(found)
        await send_json(send, HTTPStatus.OK, body)


async def _refuse(
    send: Send, status: HTTPStatus, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    await send_json(send, status, encode({"error": error}), headers)
