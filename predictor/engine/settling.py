"""From the device, or a decision, to the futures: how requests end, and who is told."""

import logging

from predictor.core.errors import DeadlineExceeded, HeadwayError, RowFailed, Shed, Unavailable
from predictor.core.facts import Observer, Settled, TokensCame
from predictor.core.generation import Finish
from predictor.core.rows import NO_DEADLINE, Outcome, Row
from predictor.engine.device import Finished
from predictor.engine.isolation import said_by
from predictor.engine.outputs import StepOutputs
from predictor.engine.port import DeviceMemoryExhausted
from predictor.engine.request import Request
from predictor.policy.scheduler import Scheduler

_LOG = logging.getLogger("headway.engine")

MEMORY_RETRY_S = 5.0


class Settling:
    """Settles rows into their requests. A request settles once, whatever its rows do then."""

    def __init__(self, observer: Observer, scheduler: Scheduler) -> None:
        self._observer = observer
        self._scheduler = scheduler

    def finished(self, done: Finished) -> int:
        """Settle the rows of a batch; how many failed."""
        failed = 0
        for row, result in zip(done.batch.rows, done.ran.results, strict=True):
            if isinstance(result, bytes):
                self._row_done(row, result, done)
            else:
                assert isinstance(result, Exception)
                failed += 1
                self._row_failed(row, result, done)
        return failed

    def step_finished(self, outputs: StepOutputs, done: Finished) -> int:
        """Hand on the tokens of a step, and settle the rows that ended; how many failed."""
        batch, size = done.batch, done.batch.size
        if outputs.rows:
            self._observer.observe(TokensCame(batch.model, outputs.firsts, outputs.gaps))
        for row, token in zip(outputs.rows, outputs.tokens, strict=True):
            request = row.owner
            assert isinstance(request, Request)
            if request.future.done():
                continue
            request.batch_size = size
            goes_on = request.generated(row, token)
            assert row.progress is not None
            if row.progress.ended:
                self._row_ended(row, request, done.finished_s)
            elif not goes_on:
                self._stopped(row, request, done.finished_s)
        failed = 0
        for row, error in outputs.failed:
            request = row.owner
            assert isinstance(request, Request)
            if not request.settled:
                failed += 1
                self._row_failed(row, error, done)
        return failed

    def stopped(self, row: Row, now_s: float) -> None:
        """Whoever reads the row wants no more of it."""
        progress = row.progress
        request = row.owner
        assert progress is not None
        assert isinstance(request, Request)
        if not (progress.ended or request.settled):
            self._stopped(row, request, now_s)

    def _stopped(self, row: Row, request: Request, now_s: float) -> None:
        assert row.progress is not None
        row.progress.ended, row.progress.finish = True, Finish.STOP
        self._scheduler.cancel(row)
        self._row_ended(row, request, now_s)

    def _row_ended(self, row: Row, request: Request, now_s: float) -> None:
        """The request's times are those of the row that ended last."""
        if not request.row_ended():
            return
        progress = row.progress
        assert progress is not None
        queue_s = progress.began_s - row.arrival_s
        service_s = now_s - progress.began_s
        in_time = all(map(self._in_time, request.rows))
        self._answer(request, queue_s, service_s, now_s, request.batch_size, in_time)

    def gave_up(self, row: Row, outcome: Outcome, now_s: float) -> None:
        """The scheduler let go of a row that waited."""
        if outcome is Outcome.EXPIRED:
            error: HeadwayError = DeadlineExceeded("the deadline passed while the request waited")
        else:
            error = Shed(
                "would miss its deadline, so it was taken out of the queue; try again later",
                self._scheduler.drain_s(row.model, row.tier, now_s),
            )
        self._fail(row, error, now_s)

    def ended(self, request: Request, outcome: Outcome, now_s: float) -> None:
        """Tell of a request that ended without an answer."""
        latency_s = now_s - request.arrival_s
        self._observer.observe(
            Settled(request.model, request.tier, outcome, request.size, latency_s)
        )

    def _row_done(self, row: Row, result: bytes, done: Finished) -> None:
        request = row.owner
        assert isinstance(request, Request)
        if request.settled or not request.row_done(row, result):
            return
        queue_s = done.started_s - row.arrival_s
        service_s = done.finished_s - done.started_s
        in_time = not row.relegated and done.finished_s <= row.deadline_s
        self._answer(request, queue_s, service_s, done.finished_s, done.batch.size, in_time)

    def _answer(
        self,
        request: Request,
        queue_s: float,
        service_s: float,
        now_s: float,
        batch_size: int,
        in_time: bool,
    ) -> None:
        request.answer(queue_s, service_s, batch_size)
        self._observer.observe(
            Settled(
                request.model,
                request.tier,
                Outcome.OK,
                request.size,
                now_s - request.arrival_s,
                queue_s,
                service_s,
                deadline_met=in_time,
            )
        )

    def _in_time(self, row: Row) -> bool:
        """Whether a row that generated met both its deadlines."""
        progress = row.progress
        assert progress is not None
        first_in_time = not row.relegated and progress.first_token_s <= row.deadline_s
        return first_in_time and progress.gap_judged_s <= self._itl_slo_s(row.tier)

    def _itl_slo_s(self, tier: str) -> float:
        promised = self._scheduler.parameters.tiers.get(tier)
        return NO_DEADLINE if promised is None else promised.itl_slo_s

    def _row_failed(self, row: Row, error: Exception, done: Finished) -> None:
        said = said_by(error)
        _LOG.warning("model %s failed for one row: %s", row.model, said)
        self._fail(row, self._answer_to(row, error, said), done.finished_s)

    def _answer_to(self, row: Row, error: Exception, said: str) -> HeadwayError:
        """What a client is told of a row that failed alone."""
        if not isinstance(error, DeviceMemoryExhausted):
            return RowFailed(f"the model failed for this input: {said}")
        if self._scheduler.has_fitted(row):  # something else has the memory, for a while
            return Unavailable(
                f"the device is short of memory, and this row of {row.tokens} tokens, which would"
                " fit otherwise, does not run; try again shortly",
                MEMORY_RETRY_S,
            )
        return RowFailed(
            f"this row of {row.tokens} tokens does not fit into device memory; send a shorter one"
            f" ({said})"
        )

    def _fail(self, row: Row, error: HeadwayError, now_s: float) -> None:
        request = row.owner
        assert isinstance(request, Request)
        if request.settled:
            return
        request.fail(error)
        self.ended(request, error.outcome, now_s)
