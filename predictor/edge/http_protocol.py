"""HTTP/1.1 below ASGI: uvicorn's protocol, with limits, and right for clients it does not expect.

What is different:

- An offer to change the protocol (`Upgrade: h2c` of Java's client and of `curl --http2`) is
  ignored, as RFC 9110 7.8 allows. The parser would end the request at its head, and take its body
  for the next request; so the head is parsed again without the offer.
- Heads, trailers, chunk extensions and pipelined requests are bounded, and so is the time for each
  part of a request. What is over a bound is answered, in its turn, and then the connection closes.
- A client that has sent all and shuts down its side gets its answer. The same FIN comes from one
  that went away: the first bytes of the answer, sent early, tell the two apart, because a closed
  socket answers them with a reset.
- Trailers are no headers.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from predictor.edge import heads
from predictor.edge.asgi import AsgiApp
from predictor.edge.connections import Admission, Connections
from predictor.edge.heads import Refusal
from predictor.edge.http_answers import STATUS_BEGINS, Begun, Http10Cycle, Lingering, refusing

_LOG = logging.getLogger("headway.edge")

_SLICE_BYTES = 1 << 12  # of a segment are parsed at a time where requests may begin in it
_MAX_PIPELINED = 16  # requests that wait for the one before; what comes behind them stays unparsed
_CHUNK_FRAME_BYTES = 16  # of each chunk that count for nothing
_LINGER_S = 2.0  # for the client to read a refusal, after which the connection is cut
_DISCARD_S = 30.0  # for the rest of a body that was answered early
_RESERVED_HEAD_S = 2.0  # for the head on a connection beyond the limits
_BUSY_RETRY_S = 1
_PEER_CHECKS_S = (0.02, 0.05, 0.1, 0.3, 1.0, 3.0)  # after a FIN: a reset takes a round trip
_TCP_CLOSE = 7  # of Linux's TCP_INFO: the peer has answered with a reset
_WATCHED = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host"})


class HttpTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """For the whole head, between two pieces of a body, and between two requests."""

    head_s: float = 10.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 65.0


class HttpRim(msgspec.Struct, frozen=True):
    """What all connections of a server share."""

    connections: Connections
    timeouts: HttpTimeouts
    is_probe: Callable[[str, str], bool]  # method and path: answered beyond the limits, too
    on_refusal: Callable[[HTTPStatus], None]  # of what no app saw


class EdgeHttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        rim: HttpRim,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._rim = rim
        self._timeouts = rim.timeouts
        self._admission = Admission.OPEN
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
        # The request that is being answered; `self.cycle` is the one that was parsed last.
        self._front: RequestResponseCycle | None = None
        self._held = b""  # received, not parsed yet
        self._discarding = False  # the rest of a body
        self._deaf = False  # what still comes is thrown away
        self._ended = False  # the client has sent all
        self._deadline_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._unsent = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        client = self.client[0] if self.client else None
        self._admission = self._rim.connections.opened(self, client)
        if self._admission is Admission.OPEN:
            self._expect_within(self._timeouts.keep_alive_s)
        elif self._admission is Admission.RESERVED:
            self._expect_within(_RESERVED_HEAD_S)
        elif self._admission is Admission.REFUSED:
            self._refuse(_busy())
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        client = self.client[0] if self.client else None
        self._rim.connections.closed(self, client, self._admission)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for cycle in (self._front, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._held = b""
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Whether the connection stays open for what is still to be answered."""
        if self._deaf or self.scheme == "https":  # TLS ends both ways at once
            return None
        front = self._front
        if front is None or front.response_complete or front.more_body:
            return None
        self._ended = True
        if not front.response_started:
            self.transport.write(STATUS_BEGINS)
            front.transport = Begun(self.transport)  # type: ignore[assignment]
        self._check_peer(iter(_PEER_CHECKS_S))
        return True

    def _check_peer(self, waits: Any) -> None:
        """Cut the connection of a client that is gone."""
        if self.transport.is_closing():
            return
        peer = self.transport.get_extra_info("socket")
        if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        if peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            self.transport.abort()
            return
        wait_s = next(waits, None)
        if wait_s is not None:
            self.loop.call_later(wait_s, self._check_peer, waits)

    def give_way(self) -> bool:
        """Close for another connection's sake, unless a request is being answered."""
        if self._front is not None:
            return False
        if not self._deaf:
            self._turn_away()
        return True

    def _turn_away(self) -> None:
        """Answer and close at once: waiting for the client would cost what there is none of."""
        self._deaf = True
        self._rim.on_refusal(_BUSY)
        self.transport.write(_busy().answer())
        self.transport.close()

    def shutdown(self) -> None:
        """Close when what is in flight is answered."""
        if self._front is None or self._front.response_complete:
            self.transport.close()
        else:
            # With keep_alive off, the cycle closes when it has answered.
            (self.pipeline[0][0] if self.pipeline else self._front).keep_alive = False

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
        self._expect_rest()

    def _expect_rest(self) -> None:
        """Of what was received in part."""
        if self._in_head:
            if self._deadline_s is None:
                reserved = self._admission is Admission.RESERVED
                self._expect_within(_RESERVED_HEAD_S if reserved else self._timeouts.head_s)
        elif self._in_body:
            if not self.cycle.response_complete:
                self._expect_within(self._timeouts.body_idle_s)
            elif not self._discarding:
                # It was refused before it was read to its end.
                self._discarding = True
                self._expect_within(_DISCARD_S)

    def _feed_slices(self, data: bytes) -> None:
        view = memoryview(data)
        at = 0
        while at < len(data) and not self._deaf:
            if len(self.pipeline) >= _MAX_PIPELINED:
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
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as at_head_end:
            head, self._offered = self._offered, None
            if head is None:
                raise Refusal(HTTPStatus.BAD_REQUEST, "the request cannot be read") from None
            self.parser = self._new_parser()
            self._parse(head)
            rest = data[at_head_end.args[0] :]
            if rest:
                self._parse(rest)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            _LOG.error("reading a request failed", exc_info=error.__context__ or error)
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request cannot be read") from None
        except httptools.HttpParserError as error:
            reason = "HTTP/2 has a port of its own, that of gRPC" if "PRI" in str(error) else error
            raise Refusal(HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1: {reason}") from None

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
        self._deadline_s = None

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
        self._discarding = False
        self._deadline_s = None
        self._begin_cycle(version != "1.0" and parser.should_keep_alive())

    def _check_version(self, version: str) -> None:
        if version != "1.0":
            raise Refusal(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
                f"HTTP/{version} is not spoken here; use HTTP/1.1",
            )
        if self._chunked:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Transfer-Encoding: HTTP/1.0 has none")

    def _begin_cycle(self, keep_alive: bool) -> None:
        app: AsgiApp = self.app
        transport = self.transport
        if self._admission is Admission.RESERVED:
            keep_alive = False
            transport = Lingering(transport, self._close_gently)  # type: ignore[assignment]
            if not self._rim.is_probe(self.scope["method"], self.scope["path"]):
                refusal = _busy()
                self._rim.on_refusal(_BUSY)
                app = refusing(refusal)
        kind = RequestResponseCycle if self.scope["http_version"] == "1.1" else Http10Cycle
        cycle = self.cycle = kind(
            scope=self.scope,
            transport=transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self._queue(cycle, app)

    def _queue(self, cycle: RequestResponseCycle, app: AsgiApp) -> None:
        """Start a request when those before it are answered."""
        if self._front is None or self._front.response_complete:
            self._start(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))  # type: ignore[arg-type]

    def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._front = cycle
        self._start_asgi_task(cycle, app)

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
        self._in_body = self._discarding = False
        self._deadline_s = None
        cycle = self.cycle
        if cycle.response_complete:
            self._expect_within(self._timeouts.keep_alive_s)
            return
        cycle.more_body = False
        cycle.message_event.set()

    def _ended_by_close(self) -> bool:
        """Whether the request before this one was the last of its connection."""
        last = self.cycle
        return last is not None and not last.keep_alive

    # Answers

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._front = None
        if self.transport.is_closing():
            self.pipeline.clear()
            self._expect_within(self._timeouts.keep_alive_s)  # for the client to take the answer
            return
        if self.pipeline:
            self._start(*self.pipeline.pop())
        if self._held and len(self.pipeline) < _MAX_PIPELINED:
            held, self._held = self._held, b""
            self._feed_slices(held)
        if self._is_cut_off():
            self.transport.close()
            return
        if not self.pipeline and not self._held:
            self.flow.resume_reading()
        self._expect_rest()
        if not self._in_head and not self._in_body and not self._deaf and self._front is None:
            self._expect_within(self._timeouts.keep_alive_s)

    def _is_cut_off(self) -> bool:
        """Whether the client ended in the middle of what is next."""
        front = self._front
        return self._ended and not self._held and (front is None or front.more_body)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in its turn what cannot be read, and close."""
        if self._deaf:
            return
        self._deaf = True
        self._held = b""
        in_body, self._in_head, self._in_body = self._in_body, False, False
        if refusal.status is None:
            return
        self._rim.on_refusal(refusal.status)
        front = self._front
        if in_body and self.pipeline:
            self.pipeline.popleft()  # the app was not started yet
        elif in_body:
            cycle = self.cycle
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:  # it has its answer, or a part of one
                self._close_gently()
                return
            front = None
        if front is None or front.response_complete:
            self.transport.write(refusal.answer())
            self._close_gently()
            return
        cycle = RequestResponseCycle(
            scope={**front.scope, "method": "GET"},
            transport=Lingering(self.transport, self._close_gently),  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        self.cycle = cycle
        self._queue(cycle, refusing(refusal))

    def _close_gently(self) -> None:
        """Say that this was all, and wait a little for the client to do so, too.

        Closed with something unread, the socket would send a reset, and the client might never
        see the answer.
        """
        self._deaf = True
        if self.transport.is_closing():
            return
        if self._ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self.flow.resume_reading()
        self._expect_within(_LINGER_S)

    # Time

    def _expect_within(self, seconds: float) -> None:
        """Until `_deadline_s` is set anew, this much time is left.

        A timer that goes off before the deadline, which has moved since, starts again; so a
        request costs no timer of its own.
        """
        deadline_s = self._deadline_s = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer_s <= deadline_s:
                return
            self._timer.cancel()
        self._timer_s = deadline_s
        self._timer = self.loop.call_at(deadline_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        deadline_s = self._deadline_s
        if deadline_s is None:
            return
        left_s = deadline_s - self.loop.time()
        if left_s > 0:
            self._expect_within(left_s)
        else:
            self._deadline_s = None
            self._timed_out()

    def _timed_out(self) -> None:
        unsent, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self.transport.is_closing() or self._unsent:
            # The client takes an answer; it is cut when it takes nothing any more.
            if 0 < self._unsent < unsent or not unsent:
                self._expect_within(self._timeouts.keep_alive_s)
            else:
                self.transport.abort()
        elif self._deaf or self._discarding:
            self.transport.abort()
        elif self.flow.read_paused:  # it is not the client that is slow
            self._expect_within(self._timeouts.body_idle_s)
        elif self._in_head:
            self._refuse(_timeout(f"the headers took over {self._timeouts.head_s:g} s"))
        elif self._in_body:
            self._refuse(_timeout(f"body: nothing came for {self._timeouts.body_idle_s:g} s"))
        else:
            self.transport.close()


_BUSY = HTTPStatus.SERVICE_UNAVAILABLE


def _busy() -> Refusal:
    return Refusal(
        _BUSY, "this server has all the connections it takes; try again shortly", _BUSY_RETRY_S
    )


def _timeout(what: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, f"{what}; send the request again")
