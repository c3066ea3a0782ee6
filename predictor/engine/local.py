"""The engine: owns the queues and the device, and runs the scheduler's decisions.

The core is `_step`: ask the scheduler what to do, settle what it gives up, start what it
dispatches, until there is no more to start. It runs when something arrives or completes and
when the time comes that the scheduler asked for. Nothing polls. All requests that one turn
of the event loop brings are queued before `_step` runs, so that they can ride together.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from predictor.core.errors import (
    DeadlineExceeded,
    HeadwayError,
    InvalidRequest,
    QueueFull,
    Shed,
    Unavailable,
    UnknownModel,
)
from predictor.core.facts import (
    Completed,
    Dispatched,
    EdgeFact,
    EdgeRefused,
    JobsSeen,
    MemoryExhausted,
    Observer,
    Offered,
    ParametersInForce,
    Settled,
    Snapshot,
)
from predictor.core.model import ModelSpec
from predictor.core.parameters import Parameters
from predictor.core.rows import NO_DEADLINE, Batch, Outcome
from predictor.core.shown import shown
from predictor.engine.device import Clock, Device, Finished
from predictor.engine.isolation import said_by
from predictor.engine.outputs import outputs_of
from predictor.engine.port import (
    AnyRunner,
    DeviceLost,
    EngineStatus,
    Reply,
    Submission,
)
from predictor.engine.request import Part, Request
from predictor.engine.settling import Settling
from predictor.engine.threads import in_daemon_thread
from predictor.engine.ticket import Promise
from predictor.engine.warmup import service_times
from predictor.engine.watchdog import Watchdog
from predictor.freed_memory import HighWater
from predictor.policy.scheduler import Dispatch, Scheduler, WaitUntil

_LOG = logging.getLogger("headway.engine")

PREPARE_LEAD_S = 1e-3  # event loop timers are good to about half of this
FORMING_MEMORY = 0.95  # of the longest time that forming a batch took lately
# A request that waited for longer to be looked at is refused unseen, while that is cheaper than
# looking: all that come behind it wait, too, and would be too late in the end. Waiting for the
# end of a burst was tried: what bulk work leaves of the SLO is too little for it.
MAX_WAIT_SHARE_OF_SLO = 1 / 6
SHORTEST_TIMER_S = 1e-3  # they tick in milliseconds: a shorter one would spin


class LocalEngine:
    """An `Engine` in this process, on this event loop, with one device."""

    def __init__(
        self,
        model_names: Sequence[str],
        parameters: Parameters,
        observer: Observer,
        *,
        exposition: Callable[[str], tuple[bytes, str]],
        batch_timeout_s: float = 120.0,
        max_queued_bytes: int | None = None,
        warmed_up: Callable[[AnyRunner], AnyRunner] = lambda runner: runner,
        clock: Clock = time.monotonic,
    ) -> None:
        """`exposition` renders the metrics; a batch over `batch_timeout_s` is a hung device.

        `max_queued_bytes`: of the rows of all requests that have not ended; None: as many as come.

        `warmed_up` is given each runner before its first traffic, and gives what serves it.
        """
        self._observer = observer
        self.exposition = exposition
        self._batch_timeout_s = batch_timeout_s
        self._warmed_up = warmed_up
        self._clock = clock
        self._scheduler = Scheduler(parameters, PREPARE_LEAD_S)
        self._settling = Settling(observer, self._scheduler)
        self._runners: dict[str, AnyRunner] = {}
        self._loading = list(model_names)
        self._draining = False
        self._requests: dict[Promise, Request] = {}
        self._max_queued_bytes = max_queued_bytes
        self._queued_bytes = 0
        self._high_water = HighWater()
        self._device: Device | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step_due = False
        self._forming_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._watchdog = Watchdog(batch_timeout_s, self._hung)
        self._failure: asyncio.Future[None] | None = None
        self._batch_watchers: list[Callable[[], None]] = []
        self._status_watchers: list[Callable[[EngineStatus], None]] = []
        self._status = self._current_status()
        observer.observe(ParametersInForce(parameters.generation))

    async def start(self, loaders: Mapping[str, Callable[[], AnyRunner]]) -> None:
        """Load the models, one after the other. Must be awaited on the loop that serves.

        Raises whatever a loader raises: StartupError where a model cannot be served.
        """
        self._loop = asyncio.get_running_loop()
        self._failure = self._loop.create_future()
        self._device = Device(self._loop, self._finished, self._clock)
        for name, load in loaders.items():
            began_s = self._clock()
            runner = await in_daemon_thread(load)
            spec = runner.spec
            services = await in_daemon_thread(partial(service_times, runner))
            self._scheduler.add_model(
                name,
                services,
                spec.generation,
                prefix_cache=spec.generation is not None and spec.generation.prefix_cache,
            )
            self._runners[name] = self._warmed_up(runner)
            self._loading.remove(name)
            self._status_changed()
            _LOG.info(
                "model %s (%s on %s) is ready after %.1f s",
                name,
                spec.task,
                spec.device,
                self._clock() - began_s,
            )

    async def failure(self) -> None:
        """Return never; raise when the device hangs or is lost: only a restart can mend that."""
        assert self._failure is not None, "start() comes first"
        await self._failure

    def set_parameters(self, parameters: Parameters) -> None:
        """Put checked parameters in force; rows that wait are not disturbed."""
        self._scheduler.apply(parameters)
        self._status_changed()
        self._observer.observe(ParametersInForce(parameters.generation))
        self._poke()

    def drain(self) -> None:
        """Refuse new submissions from now on; what waits and runs is finished."""
        self._draining = True
        self._status_changed()

    def abandon(self, why: str = "the server stopped before the request ended; try again") -> None:
        """Fail all requests that wait or run with 503. Their rows never run, if they do not yet."""
        now_s = self._clock()
        for request in list(self._requests.values()):
            if not request.settled:
                request.fail(Unavailable(why))
                self._settling.ended(request, Outcome.UNAVAILABLE, now_s)

    def watch_status(self, watcher: Callable[[EngineStatus], None]) -> None:
        """Have `watcher` called whenever the status changes."""
        self._status_watchers.append(watcher)

    def watch_batches(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called whenever the rows of a batch have settled."""
        self._batch_watchers.append(watcher)

    def snapshot(self) -> Snapshot:
        return self._scheduler.snapshot(self._clock())

    # The Engine port.

    def submit(self, submission: Submission, part: Part | None = None) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.take(submission, future, part=part)
        return future

    def take(
        self,
        submission: Submission,
        future: Promise,
        waited_s: float = 0.0,
        part: Part | None = None,
    ) -> None:
        """As `submit`, for a future of the caller's, which waited here for so long to be taken."""
        now_s = self._clock()
        tier = submission.tier or ""
        try:
            tier = self._scheduler.parameters.tier_named(submission.tier, submission.priority)
            self._spec(submission.model)
            if not submission.rows:
                raise InvalidRequest("the request has no rows; send at least one")
            promised = self._scheduler.parameters.tiers[tier]
            if waited_s > MAX_WAIT_SHARE_OF_SLO * promised.slo_s and not promised.relegates:
                self._scheduler.turned_away(submission.model, now_s)
                refusal: HeadwayError | None = Shed(
                    "this engine has more requests than it can look at in time; try again later"
                )
            else:
                request = Request(submission.model, tier, future, part)
                refusal = self._admit(request, submission, now_s)
        except HeadwayError as error:
            # Its traceback holds this frame, and with it the future and all of the request.
            refusal = error.with_traceback(None)
        if refusal is not None:
            future.set_exception(refusal)
            self._observer.observe(
                Settled(submission.model, tier, refusal.outcome, len(submission.rows), 0.0)
            )

    def stop_row(self, future: Promise, index: int) -> None:
        """End one row of a request that streams: whoever reads it wants no more."""
        request = self._requests.get(future)
        if request is not None:
            self._settling.stopped(request.rows[index], self._clock())

    def status(self) -> EngineStatus:
        return self._status

    def report(self, fact: EdgeFact) -> None:
        self._observer.observe(fact)
        if isinstance(fact, EdgeRefused) and fact.outcome is Outcome.SHED:
            self._scheduler.turned_away(fact.model, self._clock())
        elif isinstance(fact, JobsSeen):
            self._scheduler.set_replicas(fact.model, fact.replicas)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return self.exposition(accept)

    # In: from submission to queue.

    def _spec(self, model: str) -> ModelSpec:
        if self._draining:
            raise Unavailable("the server is draining; try another replica")
        spec = self._status.models.get(model)
        if spec is not None:
            return spec
        if model in self._loading:
            raise Unavailable(f"model {shown(model)} is loading; try again shortly", 5.0)
        raise UnknownModel(f"model {shown(model)} is not served here")

    def _admit(self, request: Request, submission: Submission, now_s: float) -> HeadwayError | None:
        """Queue the request, or say why not. Raising would cost as much as the rest."""
        tier = self._scheduler.parameters.tiers[request.tier]
        arrived_s = submission.arrived_s
        arrived_s = now_s if arrived_s is None else min(arrived_s, now_s)
        timeout_s = submission.timeout_s
        expires_s = NO_DEADLINE if timeout_s is None else arrived_s + timeout_s
        # The SLO is kept when the answer has left the edge. The client's timeout is the client's.
        answer_s = max(tier.slo_s - submission.return_s, tier.slo_s / 2)
        deadline_s = min(arrived_s + answer_s, expires_s)
        if deadline_s < now_s:
            if expires_s < now_s:
                return DeadlineExceeded("the deadline passed before the request was queued")
            if not tier.relegates:
                return Shed("the tier's SLO passed before the request was read; try again later")
        size = sum([len(row.payload) for row in submission.rows])
        if (
            self._max_queued_bytes is not None
            and self._queued_bytes + size > self._max_queued_bytes
        ):
            return QueueFull(
                f"the queues hold as many bytes of input as they may ({self._max_queued_bytes});"
                " try again later"
            )
        request.expect(submission.rows, arrived_s, deadline_s, expires_s)
        admission = self._scheduler.submit(request.rows, now_s)
        if not isinstance(admission.refusal, InvalidRequest):
            work = admission.work
            self._observer.observe(
                Offered(request.model, request.tier, work.rows, work.tokens, admission.work_s)
            )
        if admission.refusal is not None:
            request.let_go()
            return admission.refusal
        self._requests[request.future] = request
        self._queued_bytes += size
        self._high_water.note(self._queued_bytes)
        request.future.add_done_callback(lambda _: self._left(request, size))
        self._poke()
        return None

    # The core.

    def _poke(self) -> None:
        """Have `_step` run once this turn's events are all in."""
        if not self._step_due and self._loop is not None:
            self._step_due = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while True:
            now_s = self._clock()
            decision = self._scheduler.next_action(now_s)
            for row, outcome in decision.given_up:
                self._settling.gave_up(row, outcome, now_s)
            match decision.action:
                case Dispatch(batch):
                    self._start(batch, now_s)
                    self._allow_for(self._clock() - now_s)
                case WaitUntil(time_s):
                    self._wake_at(time_s, now_s)
                    return
                case _:
                    return

    def _start(self, batch: Batch, now_s: float) -> None:
        assert self._device is not None
        self._observer.observe(Dispatched(batch, now_s))
        self._device.start(self._runners[batch.model], batch)
        if not self._watchdog.armed:
            self._watchdog.rearm(busy=True)

    def _allow_for(self, forming_s: float) -> None:
        """Form the next batch as much sooner as forming and launching one takes here."""
        self._forming_s = max(forming_s, FORMING_MEMORY * self._forming_s)
        self._scheduler.prepare_lead_s = PREPARE_LEAD_S + self._forming_s

    def _wake_at(self, time_s: float, now_s: float) -> None:
        if time_s < NO_DEADLINE and self._loop is not None:
            delay_s = max(time_s - now_s, SHORTEST_TIMER_S)
            self._timer = self._loop.call_later(delay_s, self._step)

    # Out: from the device, or a decision, to the future.

    def _finished(self, done: Finished) -> None:
        batch, ran = done.batch, done.ran
        if lost := next((each for each in ran.results if isinstance(each, DeviceLost)), None):
            self._end("the device failed", f"the device is lost: {said_by(lost)}")
            return
        outputs = None
        if batch.pieces:
            outputs = outputs_of(batch.pieces, ran.results, done.started_s, done.finished_s)
            failed_rows = [row for row, _ in outputs.failed]
            self._scheduler.completed(batch, done.finished_s, outputs.ended, failed_rows)
        else:
            self._scheduler.completed(batch, done.finished_s)
        for work in ran.exhausted:
            self._scheduler.out_of_memory(batch, work, done.finished_s)
            self._observer.observe(MemoryExhausted(batch.model, work.rows, work.tokens))
        self._watchdog.rearm(busy=bool(self._scheduler.in_flight))
        self._step()  # the device's next batch comes before the answers of the last one
        if outputs is not None:
            failed = self._settling.step_finished(outputs, done)
        else:
            failed = self._settling.finished(done)
        for watcher in self._batch_watchers:
            watcher()
        self._observer.observe(Completed(batch, done.started_s, done.finished_s, failed))
        if ran.at_once:
            self._learn_when_answered(done)

    def _learn_when_answered(self, done: Finished) -> None:
        """No answer has to wait for a lesson, and they are written in the next turn."""
        assert self._loop is not None
        lesson = partial(self._scheduler.learned, done.batch, done.started_s, done.finished_s)
        self._loop.call_soon(self._loop.call_soon, lesson)

    def _left(self, request: Request, size: int) -> None:
        """The future has ended: by an answer, an error, or because the client went away."""
        self._requests.pop(request.future, None)
        self._queued_bytes -= size
        self._high_water.note(self._queued_bytes)
        cancelled = request.future.cancelled()
        if cancelled:
            self._settling.ended(request, Outcome.CANCELLED, self._clock())
        if cancelled or request.future.exception() is not None:
            for row in request.rows:
                self._scheduler.cancel(row)
        request.let_go()

    def _hung(self) -> None:
        limit_s = self._batch_timeout_s
        self._end("the device hangs", f"the device has been at one batch for over {limit_s:g} s")

    def _end(self, brief: str, message: str) -> None:
        """Only a restart can mend it: settle everybody, and fail."""
        _LOG.critical("%s; ending, so that a restart can mend it", message)
        self.drain()
        self.abandon(f"{brief}; the server restarts")
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(RuntimeError(message))

    def _status_changed(self) -> None:
        self._status = self._current_status()
        for watcher in self._status_watchers:
            watcher(self._status)

    def _current_status(self) -> EngineStatus:
        return EngineStatus(
            draining=self._draining,
            generation=self._scheduler.parameters.generation,
            models={name: runner.spec for name, runner in self._runners.items()},
            loading=tuple(self._loading),
            tightest_slo_s=self._scheduler.parameters.tightest_slo_s,
            bulk_tier=self._scheduler.parameters.bulk_tier,
            tiers=self._scheduler.parameters.priorities,
            slos_s={
                name: tier.slo_s
                for name, tier in self._scheduler.parameters.tiers.items()
                if tier.slo_s < NO_DEADLINE and not tier.relegates
            },
        )
