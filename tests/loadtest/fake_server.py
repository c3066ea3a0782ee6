"""A tiny real HTTP server that answers `simulated` requests as its script says."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto

import msgspec


class Behaviour(Enum):
    RIGHT = auto()
    RIGHT_THEN_CLOSE = auto()
    IN_PIECES = auto()
    WRONG_CHECKSUM = auto()
    NO_CHECKSUM = auto()
    REFUSE = auto()
    BREAK = auto()
    DROP = auto()
    NONSENSE = auto()
    HANG = auto()


Script = Callable[[int], Behaviour]  # number of the request, from 0


def always(behaviour: Behaviour) -> Script:
    return lambda _: behaviour


class FakeServer:
    """Counts what it did. `last_request` stops it from taking any after that number."""

    def __init__(self, script: Script, last_request: int | None = None) -> None:
        self.did: Counter[Behaviour] = Counter()
        self.most_at_once = 0
        self.port = 0
        self._script = script
        self._last_request = last_request
        self._at_once = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> int:
        return self.did.total()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FakeServer"]:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.die()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def die(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        self._writers.add(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = msgspec.json.decode(await reader.readexactly(length))
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                await self._behave(sum(body["inputs"][0]["data"]), writer)
                self._at_once -= 1

    async def _behave(self, checksum: int, writer: asyncio.StreamWriter) -> None:
        number = self.requests
        behaviour = self._script(number)
        self.did[behaviour] += 1
        if behaviour is Behaviour.HANG:
            await asyncio.get_running_loop().create_future()
        elif behaviour is Behaviour.DROP:
            writer.transport.abort()
        elif behaviour is Behaviour.IN_PIECES:
            for byte in _answer(checksum):
                writer.write(bytes([byte]))
                await writer.drain()
        else:
            writer.write(_reply(behaviour, checksum))
        if behaviour is Behaviour.RIGHT_THEN_CLOSE:
            writer.close()
        if number == self._last_request:
            self.die()


def _reply(behaviour: Behaviour, checksum: int) -> bytes:
    return {
        Behaviour.RIGHT: _answer(checksum),
        Behaviour.RIGHT_THEN_CLOSE: _answer(checksum, extra_header="connection: close\r\n"),
        Behaviour.WRONG_CHECKSUM: _answer(checksum + 1),
        Behaviour.NO_CHECKSUM: _response(200, b"{}"),
        Behaviour.REFUSE: _response(429, b'{"error": "queue full"}'),
        Behaviour.BREAK: _response(500, b'{"error": "broken"}'),
        Behaviour.NONSENSE: b"hello there\r\n\r\n",
    }[behaviour]


def _answer(checksum: int, extra_header: str = "") -> bytes:
    body = f'{{"outputs": [{{"name": "checksum", "data": [{checksum}]}}]}}'
    return _response(200, body.encode(), extra_header)


def _response(status: int, body: bytes, extra_header: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{extra_header}\r\n"
    return head.encode() + body
