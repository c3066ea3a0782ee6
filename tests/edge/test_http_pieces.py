"""HTTP below ASGI: what comes in any pieces means what it means whole, and ends in an answer."""

import asyncio
import socket
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from predictor.edge import heads
from predictor.edge.asgi import Receive, Scope, Send, send_json
from predictor.edge.connections import ConnectionLimits, Connections
from predictor.edge.http_protocol import EdgeHttpProtocol
from predictor.edge.http_rim import HttpRim, HttpTimeouts

LIMITS = ConnectionLimits(most=100, most_per_client=100, most_grpc=100)
OFFERS = (
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"uPgRaDe: h2c\r\ncOnNeCtIoN: keep-alive, uPGRADE\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Upgrade: TLS/1.0, h2c, foo/2\r\nConnection: Upgrade\r\n",
    b"Upgrade: foo\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nConnection: Upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Connection: Upgrade\r\n",
    b"",
)


@dataclass(frozen=True)
class Sent:
    """A request as it is sent, and what the server has to have seen."""

    stream: bytes
    target: str
    body: bytes


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    # Bodies look like requests: read as one, they would be answered.
    smuggled = st.just(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    body = draw(
        st.one_of(smuggled, st.binary(max_size=60), st.binary(min_size=9000, max_size=9001))
    )
    target = draw(st.sampled_from(["/a", "/b?c=d&e=%20", "/%C3%A9"]))
    offer = draw(st.sampled_from(OFFERS))
    head = b"POST %b HTTP/1.1\r\nhOST: x\r\n%b" % (target.encode(), offer)
    if draw(st.booleans()):
        return Sent(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), target, body)
    chunks = []
    rest = body
    while rest:
        size = draw(st.integers(1, len(rest)))
        extension = draw(st.sampled_from([b"", b";a", b';name="va;lue"']))
        chunks.append(b"%x%b\r\n%b\r\n" % (size, extension, rest[:size]))
        rest = rest[size:]
        if len(chunks) == 5:
            chunks.append(b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"")
            break
    trailers = draw(st.sampled_from([b"", b"x-tier: bulk\r\nHost: y\r\n"]))
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (b"".join(chunks), trailers)
    return Sent(head + chunked, target, body)


def seen(target: str, body: bytes) -> bytes:
    return b"%b %d %d" % (target.encode(), len(body), zlib.crc32(body))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it saw of a request. Fails for what only trailers or an offer would say."""
    names = [name for name, _ in scope["headers"]]
    assert b"x-tier" not in names
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    assert scope["headers"][0] == (b"host", b"x")
    assert b"x-tier" not in [name for name, _ in scope["headers"]]
    await send_json(send, HTTPStatus.OK, seen(target.decode(), body))


@dataclass
class Client:
    """The other end of one connection to a protocol."""

    protocol: EdgeHttpProtocol
    socket: socket.socket
    refusals: list[HTTPStatus] = field(default_factory=list)

    def feed(self, *pieces: bytes) -> None:
        """As segments: each is parsed before the next."""
        for piece in pieces:
            self.protocol.data_received(piece)

    async def received(self, count: int) -> bytes:
        """What was answered, at least so many bytes, or up to the end."""
        loop = asyncio.get_running_loop()
        found = b""
        while len(found) < count:
            part = await asyncio.wait_for(loop.sock_recv(self.socket, 1 << 16), 20)
            if not part:
                break
            found += part
        return found


async def connected(
    app: Any = echo, timeouts: HttpTimeouts | None = None, connections: Connections | None = None
) -> Client:
    """A connection over a pair of sockets; only its reading is done by hand."""
    loop = asyncio.get_running_loop()
    config = Config(app, interface="asgi3", ws="none", lifespan="off", log_config=None)
    config.load()
    refusals: list[HTTPStatus] = []
    rim = HttpRim(
        connections or Connections(LIMITS, loop.time),
        timeouts or HttpTimeouts(),
        lambda _method, path: path == "/probe",
        refusals.append,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    _, protocol = await loop.connect_accepted_socket(
        lambda: EdgeHttpProtocol(config, ServerState(), {}, loop, rim=rim), theirs
    )
    assert isinstance(protocol, EdgeHttpProtocol)
    return Client(protocol, ours, refusals)


def answers(received: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies of answers with Content-Length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append((int(head.split(b" ")[1]), rest[:length]))
        received = rest[length:]
    return found


def cut(stream: bytes, places: Sequence[float]) -> list[bytes]:
    marks = sorted({int(place * len(stream)) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(marks)]


PLACES = st.lists(st.floats(0, 1, exclude_max=True), max_size=12)
OFFERED = b"POST /a HTTP/1.1\r\nhOST: x\r\n%bContent-Length: %d\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@given(sent=st.lists(requests(), min_size=1, max_size=6), places=PLACES)
@example(sent=[Sent(OFFERED % (OFFERS[0], len(SMUGGLED)) + SMUGGLED, "/a", SMUGGLED)], places=[])
def test_requests_in_any_pieces_are_the_same_requests(
    sent: list[Sent], places: list[float]
) -> None:
    expected = [(200, seen(request.target, request.body)) for request in sent]

    async def exchange() -> list[tuple[int, bytes]]:
        client = await connected()
        client.feed(*cut(b"".join(request.stream for request in sent), places))
        client.feed(b"GET /last HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n")
        with client.socket:
            return answers(await client.received(1 << 30))

    found = uvloop.run(exchange())
    assert found == [*expected, (200, seen("/last", b""))]


@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_cut_at_each_place(offer: bytes) -> None:
    body = SMUGGLED
    stream = (
        OFFERED % (offer, len(body))
        + body
        + b"GET /b HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n"
    )
    expected = [(200, seen("/a", body)), (200, seen("/b", b""))]
    for place in range(1, len(stream)):
        client = await connected()
        client.feed(stream[:place], stream[place:])
        with client.socket:
            assert answers(await client.received(1 << 30)) == expected, stream[:place]
    client = await connected()
    client.feed(*(stream[place : place + 1] for place in range(len(stream))))
    with client.socket:
        assert answers(await client.received(1 << 30)) == expected


GET = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1000, 5000, 1 << 20])
async def test_many_pipelined_requests_are_answered_in_order(size: int) -> None:
    stream = b"".join(GET % number for number in range(3000)) + LAST
    client = await connected()
    with client.socket:
        sending = asyncio.create_task(send_in_pieces(client.socket, stream, size))
        found = answers(await client.received(1 << 30))
        await sending
    assert [status for status, _ in found] == [200] * 3001
    assert [body.split()[0] for _, body in found[:-1]] == [b"/%d" % n for n in range(3000)]


async def send_in_pieces(ours: socket.socket, stream: bytes, size: int) -> None:
    loop = asyncio.get_running_loop()
    for start in range(0, len(stream), size):
        await loop.sock_sendall(ours, stream[start : start + size])


async def test_pipelined_requests_hold_little_until_their_turn() -> None:
    """64 KiB of short requests become a few requests, and bytes."""
    client = await connected(never)
    with client.socket:
        client.feed((GET % 1) * 3000)
        assert len(client.protocol.pipeline) < 200
        client.protocol.transport.abort()


async def never(_scope: Scope, receive: Receive, _send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


REFUSED = {
    "two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length and chunked": (
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        400,
    ),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    "gzip, chunked": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n", 400),
    "LF alone": (b"GET / HTTP/1.1\nx: a\n\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nx : a\r\n\r\n", 400),
    "a method in lower case": (b"get / HTTP/1.1\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 501),
    "an unknown expectation": (b"POST / HTTP/1.1\r\nExpect: a-miracle\r\n\r\n", 417),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "no URL": (b"GET nothing HTTP/1.1\r\n\r\n", 400),
    "a long URL": (b"GET /" + b"a" * heads.MAX_TARGET_BYTES + b" HTTP/1.1\r\n\r\n", 414),
    "a long line": (b"GET / HTTP/1.1\r\nx: " + b"a" * heads.MAX_LINE_BYTES + b"\r\n\r\n", 431),
    "many lines": (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 129 + b"\r\n", 431),
    "endless lines": (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (1 << 20), 431),
    "an endless line": (b"GET / HTTP/1.1\r\nx: " + b"a" * (8 << 20), 431),
    "endless trailers": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * (1 << 20),
        431,
    ),
    "an endless trailer": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: " + b"a" * (8 << 20),
        431,
    ),
    "endless extensions": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=" + b"a" * (8 << 20),
        431,
    ),
    "many extensions": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"1;" + b"a" * 400 + b"\r\nx\r\n") * (1 << 14),
        431,
    ),
    "a bad chunk": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "a huge chunk": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [1, 700, 1 << 18])
@pytest.mark.parametrize("before", [0, 3])
async def test_what_is_refused_is_answered_in_its_turn(name: str, size: int, before: int) -> None:
    """Behind requests that are answered; what follows on the connection is not read."""
    bad, status = REFUSED[name]
    if size == 1 and len(bad) > 1 << 17:
        bad = bad[: 1 << 17]
    stream = (GET % 1) * before + bad + GET % 2
    client = await connected()
    client.feed(*(stream[start : start + size] for start in range(0, len(stream), size)))
    with client.socket:
        found = answers(await client.received(1 << 30))
    assert [each for each, _ in found] == [200] * before + [status]
    assert found[-1][1].startswith(b'{"error":"')
    assert client.refusals == [HTTPStatus(status)]
    assert client.protocol._head_bytes <= heads.MAX_HEAD_BYTES + (1 << 18)


@pytest.mark.parametrize("name", ["CONNECT", "an unknown expectation", "two hosts", "many lines"])
async def test_what_is_refused_behind_an_offer(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """In one segment: the head with the offer is parsed again, and then what follows."""
    bad, status = REFUSED[name]
    client = await connected()
    offered = (GET % 1).replace(b"\r\n", b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n", 1)
    client.feed(offered + bad)
    with client.socket:
        found = answers(await client.received(1 << 30))
    assert [each for each, _ in found] == [200, status]
    assert client.refusals == [HTTPStatus(status)]
    assert not caplog.records


LARGEST = b"GET /largest HTTP/1.1\r\nhost: x\r\n" + (b"x" * 10 + b": " + b"y" * 500 + b"\r\n") * 120


async def test_a_head_within_the_limits_is_taken() -> None:
    client = await connected()
    client.feed(LARGEST + b"\r\n" + LAST)
    with client.socket:
        found = answers(await client.received(1 << 30))
    assert found == [(200, seen("/largest", b"")), (200, seen("/last", b""))]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://other:1/a?b", b"/a?b"),
        (b"http://other", b"/"),
        (b"//a", b"//a"),
        (b"/a#b", b"/a"),
        (b"*", b"*"),
        (b"/a/./../b", b"/a/./../b"),
    ],
)
async def test_targets(target: bytes, path: bytes) -> None:
    client = await connected()
    client.feed(b"OPTIONS %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % target)
    with client.socket:
        found = answers(await client.received(1 << 30))
    assert found == [(200, seen(path.decode(), b""))]


# Time. The limits are short, and no test says how long anything took.

SOON = HttpTimeouts(head_s=0.05, body_idle_s=0.05, keep_alive_s=0.05)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n\r\n", None),
        (b"G", 408),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", 408),
        (b"POST / HTTP/1.1\r\nhost: x\r\nContent-Length: 9\r\n\r\nabc", 408),
        (b"POST / HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 408),
    ],
)
async def test_a_client_that_stops_is_given_up(sent: bytes, status: int | None) -> None:
    client = await connected(timeouts=SOON)
    await asyncio.get_running_loop().sock_sendall(client.socket, sent)
    with client.socket:
        found = answers(await client.received(1 << 30))
    assert [each for each, _ in found] == ([] if status is None else [status])


async def test_a_head_that_drips_is_given_up_in_all() -> None:
    client = await connected(timeouts=HttpTimeouts(head_s=0.05))
    with client.socket:
        receiving = asyncio.create_task(client.received(1 << 30))
        client.feed(b"GET / HTTP/1.1\r\nx: ")
        while not receiving.done():
            client.feed(b"a")
            await asyncio.wait({receiving}, timeout=0.001)
    assert [each for each, _ in answers(receiving.result())] == [408]


async def test_an_idle_connection_is_closed_after_an_answer() -> None:
    client = await connected(timeouts=SOON)
    client.feed(GET % 1)
    with client.socket:
        assert answers(await client.received(1 << 30)) == [(200, seen("/1", b""))]


async def test_a_reader_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, HTTPStatus.OK, bytes(64 << 20))

    client = await connected(large, SOON)
    lost = asyncio.Event()
    connection_lost = client.protocol.connection_lost

    def seen_lost(error: Exception | None) -> None:
        connection_lost(error)
        lost.set()

    monkeypatch.setattr(client.protocol, "connection_lost", seen_lost)
    client.feed(GET % 1)
    with client.socket:
        await asyncio.wait_for(lost.wait(), 20)
        assert len(await client.received(1 << 30)) < 64 << 20


# A client that has sent all


class Release:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.began = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        self.began.set()
        leaving = asyncio.ensure_future(receive())
        released = asyncio.ensure_future(self.event.wait())
        await asyncio.wait({leaving, released}, return_when=asyncio.FIRST_COMPLETED)
        if released.done():
            leaving.cancel()
            await send_json(send, HTTPStatus.OK, scope["raw_path"])
        else:
            self.gone.set()
            released.cancel()


POST = b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("behind", [b"", GET % 7, (GET % 7)[:9]])
async def test_a_client_that_shuts_down_its_side_is_answered(behind: bytes) -> None:
    release = Release()
    client = await connected(release)
    loop = asyncio.get_running_loop()
    with client.socket:
        await loop.sock_sendall(client.socket, POST + behind)
        client.socket.shutdown(socket.SHUT_WR)
        await release.began.wait()
        assert await client.received(1) == b"HTTP/1.1 "
        release.event.set()
        found = answers(b"HTTP/1.1 " + await client.received(1 << 30))
    whole = [(200, b"/a"), (200, b"/7")]
    assert found == whole[: 1 + (behind == GET % 7)]


async def test_a_client_that_leaves_is_noticed_though_it_looks_the_same() -> None:
    release = Release()
    client = await connected(release)
    await asyncio.get_running_loop().sock_sendall(client.socket, POST)
    await release.began.wait()
    client.socket.close()
    await asyncio.wait_for(release.gone.wait(), 20)


async def test_half_a_request_before_the_end_is_no_request() -> None:
    release = Release()
    client = await connected(release)
    with client.socket:
        await asyncio.get_running_loop().sock_sendall(client.socket, POST[:-1])
        client.socket.shutdown(socket.SHUT_WR)
        assert await client.received(1 << 30) == b""
    assert not release.event.is_set()


async def test_http_1_0_gets_no_chunks() -> None:
    async def stream(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    for line in (b"", b"Connection: keep-alive\r\n"):
        client = await connected(stream)
        client.feed(b"GET / HTTP/1.0\r\n%b\r\n" % line)
        with client.socket:
            head, _, body = (await client.received(1 << 30)).partition(b"\r\n\r\n")
        assert body == b"one two three"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
