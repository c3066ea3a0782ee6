"""The real protocol on a real socket of the test's own loop, around an app that echoes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from predictor.edge.asgi import AsgiApp, Receive, Scope, Send
from predictor.edge.connections import ConnectionLimits, Connections
from predictor.edge.front import Front, is_probe
from predictor.edge.http_protocol import EdgeHttpProtocol
from predictor.edge.http_rim import HttpRim, HttpTimeouts

PATIENCE_S = 30.0
LIMITS = ConnectionLimits(most=64, most_per_client=64, most_grpc=1)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was asked. Length and digits of the body, so that a mix-up shows."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    names = sorted(name.decode() for name, _ in scope["headers"])
    plain = {"method": scope["method"], "path": scope["path"], "body": body.decode("latin-1")}
    answer = json.dumps({**plain, "headers": names}).encode()
    headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def plain(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Bytes in, answers out."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        """Each in a segment of its own, as far as the kernel allows."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(3):  # turns of the loop that both ends share: it reads meanwhile
                await asyncio.sleep(0)

    async def answer(self, *, head: bool = False) -> Answer:
        """The next one. `head`: that of a HEAD, which has no body."""
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status = lines[0].split(" ")[:2]
            assert version == "HTTP/1.1"
            pairs = (line.split(": ", 1) for line in lines[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            if int(status) < 200:
                return Answer(int(status), headers, b"")
            length = headers.get("content-length")
            body = b""
            if not head:
                read = (
                    self.reader.read() if length is None else self.reader.readexactly(int(length))
                )
                body = await read
            return Answer(int(status), headers, body)

    async def closed(self) -> bool:
        """Whether nothing more comes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(1) == b""

    def end(self) -> None:
        self.writer.write_eof()


class Wire:
    """A listening server. `refused` are statuses that no app saw."""

    def __init__(
        self,
        app: AsgiApp = echo,
        timeouts: HttpTimeouts | None = None,
        limits: ConnectionLimits = LIMITS,
    ) -> None:
        self.refused: list[HTTPStatus] = []
        self.connections = Connections(limits, lambda: 0.0)
        self._rim = HttpRim(
            connections=self.connections,
            timeouts=timeouts or HttpTimeouts(),
            is_probe=is_probe,
            on_refusal=self.refused.append,
        )
        self._config = Config(
            Front(app),
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    def _protocol(self) -> EdgeHttpProtocol:
        return EdgeHttpProtocol(self._config, self._state, {}, rim=self._rim)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            for connection in list(self._state.connections):
                connection.transport.abort()
            for _ in range(3):
                await asyncio.sleep(0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        assert self._server is not None
        reader, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname())
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
