"""Virtual time: the real scheduler, a device that takes as long as it is told, no clock.

The loop knows four kinds of events: the next arrival, the end of the running batch, a client that
leaves, and the moment that the scheduler asked to be woken at. It jumps to the earliest, tells the
scheduler, and asks it what to do until it has no more to start.

A batch may be a step, of rows that generate: they return until they have as many tokens as their
arrival says, which the scheduler is not told.
"""

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from predictor.core.generation import Sampling
from predictor.core.rows import Batch, Outcome, Progress, Row
from predictor.policy.scheduler import Dispatch, Scheduler, WaitUntil

STOP = 0  # the token that ends a simulated text

ServiceTruth = Callable[[Batch], float]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of one row, or, `alongside`, one more row of the request before it."""

    time_s: float
    tokens: int
    model: str = "model"
    tier: str = "interactive"
    deadline_s: float | None = None  # None: the tier's SLO after the arrival
    alongside: bool = False
    output_tokens: int = 0  # that its row generates; 0: it runs once
    max_tokens: int = 0  # that it may generate; 0: as many as it does
    leaves_s: float = math.inf  # when its client goes away
    page_hashes: Sequence[bytes] = ()  # of its prompt


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one row ended. `started_s` is NaN for a row that never ran."""

    row: Row
    outcome: Outcome
    started_s: float
    settled_s: float

    @property
    def request(self) -> object:
        """Equal for the rows of one request, and no others, however many came at that instant."""
        return self.row.owner

    @property
    def latency_s(self) -> float:
        return self.settled_s - self.row.arrival_s

    @property
    def in_time(self) -> bool:
        """A relegated row is late by definition."""
        answered = self.outcome is Outcome.OK and not self.row.relegated
        progress = self.row.progress
        due_s = self.settled_s if progress is None else progress.first_token_s
        return answered and due_s <= self.row.deadline_s

    @property
    def itl_s(self) -> float:
        """The gap between tokens of a row that generates which is held against its deadline."""
        return 0.0 if self.row.progress is None else self.row.progress.gap_judged_s


@dataclass(frozen=True, slots=True)
class Execution:
    """One batch as it ran."""

    batch: Batch
    started_s: float
    finished_s: float


@dataclass(slots=True)
class Run:
    """Everything that happened."""

    settlements: list[Settlement] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    ended_s: float = 0.0
    # Device seconds that the scheduler foresaw for what arrived, by tier.
    offered_work_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def answered(self) -> list[Settlement]:
        return [each for each in self.settlements if each.outcome is Outcome.OK]

    @property
    def busy_s(self) -> float:
        return sum(run.finished_s - run.started_s for run in self.executions)

    def goodput(self, duration_s: float) -> float:
        """Answers within their deadline per second."""
        return sum(each.in_time for each in self.settlements) / duration_s

    def latency_quantile_s(self, quantile: float) -> float:
        """Over answered rows; NaN when there are none."""
        return quantile_of([each.latency_s for each in self.answered], quantile)

    def mean_latency_s(self) -> float:
        answered = self.answered
        if not answered:
            return math.nan
        return sum(each.latency_s for each in answered) / len(answered)


class Simulator:
    """One device, one scheduler, virtual time."""

    def __init__(
        self,
        scheduler: Scheduler,
        truth: ServiceTruth,
        learn: bool = True,
        follow: Callable[[Settlement], Iterable[Arrival]] = lambda _: (),
    ) -> None:
        """`truth`: how long a batch really takes, in seconds. `learn`: tell the scheduler.

        `follow`: what comes at once when a row is answered, of clients that wait for answers.
        """
        self.now_s = 0.0
        self.run = Run()  # a caller that goes on step by step may take it and put a new one
        self.scheduler = scheduler
        self._truth = truth
        self._learn = learn
        self._follow = follow
        self._device: deque[tuple[Batch, float, float]] = deque()  # batch, started, finishes
        self._held: deque[Batch] = deque()  # prepared behind the running one
        self._generating: dict[Row, _Output] = {}
        self._leaving: list[tuple[float, int, Row]] = []
        self._wake_s = math.inf
        self._requests = 0

    def simulate(self, arrivals: Iterable[Arrival], until_s: float = math.inf) -> Run:
        """Run until the last arrival is settled, or until a time: what is unsettled stays so."""
        pending = iter(arrivals)
        arrival = next(pending, None)
        while True:
            arrives_s = arrival.time_s if arrival is not None else math.inf
            finishes_s = self._device[0][2] if self._device else math.inf
            leaves_s = self._leaving[0][0] if self._leaving else math.inf
            self.now_s = min(arrives_s, finishes_s, leaves_s, self._wake_s)
            if self.now_s == math.inf or self.now_s > until_s:
                break
            if finishes_s <= self.now_s:
                self._finish()
            elif leaves_s <= self.now_s:
                self._leave(heapq.heappop(self._leaving)[2])
            elif arrival is not None and arrives_s <= self.now_s:
                self._arrive(arrival)
                while (arrival := next(pending, None)) is not None and arrival.alongside:
                    self._arrive(arrival)
            self._decide()
        self.run.ended_s = max(
            (each.settled_s for each in self.run.settlements), default=self.now_s
        )
        return self.run

    @property
    def is_idle(self) -> bool:
        return not self._device and not self.scheduler.waiting and not self._generating

    def offer(self, rows: Iterable[Row], now_s: float) -> None:
        """Rows of the caller's own come between two calls of `simulate`."""
        self.now_s = now_s
        for row in rows:
            self._submit(row)
        self._decide()

    def cancel(self, row: Row, now_s: float) -> bool:
        """Take a row back, if it still waits, or generates."""
        self.now_s = now_s
        taken = self.scheduler.cancel(row)
        if taken:
            self._settle(row, Outcome.CANCELLED, math.nan)
        return taken

    def _leave(self, row: Row) -> None:
        if row in self._generating:
            self.cancel(row, self.now_s)

    def _arrive(self, arrival: Arrival) -> None:
        slo_s = self.scheduler.parameters.tiers[arrival.tier].slo_s
        deadline_s = arrival.time_s + slo_s if arrival.deadline_s is None else arrival.deadline_s
        self._requests += not arrival.alongside
        row = Row(
            *(arrival.model, arrival.tier, arrival.tokens, arrival.time_s, deadline_s),
            owner=self._requests,
        )
        if arrival.output_tokens:
            most = arrival.max_tokens or arrival.output_tokens
            sampling = Sampling(max_tokens=most, stop_ids=(STOP,))
            row.progress = Progress(sampling, row.tokens, arrival.page_hashes)
            self._generating[row] = _Output(arrival.output_tokens)
            if arrival.leaves_s < math.inf:
                heapq.heappush(self._leaving, (arrival.leaves_s, id(row), row))
        self._submit(row)

    def _submit(self, row: Row) -> None:
        admission = self.scheduler.submit([row], self.now_s)
        self.run.offered_work_s[row.tier] += admission.work_s
        if admission.refusal is not None:
            self._settle(row, admission.refusal.outcome, math.nan)

    def _finish(self) -> None:
        batch, started_s, finished_s = self._device.popleft()
        ended = self._generate(batch, started_s) if batch.pieces else batch.rows
        self.scheduler.completed(batch, finished_s, ended)
        if self._learn:
            self.scheduler.learned(batch, started_s, finished_s)
        self.run.executions.append(Execution(batch, started_s, finished_s))
        for row in ended:
            output = self._generating.get(row)
            began_s = started_s if output is None else output.started_s
            for arrival in self._follow(self._settle(row, Outcome.OK, began_s)):
                self._arrive(arrival)
        if self._held:
            self._begin(self._held.popleft())

    def _generate(self, batch: Batch, started_s: float) -> list[Row]:
        """Give the rows of a step their tokens; those that end with them."""
        ended = []
        outputs = self._generating
        for piece in batch.pieces:
            output = outputs.get(piece.row)
            progress = piece.row.progress
            if output is None or progress is None or progress.finish is not None:
                continue  # it ended, or its client left, while this step was on its way
            if math.isnan(output.started_s):
                output.started_s = started_s
            if piece.samples:
                last = len(progress.output) + 1 >= output.length
                if progress.took(STOP if last else STOP + 1, self.now_s) is not None:
                    ended.append(piece.row)
        return ended

    def _begin(self, batch: Batch) -> None:
        self._device.append((batch, self.now_s, self.now_s + self._truth(batch)))

    def _decide(self) -> None:
        self._wake_s = math.inf
        while True:
            decision = self.scheduler.next_action(self.now_s)
            for row, outcome in decision.given_up:
                self._settle(row, outcome, math.nan)
            match decision.action:
                case Dispatch(batch):
                    if self._device:
                        self._held.append(batch)
                    else:
                        self._begin(batch)
                case WaitUntil(time_s):
                    # A deadline at this very instant is not past yet: move beyond it.
                    self._wake_s = (
                        time_s if time_s > self.now_s else math.nextafter(self.now_s, math.inf)
                    )
                    return
                case _:
                    return

    def _settle(self, row: Row, outcome: Outcome, started_s: float) -> Settlement:
        self._generating.pop(row, None)
        settled = Settlement(row, outcome, started_s, self.now_s)
        self.run.settlements.append(settled)
        return settled


class _Output:
    """How much a row generates, and when it began."""

    __slots__ = ("length", "started_s")

    def __init__(self, length: int) -> None:
        self.length = length
        self.started_s = math.nan


def quantile_of(values: Iterable[float], quantile: float) -> float:
    """NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]


def merged(*streams: Sequence[Arrival]) -> list[Arrival]:
    """Several arrival streams as one, in time order."""
    return list(heapq.merge(*streams, key=lambda arrival: arrival.time_s))
