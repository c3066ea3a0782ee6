"""HTTP/1.1 below ASGI: uvicorn's protocol, with limits, and right for clients it does not expect.

How requests are read is in http_reading.py. Here is what becomes of a connection:

- Each part of a request has its time. What is over a bound is answered, in its turn, and then the
  connection closes.
- A client that has sent all and shuts down its side gets its answer. The same FIN comes from one
  that went away: the first bytes of the answer, sent early, tell the two apart, because a closed
  socket answers them with a reset.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from predictor.edge.asgi import AsgiApp
from predictor.edge.connections import Admission
from predictor.edge.heads import Refusal
from predictor.edge.http_answers import STATUS_BEGINS, Begun, Http10Cycle, Lingering, refusing
from predictor.edge.http_reading import MAX_PIPELINED, RequestReader
from predictor.edge.http_rim import BUSY, HttpRim, busy, timed_out
from predictor.edge.moving_deadline import MovingDeadline

_LINGER_S = 2.0  # for the client to read a refusal, after which the connection is cut
_DISCARD_S = 30.0  # for the rest of a body that was answered early
_RESERVED_HEAD_S = 2.0  # for the head on a connection beyond the limits
_PEER_CHECKS_S = (0.02, 0.05, 0.1, 0.3, 1.0, 3.0)  # after a FIN: a reset takes a round trip
_TCP_CLOSE = 7  # of Linux's TCP_INFO: the peer has answered with a reset


class EdgeHttpProtocol(RequestReader):
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
        # The request that is being answered; `self.cycle` is the one that was parsed last.
        self._front: RequestResponseCycle | None = None
        self._discarding = False  # the rest of a body
        self._ended = False  # the client has sent all
        self._deadline = MovingDeadline(self.loop, self._timed_out)
        self._unsent = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        client = self.client[0] if self.client else None
        self._admission = self._rim.connections.opened(self, client)
        if self._admission is Admission.OPEN:
            self._deadline.within(self._timeouts.keep_alive_s)
        elif self._admission is Admission.RESERVED:
            self._deadline.within(_RESERVED_HEAD_S)
        elif self._admission is Admission.REFUSED:
            self._refuse(busy())
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        client = self.client[0] if self.client else None
        self._rim.connections.closed(self, client, self._admission)
        self._deadline.end()
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

    def _check_peer(self, waits: Iterator[float]) -> None:
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
        self._rim.on_refusal(BUSY)
        self.transport.write(busy().answer())
        self.transport.close()

    def shutdown(self) -> None:
        """Close when what is in flight is answered."""
        if self._front is None or self._front.response_complete:
            self.transport.close()
        else:
            # With keep_alive off, the cycle closes when it has answered.
            (self.pipeline[0][0] if self.pipeline else self._front).keep_alive = False

    # Requests

    def _begins(self) -> None:
        self._deadline.due_s = None

    def _ends(self) -> None:
        self._discarding = False
        self._deadline.due_s = None
        if self.cycle.response_complete:
            self._deadline.within(self._timeouts.keep_alive_s)

    def _received(self) -> None:
        """Of what was received in part."""
        if self._in_head:
            if self._deadline.due_s is None:
                reserved = self._admission is Admission.RESERVED
                self._deadline.within(_RESERVED_HEAD_S if reserved else self._timeouts.head_s)
        elif self._in_body:
            if not self.cycle.response_complete:
                self._deadline.within(self._timeouts.body_idle_s)
            elif not self._discarding:
                # It was refused before it was read to its end.
                self._discarding = True
                self._deadline.within(_DISCARD_S)

    def _begin_cycle(self, keep_alive: bool) -> None:
        self._discarding = False
        self._deadline.due_s = None
        app: AsgiApp = self.app
        transport = self.transport
        if self._admission is Admission.RESERVED:
            keep_alive = False
            transport = Lingering(transport, self._close_gently)  # type: ignore[assignment]
            if not self._rim.is_probe(self.scope["method"], self.scope["path"]):
                refusal = busy()
                self._rim.on_refusal(BUSY)
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
        if self._front is None:
            self._front = cycle
            self._start_asgi_task(cycle, app)  # type: ignore[arg-type]
        else:
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

    # Answers

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._front = None
        if self.transport.is_closing():
            self.pipeline.clear()
            self._deadline.within(self._timeouts.keep_alive_s)  # for the client to take the answer
            return
        if self.pipeline:
            self._start(*self.pipeline.pop())
        if self._held and len(self.pipeline) < MAX_PIPELINED:
            held, self._held = self._held, b""
            self._feed_slices(held)
        if self._ended and self._is_cut_off():
            self.transport.close()
            return
        if not self.pipeline and not self._held:
            self.flow.resume_reading()
        if self._in_head or self._in_body:
            self._received()
        elif self._is_idle():
            self._deadline.within(self._timeouts.keep_alive_s)

    def _is_idle(self) -> bool:
        return self._front is None and not self._deaf

    def _is_cut_off(self) -> bool:
        """Whether the client, which has ended, did so in the middle of what is next."""
        front = self._front
        return not self._held and (front is None or front.more_body)

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
        self._deadline.within(_LINGER_S)

    # Time

    def _timed_out(self) -> None:
        unsent, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self.transport.is_closing() or self._unsent:
            # The client takes an answer; it is cut when it takes nothing any more.
            if 0 < self._unsent < unsent or not unsent:
                self._deadline.within(self._timeouts.keep_alive_s)
            else:
                self.transport.abort()
        elif self._deaf or self._discarding:
            self.transport.abort()
        elif self.flow.read_paused:  # it is not the client that is slow
            self._deadline.within(self._timeouts.body_idle_s)
        elif self._in_head:
            self._refuse(timed_out(f"the headers took over {self._timeouts.head_s:g} s"))
        elif self._in_body:
            self._refuse(timed_out(f"body: nothing came for {self._timeouts.body_idle_s:g} s"))
        else:
            self.transport.close()
