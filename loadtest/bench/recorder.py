"""Counts each request of a run once, and its latencies."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from time import perf_counter, process_time

from loadtest.bench.plan import Plan, RunReport, spread_of
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
        self._mismatched = 0
        self._failed = 0
        self._rejected: Counter[int] = Counter()
        self._latencies_s: list[float] = []
        self._overheads_s: list[float] = []
        self._refusals_s: list[float] = []
        self._lags_s: list[float] = []
        self._waited = 0
        self._in_flight = 0
        self._settled = asyncio.Event()
        self.connections = 0

    def start(self) -> None:
        """The run begins now: what came before was preparation."""
        self._started_at = perf_counter()
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

    def answered(self, call: Call, checksum: int | None) -> None:
        """A good status came back. `checksum` is None where the answer held none."""
        self._settle_one()
        if not call.counted:
            return
        latency_s = self.now_s - call.intended_s
        request = call.request
        if request.checksum is not None and checksum != request.checksum:
            self._mismatched += 1
            return
        self._latencies_s.append(latency_s)
        service_s = self._plan.service_fixed_ms / 1e3
        service_s += self._plan.service_token_us / 1e6 * request.tokens
        self._overheads_s.append(latency_s - service_s)

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

    def report(self) -> RunReport:
        """The run as it stands; what is still in flight counts as unanswered."""
        answered = len(self._latencies_s)
        settled = answered + self._mismatched + self._failed + self._rejected.total()
        slo_s = self._plan.slo_ms / 1e3
        return RunReport(
            seconds=self._plan.seconds,
            scheduled=self._scheduled,
            answered=answered,
            mismatched=self._mismatched,
            rejected=dict(self._rejected),
            failed=self._failed,
            unanswered=self._scheduled - settled,
            within_slo=sum(latency_s <= slo_s for latency_s in self._latencies_s),
            latency=spread_of(self._latencies_s),
            overhead=spread_of(self._overheads_s),
            refusal=spread_of(self._refusals_s),
            lag=spread_of(self._lags_s),
            waited_for_connection=self._waited,
            connections=self.connections,
            mean_tokens=self._tokens / self._scheduled if self._scheduled else 0.0,
            generator_cpu_s=process_time() - self._cpu_s,
            generator_wall_s=self.now_s,
        )
