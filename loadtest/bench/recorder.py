"""Counts each request of a run once, and its latencies."""

import asyncio
import contextlib
from array import array
from collections import Counter
from dataclasses import dataclass
from time import perf_counter, process_time

from loadtest.bench.books import Books
from loadtest.bench.plan import Plan
from loadtest.bench.requests import PreparedRequest


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way. `intended_s` is when it should be sent, from the run's start."""

    request: PreparedRequest
    intended_s: float
    counted: bool


class Recorder:
    """The books of one run. Times are seconds from `start`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._started_at = perf_counter()
        self._cpu_s = process_time()
        self._scheduled = 0
        self._tokens = 0
        self._answered_rows = 0
        self._answered_tokens = 0
        self._finished_tokens = 0
        self._mismatched = 0
        self._failed = 0
        self._rejected: Counter[int] = Counter()
        self._latencies_s = array("d")
        self._overheads_s = array("d")
        self._refusals_s = array("d")
        self._lags_s = array("d")
        self._services_s = array("d")
        self._waited = 0
        self._in_flight = 0
        self._settled = asyncio.Event()
        self.connections = 0

    def start(self, at_s: float | None = None) -> None:
        """The run begins now, or at that `perf_counter`: what came before was preparation."""
        self._started_at = perf_counter() if at_s is None else at_s
        self._cpu_s = process_time()

    @property
    def now_s(self) -> float:
        return perf_counter() - self._started_at

    def schedule(self, request: PreparedRequest, intended_s: float) -> Call:
        call = Call(request, intended_s, intended_s >= self._plan.warmup_s)
        self._in_flight += 1
        if call.counted:
            self._scheduled += 1
            self._tokens += request.tokens
        return call

    def waits_for_connection(self, call: Call) -> None:
        if call.counted:
            self._waited += 1

    def sent(self, call: Call) -> None:
        """On its way. Where that is before the intended time, latency counts from here."""
        now_s = self.now_s
        call.intended_s = min(call.intended_s, now_s)
        if call.counted:
            self._lags_s.append(now_s - call.intended_s)

    def answered(self, call: Call, right: bool, service_s: float | None = None) -> None:
        """A good status came back, with the right answer or another.

        `service_s`: how long the batch took on the device, if the answer says so.
        """
        self._settle_one()
        now_s = self.now_s
        request = call.request
        if right and 0.0 <= now_s - self._plan.warmup_s < self._plan.seconds:
            self._finished_tokens += request.tokens
        if not call.counted:
            return
        latency_s = now_s - call.intended_s
        if not right:
            self._mismatched += 1
            return
        self._answered_rows += request.rows
        self._answered_tokens += request.tokens
        self._latencies_s.append(latency_s)
        alone_s = self._plan.service_fixed_ms / 1e3
        alone_s += self._plan.service_token_us / 1e6 * request.tokens
        self._overheads_s.append(latency_s - alone_s)
        if service_s is not None:
            self._services_s.append(service_s)

    def rejected(self, call: Call, status: int, refused: bool) -> None:
        """Another status came back; `refused`: it says try again later."""
        self._settle_one()
        if not call.counted:
            return
        self._rejected[status] += 1
        if refused:
            self._refusals_s.append(self.now_s - call.intended_s)

    def failed(self, call: Call) -> None:
        """No answer can come any more: the connection is gone, or spoke nonsense."""
        self._settle_one()
        if call.counted:
            self._failed += 1

    def _settle_one(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._settled.set()

    async def drain(self, limit_s: float) -> None:
        """Until every call is settled, `limit_s` at most. No more may be scheduled."""
        if not self._in_flight:
            return
        self._settled.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), limit_s)

    def books(self) -> Books:
        """The run as it stands; what is still in flight is in no count but `scheduled`."""
        return Books(
            scheduled=self._scheduled,
            answered_rows=self._answered_rows,
            answered_tokens=self._answered_tokens,
            finished_tokens=self._finished_tokens,
            scheduled_tokens=self._tokens,
            mismatched=self._mismatched,
            failed=self._failed,
            rejected=dict(self._rejected),
            latencies_s=self._latencies_s.tobytes(),
            overheads_s=self._overheads_s.tobytes(),
            refusals_s=self._refusals_s.tobytes(),
            lags_s=self._lags_s.tobytes(),
            services_s=self._services_s.tobytes(),
            waited_for_connection=self._waited,
            connections=self.connections,
            cpu_s=process_time() - self._cpu_s,
            wall_s=self.now_s,
        )
