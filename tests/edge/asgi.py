"""Calls an ASGI app without a server."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predictor.edge.asgi import Message, Receive, Scope, Send
from predictor.edge.http import EdgeApp


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True  # it has an end

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        plain = self.json
        assert list(plain) == ["error"]
        return str(plain["error"])


async def call(
    app: EdgeApp,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    hang_up: asyncio.Event | None = None,
) -> Answer | None:
    """One request; `body` as chunks if it is a sequence. None where nothing was answered.

    The client hangs up when `hang_up` is set.
    """
    chunks = [body] if isinstance(body, bytes) else list(body)
    gone = hang_up or asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    encoded = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": encoded}
    await app(scope, receive, send)
    if not sent:
        return None
    start, *contents = sent
    whole = bool(contents) and not contents[-1].get("more_body", False)
    found = {key.decode(): value.decode() for key, value in start["headers"]}
    received = b"".join(content["body"] for content in contents)
    assert int(found.get("content-length", len(received))) == len(received)
    assert all(content.get("more_body") for content in contents[:-1])
    return Answer(start["status"], found, received, whole)


async def answered(app: EdgeApp, path: str, body: bytes | Sequence[bytes], **more: Any) -> Answer:
    answer = await call(app, path, body, **more)
    assert answer is not None
    return answer


async def infer(app: EdgeApp, model: str, plain: object, **more: Any) -> Answer:
    return await answered(app, f"/v2/models/{model}/infer", json.dumps(plain).encode(), **more)


def ids_input(*ids: int) -> dict[str, Any]:
    return {"name": "input_ids", "datatype": "INT64", "shape": [1, len(ids)], "data": list(ids)}


def text_input(*texts: str) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the SDK's app: reads the body, then 404."""
    while (await receive()).get("more_body"):
        pass
    body = b'{"error":"the app behind"}'
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
