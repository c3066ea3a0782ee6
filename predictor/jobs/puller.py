"""Lines of one model on one replica: claimed, run, settled."""

import asyncio
import functools
from collections.abc import Sequence

import msgspec

from predictor.core.errors import (
    DeadlineExceeded,
    HeadwayError,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnknownModel,
)
from predictor.core.jobs import LineRunner
from predictor.jobs.connection import Retries
from predictor.jobs.leases import Ending, Lease, Leases, Settlement
from predictor.jobs.pace import Pace


class Puller:
    """Two loops, `pull` and `settle`, and a task for each line that runs between them.

    While one call to the store is under way, what ends meanwhile gathers for the next, so
    the busier it is, the fewer calls a line costs.
    """

    def __init__(self, model: str, leases: Leases, runner: LineRunner, pace: Pace) -> None:
        self.model = model
        self._leases = leases
        self._runner = runner
        self._pace = pace
        self._lines_wait = True  # as far as we know
        self._draining = False
        self._running: dict[asyncio.Task[Settlement], Lease] = {}
        self._ended: list[Settlement] = []
        self._settling: Sequence[Settlement] = ()
        self._look = asyncio.Event()  # something changed that `pull` goes by
        self._line_ended = asyncio.Event()
        self._free = asyncio.Event()  # nothing is held
        self._free.set()
        self._not_pulling = asyncio.Event()
        self._not_pulling.set()
        self._timers: dict[bool, asyncio.TimerHandle] = {}

    @property
    def held(self) -> int:
        return len(self._running) + len(self._ended) + len(self._settling)

    def wake(self, *, lines_wait: bool = True) -> None:
        """Lines wait, or the model may be ready."""
        self._lines_wait |= lines_wait
        self._look.set()

    async def pull(self) -> None:
        """Claim and start lines, until drained."""
        self._not_pulling.clear()
        retries = Retries()
        try:
            while not self._draining:
                self._look.clear()
                try:
                    await self._claim()
                except Unavailable:
                    await retries.wait()
                    continue
                retries.succeeded()
                await self._look.wait()
        finally:
            self._not_pulling.set()

    async def _claim(self) -> None:
        """Claim what there is room for, and see to it that we look again when that changes."""
        now_s = _now_s()
        room = self._pace.to_claim(now_s, self.held)
        if now_s < self._pace.resumes_s:
            self._look_again_in(self._pace.resumes_s - now_s, lines_wait=False)
        if not (room and self._lines_wait and self._runner.ready(self.model)):
            return
        self._lines_wait = False  # what is announced from here on is news
        try:
            claim = await self._leases.claim(self.model, room)
        except Unavailable:
            self._lines_wait = True
            raise
        for lease in claim.leases:
            self._start(lease)
        if claim.leases:
            self.wake()
        elif claim.expiry_s is not None:  # whether its owner renews it is seen then
            self._look_again_in(claim.expiry_s, lines_wait=True)

    def _look_again_in(self, delay_s: float, *, lines_wait: bool) -> None:
        if lines_wait in self._timers:
            self._timers[lines_wait].cancel()
        wake = functools.partial(self.wake, lines_wait=lines_wait)
        self._timers[lines_wait] = asyncio.get_running_loop().call_later(delay_s, wake)

    def _start(self, lease: Lease) -> None:
        self._free.clear()
        if self._draining:
            self._end(Settlement(lease, Ending.RETURNED))
            return
        task = asyncio.create_task(self._outcome(lease))
        self._running[task] = lease
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Settlement]) -> None:
        lease = self._running.pop(task)
        self._end(Settlement(lease, Ending.RETURNED) if task.cancelled() else task.result())

    def _end(self, settlement: Settlement) -> None:
        self._ended.append(settlement)
        self._line_ended.set()

    async def _outcome(self, lease: Lease) -> Settlement:
        """How the line ended here. What speaks of now, not of the line, gives it back."""
        try:
            answer = await self._runner.run(self.model, lease.tier, lease.line)
        except InvalidRequest as error:
            return Settlement(lease, Ending.REFUSED, _json(error.message))
        except (Overloaded, DeadlineExceeded, UnknownModel) as error:
            retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
            self._pace.refused(_now_s(), retry_after_s)
            return Settlement(lease, Ending.RETURNED)
        except HeadwayError as error:
            return Settlement(lease, Ending.FAILED, _json(error.message))
        except Exception as error:
            return Settlement(lease, Ending.FAILED, _json(f"{type(error).__name__}: {error}"))
        return Settlement(lease, Ending.ANSWERED, answer)

    async def settle(self) -> None:
        """Tell the store what ended, for ever. While Redis is away, answers wait for it here."""
        retries = Retries()
        while True:
            await self._line_ended.wait()
            self._line_ended.clear()
            self._settling, self._ended = self._ended, []
            while True:
                try:
                    await self._leases.settle(self.model, self._settling)
                    break
                except Unavailable:
                    await retries.wait()
            retries.succeeded()
            ended = sum(each.ending is not Ending.RETURNED for each in self._settling)
            self._pace.ended(_now_s(), ended)
            self._settling = ()
            self._look.set()
            if not self.held:
                self._free.set()

    async def renew(self) -> None:
        """Hold all that we have for another term."""
        settlements = (*self._settling, *self._ended)
        held = [*self._running.values(), *(each.lease for each in settlements)]
        if held:
            await self._leases.renew(self.model, held)

    def stop_claiming(self) -> None:
        self._draining = True
        self._look.set()

    async def finished(self) -> None:
        """Wait until nothing is claimed any more and all that is held has been settled."""
        await self._not_pulling.wait()
        await self._free.wait()

    def give_back(self) -> None:
        """Have what still runs wait again, for other replicas."""
        for task in self._running:
            task.cancel()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _json(message: str) -> bytes:
    return msgspec.json.encode(message)
