"""An engine in another process, behind a Unix socket, as the `Engine` port.

When the socket closes, every request that waits fails at once; nothing is ever sent again.
Until the engine is back and has told its status, its models are loading.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from predictor.core.errors import HeadwayError, QueueFull, RequestTooLarge, Unavailable
from predictor.core.facts import EdgeFact, EdgeRefused, JobsSeen
from predictor.core.rows import Outcome
from predictor.core.shown import shown
from predictor.engine import wire
from predictor.engine.link import Link
from predictor.engine.port import EngineStatus, Reply, Submission
from predictor.engine.wire import (
    FROM_ENGINE,
    MAX_FRAME_BYTES,
    Answered,
    AskMetrics,
    Cancel,
    Exposed,
    Failed,
    FromEdge,
    FromEngine,
    Status,
    Submit,
)

_LOG = logging.getLogger("headway.edge")

MAX_OUTSTANDING = 1 << 16
MAX_UNSENT_BYTES = 64 << 20  # with at most one request over it, a turn stays below a frame
MAX_REQUEST_BYTES = MAX_FRAME_BYTES // 2
MAX_KEPT_REFUSALS = 10_000
METRICS_WITHIN_S = 10.0
RECONNECT_S = 0.2  # only where a connect fails, which the supervisor's open socket prevents

EngineLink = Link[FromEngine, FromEdge]


class _Waiting(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A request that the engine has and has not answered."""

    future: asyncio.Future[Reply]
    model: str
    tokens: int


class RemoteEngine:
    """An `Engine` at the other end of a socket. All methods belong to the edge's event loop."""

    def __init__(self, index: int, path: str, model_names: Sequence[str]) -> None:
        """`path` is the engine's Unix socket; `model_names` are those that it serves."""
        self.index = index
        self.outstanding_tokens = 0
        self._path = path
        self._unknown = EngineStatus(False, 0, {}, tuple(model_names))
        self._status = self._unknown
        self._changed: Callable[[], None] = lambda: None
        self._draining = False
        self._link: EngineLink | None = None
        self._known = False  # it has told its status since the link was opened
        self._lost = asyncio.Event()
        self._ids = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._scrapes: dict[int, asyncio.Future[Exposed]] = {}
        self._turn_bytes = 0  # of what was submitted in this turn of the loop
        self._refusals: deque[EdgeRefused] = deque(maxlen=MAX_KEPT_REFUSALS)
        self._jobs_seen: dict[str, JobsSeen] = {}

    async def stay_connected(self) -> None:
        """Connect, and again whenever the connection is lost, until the edge drains."""
        loop = asyncio.get_running_loop()
        while not self._draining:
            self._lost.clear()
            try:
                await loop.create_unix_connection(self._new_link, self._path)
            except OSError as error:
                _LOG.warning("engine %d cannot be reached: %s", self.index, error)
                await asyncio.sleep(RECONNECT_S)
            else:
                await self._lost.wait()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when the status changes."""
        self._changed = changed

    @property
    def connected(self) -> bool:
        """Whether it is there. A connect alone says nothing: it waits for the engine's start."""
        return self._known

    def drain(self) -> None:
        """Refuse new submissions, and close when all that wait are answered."""
        self._draining = True
        self._set_status(msgspec.structs.replace(self._status, draining=True))
        self._leave_if_done()

    # The Engine port.

    def submit(self, submission: Submission) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        size = tokens = 0
        for row in submission.rows:
            size += len(row.payload)
            tokens += row.tokens
        refusal = self._refusal(submission.model, size)
        if refusal is not None:
            future.set_exception(refusal)
            self.report(EdgeRefused(submission.model, "", refusal.outcome))
            return future
        if not self._turn_bytes:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._turn_bytes += size
        request_id = next(self._ids)
        self._waiting[request_id] = _Waiting(future, submission.model, tokens)
        self.outstanding_tokens += tokens
        self._send(Submit(request_id, submission))
        future.add_done_callback(
            lambda done: self._cancel(request_id) if done.cancelled() else None
        )
        return future

    def status(self) -> EngineStatus:
        return self._status

    def report(self, fact: EdgeFact) -> None:
        if isinstance(fact, JobsSeen):
            self._jobs_seen[fact.model] = fact  # a state, not an event: the next engine needs it
        if self.connected:
            self._send(fact)
        elif isinstance(fact, EdgeRefused):
            self._refusals.append(fact)  # so that the time without an engine shows, too

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Raises Unavailable where the engine is gone or does not answer in time."""
        if not self.connected:
            raise Unavailable("the engine is restarting; scrape again shortly")
        request_id = next(self._ids)
        future: asyncio.Future[Exposed] = asyncio.get_running_loop().create_future()
        self._scrapes[request_id] = future
        self._send(AskMetrics(request_id, accept))
        try:
            async with asyncio.timeout(METRICS_WITHIN_S):
                exposed = await future
        except TimeoutError:
            raise Unavailable(
                f"the engine gave no metrics within {METRICS_WITHIN_S:g} s; scrape again later"
            ) from None
        finally:
            self._scrapes.pop(request_id, None)
        return exposed.body, exposed.content_type

    # Out.

    def _refusal(self, model: str, size: int) -> HeadwayError | None:
        if self._draining:
            return Unavailable("the server is draining; try another replica")
        if not self.connected:
            return Unavailable(f"model {shown(model)} is loading; try again shortly")
        if size > MAX_REQUEST_BYTES:
            return RequestTooLarge(
                f"the rows take {size} bytes, over {MAX_REQUEST_BYTES}; send fewer in a request"
            )
        unsent_bytes = (self._link.unsent_bytes if self._link else 0) + self._turn_bytes
        if len(self._waiting) >= MAX_OUTSTANDING or unsent_bytes > MAX_UNSENT_BYTES:
            return QueueFull("the engine has too much waiting already; try again later")
        return None

    def _send(self, message: FromEdge) -> None:
        if self._link is not None:
            self._link.send(message)

    def _next_turn(self) -> None:
        self._turn_bytes = 0

    def _cancel(self, request_id: int) -> None:
        if self._settled(request_id) is not None:
            self._send(Cancel(request_id))

    def _settled(self, request_id: int) -> _Waiting | None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self.outstanding_tokens -= waiting.tokens
            self._leave_if_done()
        return waiting

    def _leave_if_done(self) -> None:
        """An engine that drains ends when its edges have left."""
        if self._status.draining and not self._waiting and self._link is not None:
            self._link.close()

    # In.

    def _new_link(self) -> EngineLink:
        return Link(
            FROM_ENGINE,
            opened=self._opened,
            received=self._received,
            closed=self._closed,
            max_unsent_bytes=MAX_FRAME_BYTES + MAX_UNSENT_BYTES,
        )

    def _opened(self, link: EngineLink) -> None:
        self._link = link

    def _received(self, link: EngineLink, messages: list[FromEngine]) -> None:
        for message in messages:
            if isinstance(message, Answered):
                waiting = self._settled(message.id)
                if waiting is not None and not waiting.future.done():
                    waiting.future.set_result(message.reply)
            elif isinstance(message, Failed):
                self._failed(message)
            elif isinstance(message, Status):
                self._told(message.status)
            else:
                scrape = self._scrapes.get(message.id)
                if scrape is not None and not scrape.done():
                    scrape.set_result(message)

    def _failed(self, message: Failed) -> None:
        scrape = self._scrapes.get(message.id)
        waiting = self._settled(message.id)
        future = scrape or (waiting.future if waiting is not None else None)
        if future is not None and not future.done():
            future.set_exception(wire.error_of(message))

    def _told(self, status: EngineStatus) -> None:
        was_ready = bool(self._status.models) and not self._status.loading
        if not self._known:
            self._known = True
            for seen in self._jobs_seen.values():
                self._send(seen)
        self._set_status(
            msgspec.structs.replace(status, draining=status.draining or self._draining)
        )
        while self._refusals:
            self._send(self._refusals.popleft())
        if not (was_ready or status.loading or status.draining):
            _LOG.info("engine %d is ready for %s", self.index, ", ".join(sorted(status.models)))
        self._leave_if_done()

    def _closed(self, link: EngineLink) -> None:
        self._link = None
        self._known = False
        expected = self._status.draining
        self._set_status(
            msgspec.structs.replace(self._unknown, draining=True)
            if self._draining
            else self._unknown
        )
        lost, self._waiting, self.outstanding_tokens = self._waiting, {}, 0
        for waiting in lost.values():
            if not waiting.future.done():
                waiting.future.set_exception(
                    Unavailable("the engine ended before the request did; try again shortly")
                )
                self.report(EdgeRefused(waiting.model, "", Outcome.UNAVAILABLE))
        for scrape in self._scrapes.values():
            if not scrape.done():
                scrape.set_exception(Unavailable("the engine is restarting; scrape again shortly"))
        if lost or not expected:
            _LOG.warning("engine %d is gone; %d requests failed", self.index, len(lost))
        self._lost.set()

    def _set_status(self, status: EngineStatus) -> None:
        self._status = status
        self._changed()
