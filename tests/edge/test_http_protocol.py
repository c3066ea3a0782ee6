"""HTTP below ASGI, over real sockets: what is read, in whatever pieces, and what is refused."""

import asyncio
import gzip
import logging
import zlib
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.errors import HeadwayError
from predictor.edge import heads
from predictor.edge.asgi import Receive, Scope, Send, send_error
from predictor.edge.bodies import Bodies
from predictor.edge.connections import ConnectionLimits
from predictor.edge.http_rim import HttpTimeouts
from tests.edge.wire import Answer, Wire

HOST = b"Host: x\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
OFFERS = (
    b"",
    H2C,
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n",
    b"upgrade: TLS/1.0, h2c\r\nconnection: UPGRADE\r\n",
    b"Upgrade: h2c\r\n",  # without Connection it is no offer
)


@dataclass(frozen=True)
class Request:
    offer: bytes
    body: bytes
    chunks: int  # 0: with Content-Length
    number: int = 0

    def written(self) -> bytes:
        head = b"POST /%d HTTP/1.1\r\n%s%s" % (self.number, HOST, self.offer)
        if not self.chunks:
            return head + b"Content-Length: %d\r\n\r\n%s" % (len(self.body), self.body)
        size = max(len(self.body) // self.chunks, 1)
        pieces = [self.body[at : at + size] for at in range(0, len(self.body), size)]
        framed = b"".join(b"%x;name=value\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        trailers = b"0\r\nX-Trailer: GET / HTTP/1.1\r\n\r\n"
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + trailers


# Bodies that would be requests, if they were read as such.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
REQUESTS = st.lists(
    st.builds(
        Request,
        st.sampled_from(OFFERS),
        st.sampled_from([b"", b"x", SMUGGLED, SMUGGLED * 40, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
        st.sampled_from([0, 0, 1, 3]),
    ),
    min_size=1,
    max_size=5,
)


@given(REQUESTS, st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=150)
def test_any_pieces_give_the_same_requests(requests: list[Request], cuts: list[float]) -> None:
    numbered = [
        Request(request.offer, request.body, request.chunks, number)
        for number, request in enumerate(requests)
    ]
    stream = b"".join(request.written() for request in numbered)
    places = sorted({0, len(stream), *(round(cut * len(stream)) for cut in cuts)})
    pieces = [stream[a:b] for a, b in pairwise(places)]

    async def main() -> list[Answer]:
        async with Wire().open() as wire, wire.client() as client:
            await client.send(*pieces)
            return [await client.answer() for _ in numbered]

    answers = asyncio.run(main())
    for request, answer in zip(numbered, answers, strict=True):
        assert answer.status == 200
        assert answer.plain["path"] == f"/{request.number}"
        assert answer.plain["body"].encode("latin-1") == request.body
        assert "x-trailer" not in answer.plain["headers"]


def test_the_body_of_an_offer_is_a_body_at_every_single_cut() -> None:
    request = Request(H2C, SMUGGLED, 0).written()
    follower = Request(b"", b"after", 0, 1).written()

    async def main() -> None:
        async with Wire().open() as wire:
            for cut in range(1, len(request)):
                async with wire.client() as client:
                    await client.send(request[:cut], request[cut:] + follower)
                    first, second = await client.answer(), await client.answer()
                    assert first.plain["body"].encode() == SMUGGLED
                    assert (second.plain["path"], second.plain["body"]) == ("/1", "after")

    asyncio.run(main())


LONG = b"a" * heads.MAX_LINE_BYTES
MANY = b"".join(b"X-%d: y\r\n" % number for number in range(heads.MAX_HEADERS))
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "two lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
        "HTTP/1.1",
    ),
    "a length and chunks": (
        CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
        400,
        "HTTP/1.1",
    ),
    "chunks and a length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "HTTP/1.1",
    ),
    "a negative length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, ""),
    "a length that is none": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1,1\r\n\r\n",
        400,
        "",
    ),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, "Host"),
    "another coding": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        "Transfer-Encoding",
    ),
    "chunks in 1.0": (CHUNKED.replace(b"1.1", b"1.0"), 400, "HTTP/1.0"),
    "another expectation": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n",
        417,
        "Expect",
    ),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, "HTTP/1.1"),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "CONNECT"),
    "a long line": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + LONG + b"\r\n\r\n", 431, "shorten"),
    "many lines": (b"GET / HTTP/1.1\r\n" + HOST + MANY + b"\r\n", 431, "send fewer"),
    "a large head": (
        b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + LONG[:-9] + b"\r\n") * 5 + b"\r\n",
        431,
        "65536",
    ),
    "a long path": (b"GET /" + LONG + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "8192"),
    "a long extension": (CHUNKED + b"1;" + LONG * 5 + b"\r\n", 431, "extensions"),
    "an extension for each byte": (CHUNKED + (b"1;" + b"a" * 99 + b"\r\nx\r\n") * 999, 431, "ext"),
    "many trailers": (CHUNKED + b"0\r\n" + MANY + b"Y: z\r\n\r\n", 431, "trailers"),
    "large trailers": (CHUNKED + b"0\r\n" + (b"X: " + LONG + b"\r\n") * 5, 431, "trailers"),
    "bytes in a path": (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, ""),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("piece", [1 << 20, 1000])
async def test_what_cannot_be_read_is_answered_and_the_connection_closes(
    case: str, piece: int
) -> None:
    sent, status, part = REFUSED[case]
    well = Request(b"", b"before", 0).written()
    async with Wire().open() as wire, wire.client() as client:
        stream = well + sent + SMUGGLED
        await client.send(*(stream[at : at + piece] for at in range(0, len(stream), piece)))
        assert (await client.answer()).plain["body"] == "before"
        answer = await client.answer()
        assert answer.status == status
        assert part in answer.plain["error"]
        assert len(answer.body) < 400
        assert answer.headers["connection"] == "close"
        assert await client.closed()
    assert [int(refused) for refused in wire.refused] == [status]


async def test_60_mb_of_trailers_are_not_kept() -> None:
    """The parser is fed no more once the bound is passed."""
    async with Wire().open() as wire, wire.client() as client:
        await client.send(CHUNKED + b"0\r\n")
        sent = 0
        while not wire.refused:
            await client.send(b"X-Trailer: " + b"y" * 1000 + b"\r\n")
            sent += 1000
        assert sent <= 2 * heads.MAX_HEAD_BYTES
        assert (await client.answer()).status == 431


READ = {
    "1.0": (b"GET /a HTTP/1.0\r\n\r\n", "/a", True),
    "1.0 that would stay": (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/a", True),
    "1.1 that closes": (b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", "/a", True),
    "an absolute form": (b"GET http://other:80/a?b HTTP/1.1\r\n" + HOST + b"\r\n", "/a", False),
    "an absolute form alone": (b"GET http://other HTTP/1.1\r\n" + HOST + b"\r\n", "/", False),
    "percent signs": (b"GET /%61%20%C3%A9 HTTP/1.1\r\n" + HOST + b"\r\n", "/a \xe9", False),
    "a slash at the end": (b"GET /a/ HTTP/1.1\r\n" + HOST + b"\r\n", "/a", False),
    "from a proxy": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\nX-Forwarded-For: y\r\n\r\n",
        "/a",
        False,
    ),
    "empty lines before": (b"\r\n\r\nGET /a HTTP/1.1\r\n" + HOST + b"\r\n", "/a", False),
}


@pytest.mark.parametrize("case", READ)
async def test_requests_that_are_read(case: str) -> None:
    sent, path, closes = READ[case]
    async with Wire().open() as wire, wire.client() as client:
        await client.send(sent)
        answer = await client.answer()
        assert (answer.status, answer.plain["path"]) == (200, path)
        if closes:
            assert await client.closed()
        else:
            await client.send(Request(b"", b"next", 0).written())
            assert (await client.answer()).plain["body"] == "next"


async def test_head_is_get_without_a_body() -> None:
    async with Wire().open() as wire, wire.client() as client:
        await client.send(b"HEAD /a HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = await client.answer(head=True)
        assert (answer.status, int(answer.headers["content-length"]) > 0) == (200, True)
        await client.send(Request(b"", b"next", 0).written())
        assert (await client.answer()).plain["body"] == "next"


async def test_expect_is_answered_when_the_body_is_wanted() -> None:
    async with Wire().open() as wire, wire.client() as client:
        head = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        await client.send(head)
        assert (await client.answer()).status == 100
        await client.send(b"ab")
        assert (await client.answer()).plain["body"] == "ab"


async def test_a_client_that_has_sent_all_gets_its_answers() -> None:
    async with Wire().open() as wire, wire.client() as client:
        for number in range(3):
            await client.send(Request(b"", b"x", 0, number).written())
        client.end()
        assert [(await client.answer()).plain["path"] for _ in range(3)] == ["/0", "/1", "/2"]
        assert await client.closed()


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"GET / HT", "headers took over"),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\na", "nothing came for"),
        (CHUNKED + b"2\r\na", "nothing came for"),
        (b"", ""),
    ],
)
async def test_slow_clients_are_given_up(sent: bytes, part: str) -> None:
    timeouts = HttpTimeouts(head_s=0.05, body_idle_s=0.05, keep_alive_s=0.05)
    async with Wire(timeouts=timeouts).open() as wire, wire.client() as client:
        await client.send(sent)
        if part:
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert part in answer.plain["error"]
        assert await client.closed()


async def test_a_head_that_drips_is_given_up() -> None:
    """Each piece comes in time; the whole does not."""
    async with Wire(timeouts=HttpTimeouts(head_s=0.05)).open() as wire, wire.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nX: ")
        pieces = 0
        while not wire.refused and pieces < heads.MAX_LINE_BYTES:
            await client.send(b"y")
            pieces += 1
        assert (await client.answer()).status == 408
        assert pieces > 1


async def test_connections_beyond_the_limit_are_for_probes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = ConnectionLimits(most=3, most_per_client=2, most_grpc=1, reserved=2)
    caplog.set_level(logging.WARNING)
    async with Wire(limits=limits).open() as wire, wire.client() as one, wire.client() as two:
        for client in (one, two):
            await client.send(Request(b"", b"x", 0).written())
            assert (await client.answer()).status == 200
        for path in (b"/v2/health/ready", b"/metrics", b"/v2/models/sim/ready"):
            async with wire.client() as probe:
                await probe.send(b"GET %s HTTP/1.1\r\n" % path + HOST + b"\r\n")
                assert (await probe.answer()).status == 200
                assert await probe.closed()
        async with wire.client() as other:
            await other.send(Request(b"", b"x", 0).written())
            answer = await other.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert await other.closed()
        # The reserve is full of connections that ask for nothing: the oldest makes room.
        async with wire.client() as first, wire.client(), wire.client() as last:
            assert (await first.answer()).status == 503
            await last.send(b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await last.answer()).status == 200
        await one.send(Request(b"", b"still", 0).written())
        assert (await one.answer()).plain["body"] == "still"
    assert len(caplog.records) == 1
    assert "2 of them from 127.0.0.1" in caplog.text


async def read_bounded(scope: Scope, receive: Receive, send: Send) -> None:
    """As every route reads a body: whole, and bounded."""
    body = b""
    try:
        body = await Bodies(MOST_BYTES).whole(dict(scope["headers"]), receive)
    except HeadwayError as error:
        await send_error(send, error)
        return
    head = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


MOST_BYTES = 1 << 20
PLAIN = b"the bus is late again " * 5000
BOMB = gzip.compress(bytes(100 * MOST_BYTES))
RAW_DEFLATE = zlib.compressobj(wbits=-15)
ENCODED = {
    "gzip": (b"gzip", gzip.compress(PLAIN), 200),
    "gzip in two members": (b"gzip", gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]), 200),
    "x-gzip": (b"X-GZIP", gzip.compress(PLAIN), 200),
    "deflate": (b"deflate", zlib.compress(PLAIN), 200),
    "deflate without a header": (
        b"deflate",
        RAW_DEFLATE.compress(PLAIN) + RAW_DEFLATE.flush(),
        200,
    ),
    "identity": (b"Identity", PLAIN, 200),
    "a bomb": (b"gzip", BOMB, 413),
    "cut off": (b"gzip", gzip.compress(PLAIN)[:-9], 400),
    "something behind": (b"deflate", zlib.compress(PLAIN) + b"x", 400),
    "no gzip": (b"gzip", PLAIN, 400),
    "empty": (b"gzip", b"", 400),
    "brotli": (b"br", PLAIN, 415),
    "two": (b"gzip, deflate", PLAIN, 415),
}


@pytest.mark.parametrize("case", ENCODED)
async def test_compressed_bodies(case: str) -> None:
    encoding, body, status = ENCODED[case]
    head = b"POST / HTTP/1.1\r\n%sContent-Encoding: %s\r\n" % (HOST, encoding)
    async with Wire(read_bounded).open() as wire, wire.client() as client:
        await client.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = await client.answer()
        assert answer.status == status, answer.body[:200]
        if status == 200:
            assert answer.body == PLAIN
        elif status == 415:
            assert answer.headers["accept-encoding"] == "gzip, deflate"
