"""Requests as they are read from an HTTP/1.1 connection: bounded, and right for any client.

- An offer to change the protocol (`Upgrade: h2c` of Java's client and of `curl --http2`) is
  ignored, as RFC 9110 7.8 allows. The parser would end the request at its head, and take its body
  for the next request; so the head is parsed again without the offer.
- Heads, trailers, chunk extensions and pipelined requests are bounded.
- Trailers are no headers.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from predictor.edge import heads
from predictor.edge.heads import Refusal

_LOG = logging.getLogger("headway.edge")

MAX_PIPELINED = 16  # requests that wait for the one before; what comes behind them stays unparsed
_SLICE_BYTES = 1 << 12  # of a segment are parsed at a time where requests may begin in it
_CHUNK_FRAME_BYTES = 16  # of each chunk that count for nothing
_WATCHED = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host"})


class RequestReader(HttpToolsProtocol):
    """The half of a connection that reads. What it cannot take ends in `_refuse`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Where in a request the parser is; both False: between two.
        self._in_head = False
        self._in_body = False
        self._head_bytes = 0
        self._content_length = 0
        self._body_bytes = 0
        self._chunked = False
        self._chunks = 0
        self._trailers = 0
        self._framing_bytes = 0  # of a chunked body: what is not the body's
        self._hosts = 0
        self._offered: bytes | None = None  # the head without its offer of another protocol
        self._held = b""  # received, not parsed yet
        self._deaf = False  # what still comes is thrown away

    def _begins(self) -> None:
        """The first byte of a request was read."""
        raise NotImplementedError

    def _begin_cycle(self, keep_alive: bool) -> None:
        """A head was read: `self.scope` has it."""
        raise NotImplementedError

    def _ends(self) -> None:
        """A request was read to its end."""
        raise NotImplementedError

    def _received(self) -> None:
        """All that came was read, and the request is not whole."""
        raise NotImplementedError

    def _refuse(self, refusal: Refusal) -> None:
        raise NotImplementedError

    # Bytes

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._held:  # reading was resumed for a moment, to notice that a client leaves
            self._held += data
            self.flow.pause_reading()
            return
        if len(data) <= _SLICE_BYTES:
            self._feed(data)
        else:
            self._feed_slices(data)
        if self._in_head or self._in_body:
            self._received()

    def _feed_slices(self, data: bytes) -> None:
        view = memoryview(data)
        at = 0
        while at < len(data) and not self._deaf:
            if len(self.pipeline) >= MAX_PIPELINED:
                self._held = bytes(view[at:])
                self.flow.pause_reading()
                return
            size = _SLICE_BYTES
            if self._in_body and not self._chunked:
                size = max(self._content_length - self._body_bytes, 1)
            self._feed(view[at : at + size])
            at += size

    def _feed(self, data: bytes | memoryview) -> None:
        body_bytes = self._body_bytes
        chunked = self._chunked
        try:
            self._parse(data)
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > heads.MAX_HEAD_BYTES:
                    raise heads.head_too_large()
            elif self._in_body and self._chunked and chunked:
                self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
                allowed = heads.MAX_HEAD_BYTES + _CHUNK_FRAME_BYTES * self._chunks
                if self._framing_bytes > allowed:
                    raise heads.head_too_large()
        except Refusal as refusal:
            self._refuse(refusal)

    def _parse(self, data: bytes | memoryview) -> None:
        head_end = self._parse_until_offer(data)
        if head_end is None:
            return
        head, self._offered = self._offered, None
        if head is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request cannot be read")
        self.parser = self._new_parser()
        self._parse(head)
        rest = data[head_end:]
        if rest:
            self._parse(rest)

    def _parse_until_offer(self, data: bytes | memoryview) -> int | None:
        """Where a head ends that offers another protocol; None: all was parsed.

        What follows is parsed when this has returned: an error that is raised while another is
        handled loses the context that the parser gave it, which is the callback's refusal.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as at_head_end:
            return int(at_head_end.args[0])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            _LOG.error("reading a request failed", exc_info=error.__context__ or error)
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request cannot be read") from None
        except httptools.HttpParserError as error:
            reason = "HTTP/2 has a port of its own, that of gRPC" if "PRI" in str(error) else error
            raise Refusal(HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1: {reason}") from None
        return None

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # Callbacks of the parser. An exception in one ends up in _parse.

    def on_message_begin(self) -> None:
        if self._ended_by_close():
            raise Refusal(None, "")
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._content_length = self._body_bytes = 0
        self._chunked = False
        self._hosts = 0
        self._begins()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > heads.MAX_TARGET_BYTES:
            raise heads.target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._trailers += 1
            if self._trailers > heads.MAX_HEADERS:
                raise heads.too_many_headers()
            return
        name = name.lower()
        if name in _WATCHED:
            self._watch(name, value)
        self.headers.append((name, value))

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if not value.isdigit():
                raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length: must be a number of bytes")
            self._content_length = int(value)
        elif name == b"host":
            self._hosts += 1
            if self._hosts > 1:
                raise Refusal(HTTPStatus.BAD_REQUEST, "Host: there are several; send one")
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise Refusal(
                    HTTPStatus.EXPECTATION_FAILED,
                    "Expect: 100-continue alone is known; leave it out",
                )
            self.expect_100_continue = True
        else:
            if self._chunked or value.lower() != b"chunked":
                raise Refusal(
                    HTTPStatus.NOT_IMPLEMENTED,
                    "Transfer-Encoding: chunked alone is known; send the body so, or with "
                    "Content-Length",
                )
            self._chunked = True
            self._chunks = self._framing_bytes = self._trailers = 0

    def on_headers_complete(self) -> None:
        parser = self.parser
        self._in_head = False
        if self._head_bytes or len(self.headers) > heads.MAX_HEADERS:
            heads.check_size(self.headers)
        version = parser.get_http_version()
        method = parser.get_method()
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "CONNECT: this is no proxy")
            self._offered = heads.without_upgrade(method, self.url, version, self.headers)
            return
        scope = self.scope
        scope["method"] = method.decode("ascii")
        if version != "1.1":
            self._check_version(version)
            scope["http_version"] = version
        raw_path, scope["query_string"] = heads.path_and_query(self.url)
        scope["raw_path"] = raw_path
        scope["path"] = heads.readable(raw_path)
        self._in_body = True
        self._begin_cycle(version != "1.0" and parser.should_keep_alive())

    def _check_version(self, version: str) -> None:
        if version != "1.0":
            raise Refusal(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
                f"HTTP/{version} is not spoken here; use HTTP/1.1",
            )
        if self._chunked:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Transfer-Encoding: HTTP/1.0 has none")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_message_complete(self) -> None:
        if self._offered is not None:
            return
        self._in_body = False
        self._ends()
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.more_body = False
        cycle.message_event.set()

    def _ended_by_close(self) -> bool:
        """Whether the request before this one was the last of its connection."""
        return bool(self.cycle) and not self.cycle.keep_alive
