"""An engine in another process, behind a Unix socket, as the `Engine` port.

When the socket closes, every request that waits fails at once; nothing is ever sent again.
Until the engine is back and has told its status, its models are loading.

An engine that is stopped keeps its socket open. So the edge ends requests itself where their time
is over (see deadlines), and asks the engine each second for a sign of life (see pulse): one that is
silent fails what waits, and is given nothing until it is heard again. What it answers then was
ended here, and is dropped.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

import msgspec

from predictor.core.errors import (
    DeadlineExceeded,
    HeadwayError,
    QueueFull,
    RequestTooLarge,
    Unavailable,
)
from predictor.core.facts import EdgeFact, EdgeRefused, JobsSeen
from predictor.core.generation import Generated
from predictor.core.rows import NO_DEADLINE, Outcome
from predictor.core.shown import shown
from predictor.edge.deadlines import Deadlines
from predictor.engine import wire
from predictor.engine.link import Link
from predictor.engine.port import EngineStatus, Reply, Submission
from predictor.engine.pulse import BEAT_S, DEAD_LOADING_S, DEAD_S, SILENT_S, Pulse
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
    Part,
    Ping,
    Status,
    StopRow,
    Submit,
)

_LOG = logging.getLogger("headway.edge")

MAX_OUTSTANDING = 1 << 16
MAX_UNSENT_BYTES = 64 << 20  # with at most one request over it, a turn stays below a frame
MAX_REQUEST_BYTES = MAX_FRAME_BYTES // 2
MAX_KEPT_REFUSALS = 10_000
METRICS_WITHIN_S = 10.0
# The engine ends what waits at its deadline, and its word takes a while; a batch may end late.
TIMEOUT_GRACE_S = 0.25
SLO_GRACE_S = 1.0
SLO_GRACE_SHARE = 1.0
DEAD_AFTER_S = 10.0  # the supervisor goes first, whoever watches this edge goes so much later
RECONNECT_S = 0.2  # only where a connect fails, which the supervisor's open socket prevents

EngineLink = Link[FromEngine, FromEdge]


class _Waiting(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A request that the engine has and has not answered."""

    future: asyncio.Future[Reply]
    model: str
    tokens: int
    part: Callable[[Generated], bool] | None
    slot: int  # of its deadline


class RemoteEngine:
    """An `Engine` at the other end of a socket. All methods belong to the edge's event loop."""

    def __init__(self, index: int, path: str, model_names: Sequence[str]) -> None:
        """`path` is the engine's Unix socket; `model_names` are those that it serves."""
        self.index = index
        self.outstanding_tokens = 0
        self._path = path
        self._unknown = EngineStatus(False, 0, {}, tuple(model_names))
        self._status = self._told_status = self._unknown
        self._changed: Callable[[], None] = lambda: None
        self._draining = False
        self._link: EngineLink | None = None
        self._known = False  # it has told its status since the link was opened
        self._silent = False
        self._alive = True
        self._said_ready = False  # to the log, since the link was opened
        self._pulse = Pulse(monotonic())
        self._beats: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self._ids = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._deadlines = Deadlines(self._due)
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
        return self._known and not self._silent

    def drain(self) -> None:
        """Refuse new submissions, and close when all that wait are answered."""
        self._draining = True
        self._refresh()
        self._leave_if_done()

    def abandon(self) -> None:
        """Fail all requests that wait."""
        self._fail_all("the server stopped before the request ended; try again")

    # The Engine port.

    def submit(
        self, submission: Submission, part: Callable[[Generated], bool] | None = None
    ) -> asyncio.Future[Reply]:
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
        now_s = monotonic()
        slot = self._deadlines.add(request_id, self._due_s(submission, now_s), now_s)
        self._waiting[request_id] = _Waiting(future, submission.model, tokens, part, slot)
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
            doing = "does not answer" if self._silent else "is restarting"
            raise Unavailable(f"the engine {doing}; scrape again shortly")
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
        if self._silent:
            return Unavailable("the engine does not answer; try again shortly")
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
            self._deadlines.ended(request_id, waiting.slot)
            self._leave_if_done()
        return waiting

    def _due_s(self, submission: Submission, now_s: float) -> float:
        """When the edge ends a request itself, because the engine should have.

        Of a row that generates only the first token is due, which shows where it streams.
        """
        if submission.rows[:1] and submission.rows[0].sampling and not submission.streams:
            return NO_DEADLINE
        arrived_s = now_s if submission.arrived_s is None else submission.arrived_s
        due_s = NO_DEADLINE
        if submission.timeout_s is not None:
            due_s = arrived_s + submission.timeout_s + TIMEOUT_GRACE_S
        slo_s = self._slo_s(submission)
        if slo_s < NO_DEADLINE:
            due_s = min(due_s, arrived_s + slo_s + max(SLO_GRACE_S, SLO_GRACE_SHARE * slo_s))
        return due_s

    def _slo_s(self, submission: Submission) -> float:
        tier = submission.tier
        if tier is None:
            asked = submission.priority
            tiers = self._status.tiers.items()
            tier = next((name for name, priority in tiers if asked in (None, priority)), "")
        return self._status.slos_s.get(tier, NO_DEADLINE)

    def _due(self, request_ids: Iterable[int]) -> None:
        for request_id in list(request_ids):
            waiting = self._settled(request_id)
            if waiting is not None:
                self._send(Cancel(request_id))
                if not waiting.future.done():
                    waiting.future.set_exception(
                        DeadlineExceeded("the deadline passed, and the engine gave no answer")
                    )

    def _fail_all(self, why: str) -> int:
        """End all that waits here, and tell the engine; how many requests that were."""
        lost = list(self._waiting)
        for request_id in lost:
            waiting = self._settled(request_id)
            if waiting is None:
                continue
            self._send(Cancel(request_id))
            if not waiting.future.done():
                waiting.future.set_exception(Unavailable(why))
                self.report(EdgeRefused(waiting.model, "", Outcome.UNAVAILABLE))
        return len(lost)

    # Signs of life.

    def _beat(self) -> None:
        """Ask for one, and look how long ago the last one was."""
        self._beats = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        silent_s = self._pulse.silent_s(monotonic())
        if not self._known:
            return  # it is being started, and its supervisor knows how long that may take
        if silent_s >= SILENT_S and not self._silent:
            self._silent = True
            self._refresh()
            failed = self._fail_all("the engine does not answer; try again shortly")
            self._fail_scrapes("the engine does not answer; scrape again shortly")
            _LOG.error(
                "engine %d has been silent for %.0f s; %d requests failed",
                self.index,
                silent_s,
                failed,
            )
        dead_s = DEAD_AFTER_S + (DEAD_LOADING_S if self._told_status.loading else DEAD_S)
        if silent_s >= dead_s and self._alive:
            self._alive = False
            self._refresh()
        if not self._silent:
            self._send(Ping())

    def _heard(self) -> None:
        self._pulse.heard(monotonic())
        if self._silent:
            self._silent, self._alive = False, True
            _LOG.warning("engine %d answers again", self.index)
            self._refresh()
            self._tell_kept()

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
        self._pulse = Pulse(monotonic())
        self._beats = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _received(self, link: EngineLink, messages: list[FromEngine]) -> None:
        self._heard()
        for message in messages:
            if isinstance(message, Answered):
                waiting = self._settled(message.id)
                if waiting is not None and not waiting.future.done():
                    waiting.future.set_result(message.reply)
            elif isinstance(message, Part):
                self._part(message)
            elif isinstance(message, Failed):
                self._failed(message)
            elif isinstance(message, Status):
                self._told(message.status)
            elif isinstance(message, Exposed):
                scrape = self._scrapes.get(message.id)
                if scrape is not None and not scrape.done():
                    scrape.set_result(message)

    def _part(self, message: Part) -> None:
        waiting = self._waiting.get(message.id)
        if waiting is None or waiting.part is None or waiting.future.done():
            return
        self._deadlines.ended(message.id, waiting.slot)
        if not waiting.part(message.generated) and message.generated.finish is None:
            self._send(StopRow(message.id, message.generated.index))

    def _failed(self, message: Failed) -> None:
        scrape = self._scrapes.get(message.id)
        waiting = self._settled(message.id)
        future = scrape or (waiting.future if waiting is not None else None)
        if future is not None and not future.done():
            future.set_exception(wire.error_of(message))

    def _told(self, status: EngineStatus) -> None:
        if not self._known:
            self._known = True
            for seen in self._jobs_seen.values():
                self._send(seen)
        self._told_status = status
        self._refresh()
        self._tell_kept()
        away = status.loading or status.draining or status.edges_missing
        if not (self._said_ready or away):
            self._said_ready = True
            _LOG.info("engine %d is ready for %s", self.index, ", ".join(sorted(status.models)))
        self._leave_if_done()

    def _tell_kept(self) -> None:
        while self._refusals:
            self._send(self._refusals.popleft())

    def _closed(self, link: EngineLink) -> None:
        self._link = None
        self._known = self._silent = self._said_ready = False
        self._alive = True
        if self._beats is not None:
            self._beats.cancel()
        expected = self._status.draining
        self._refresh()
        lost = self._fail_all("the engine ended before the request did; try again shortly")
        self._fail_scrapes("the engine is restarting; scrape again shortly")
        if lost or not expected:
            _LOG.warning("engine %d is gone; %d requests failed", self.index, lost)
        self._lost.set()

    def _fail_scrapes(self, why: str) -> None:
        for scrape in self._scrapes.values():
            if not scrape.done():
                scrape.set_exception(Unavailable(why))

    def _refresh(self) -> None:
        """Make the status of what was told and what is known here."""
        status = self._told_status if self.connected else self._unknown
        self._status = msgspec.structs.replace(
            status,
            draining=self._draining or status.draining,
            silent=self._silent,
            alive=self._alive,
        )
        self._changed()
