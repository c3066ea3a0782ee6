"""A queue whose rows run more than once: those that wait, and those that have begun."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from predictor.core.errors import InvalidRequest
from predictor.core.parameters import Order, TierParameters
from predictor.core.rows import NO_DEADLINE, Row
from predictor.core.work import NOTHING, Work
from predictor.policy.admission import Pessimism
from predictor.policy.batching import BLEND, Batching
from predictor.policy.decoding import last_position
from predictor.policy.gap_tail import GapTail
from predictor.policy.kv_cache import KVCache
from predictor.policy.load import DecayingRate
from predictor.policy.output_lengths import OutputLengths
from predictor.policy.promptness import Prompt, late_prompts
from predictor.policy.running import Running
from predictor.policy.search import largest
from predictor.policy.tier_queue import TierQueue

STEP_SHARE_OF_SLO = 0.25  # a step may be this long where no tier says how soon a token is due
LEAST_PROMPT_SHARE = 0.05  # of a step: with less for prompts, no more rows are let in
LEAST_STEP_S = 1e-5  # what a step takes at least, whatever is believed of it
DISPLACED = 4.0  # a row that waits gives way to new ones if it is so many times as long
WINDOW_ROWS = 512
_RUNS_ANYWAY = NOTHING.with_decodes(2, 0)
LIKELY = 1.0  # deviations of the pages that rows come to


class Siblings:
    """The queues of one generating model, and what they share."""

    def __init__(self, batching: Batching, cache: KVCache) -> None:
        self.batching = batching
        self.cache = cache
        self.queues: list[GeneratingQueue] = []
        self.tail = GapTail()
        self._rate = 0.0
        self._rate_of = (-1, 0.0)  # the steps planned before it was worked out, and their limit

    @property
    def urgent(self) -> "list[GeneratingQueue]":
        return [queue for queue in self.queues if queue.urgent]

    @property
    def max_rows(self) -> int:
        return min(self.cache.slots, self.batching.parameters.max_batch_size)

    def limit_s(self) -> float:
        """The longest step, for the sake of urgent rows that wait for their next token."""
        limits = [queue.step_limit_s for queue in self.queues if queue.urgent and queue.is_in_use]
        return min(limits, default=NO_DEADLINE)

    def decodes(self) -> Work:
        """A step in which urgent rows decode, and nothing else."""
        work = NOTHING
        for queue in self.queues:
            if queue.urgent:
                decoding = queue.running.decoding
                work = work.with_decodes(len(decoding), decoding.context)
        return work

    def shared_pages(self, queues: "Iterable[GeneratingQueue]") -> int:
        """Pages that rows of these queues count twice, because two of them hold them; no more than
        there are, and maybe fewer where rows of other queues hold pages, too."""
        held = sum(queue.running.pages_held for queue in queues)
        return max(held - self.cache.pages.used, 0)

    def prompt_rate(self, limit_s: float) -> float:
        """Tokens of prompts that can be computed in a second beside the rows that decode, in steps
        as long as may be."""
        known = (self.cache.steps_planned, limit_s)
        if self._rate_of != known:
            self._rate_of = known
            self._rate = self._rate_in(limit_s)
        return self._rate

    def _rate_in(self, limit_s: float) -> float:
        batching = self.batching
        caution = 1.0 + batching.service.margin
        decodes = self.decodes()
        most = max(batching.max_tokens - decodes.tokens, 1)

        def step_s(tokens: int) -> float:
            return batching.service.predict_s(decodes.with_piece(tokens, 0)) * caution

        guess = min(int(self._rate * limit_s), most) if self._rate else most
        tokens = largest(lambda tokens: step_s(tokens) <= limit_s, most, guess=guess)
        # Where the step may not have more tokens, it ends sooner, and the next one begins.
        return tokens / min(limit_s, max(step_s(tokens), LEAST_STEP_S))


class GeneratingQueue(TierQueue):
    """Adds to a queue its rows that run, and estimates costs in steps."""

    __slots__ = (
        "displaced",
        "ends",
        "itl_slo_s",
        "lengths",
        "pessimism",
        "running",
        "siblings",
        "step_s",
    )

    steps = True

    def __init__(
        self, siblings: Siblings, tier: str, lengths: OutputLengths, *, late: bool = False
    ) -> None:
        self.siblings = siblings
        self.lengths = lengths
        self.running = Running(siblings.cache, lengths)
        self.pessimism = Pessimism()
        self.itl_slo_s = NO_DEADLINE
        self.ends = DecayingRate()  # rows a second
        self.step_s = 0.0  # recently, from the end of one step to that of the next
        self.displaced: list[Row] = []  # given up for rows that came later
        super().__init__(siblings.batching, tier, late=late)

    def apply(self, parameters: TierParameters | None) -> None:
        super().apply(parameters)
        promised = parameters is not None and self.urgent
        self.itl_slo_s = parameters.itl_slo_s if parameters and promised else NO_DEADLINE

    @property
    def has_work(self) -> bool:
        return bool(self.rows) or self.running.has_work

    @property
    def is_in_use(self) -> bool:
        return bool(self.rows or self.running)

    @property
    def step_limit_s(self) -> float:
        """The longest step beside rows of this urgent queue."""
        if self.itl_slo_s == NO_DEADLINE:
            return STEP_SHARE_OF_SLO * self.slo_s
        return self.itl_slo_s * (1.0 - self.siblings.tail.share)

    @property
    def room_s(self) -> float:
        """How long others may have the device between two steps."""
        if not self.urgent or not self.running.decoding.rows:
            return NO_DEADLINE
        limit_s = self.step_limit_s
        step_s = self.batching.service.predict_s(self.siblings.decodes())
        return max(limit_s - step_s, limit_s / 4)

    def prompts(self, size: int) -> Iterator[Row]:
        """Rows whose prompts are to be computed: those that began go first."""
        running = self.running
        if not self.rows and not running.has_prompts:
            return iter(())
        begun = chain(list(running.prefilling), list(running.evicted))
        if not self.urgent or self.rows.order is not Order.DEADLINE:
            return chain(begun, self.rows.window(size))
        return iter(sorted(chain(begun, self.rows.window(size)), key=lambda row: row.deadline_s))

    def unanswered(self) -> list[Prompt]:
        """Rows without their first token, in the order in which their prompts are computed."""
        running = self.running
        return [
            Prompt(row, running.uncomputed_tokens(row), row.deadline_s)
            for row in self.prompts(WINDOW_ROWS)
            if row not in running.evicted and not has_output(row)
        ]

    # Rows come.

    def _impossible(self, rows: Sequence[Row], work: Work) -> InvalidRequest | None:
        """A prompt may be longer than a step, but all of a row must fit on the device."""
        pages = self.siblings.cache.pages
        for row in rows:
            needed = pages.needed(last_position(row))
            if needed > pages.count:
                return InvalidRequest(
                    f"a row with {row.tokens} tokens and max_tokens"
                    f" {last_position(row) - row.tokens + 1} needs {needed} pages of"
                    f" {pages.page_tokens} tokens, and the device has {pages.count}; ask for less"
                )
        return None

    def put(self, rows: Iterable[Row], now_s: float) -> None:
        if not self.has_work:
            self.waiting_since_s = now_s
        for row in rows:
            self.rows.add(row)

    def admit(self, rows: Sequence[Row], free_s: float, now_s: float, stretch: float) -> bool:
        """As for other queues; late is a first token after its deadline, or a next one.

        Rows that wait already may have to give way: the longest of those that cannot all be in
        time (see promptness).
        """
        if self.urgent and not self.batching.is_constant and not self._has_room(rows):
            self.pessimism.refused()
            return False
        if self.urgent and rows[-1].deadline_s < NO_DEADLINE:
            late = self._late(rows, self._row_free_s(rows, free_s, now_s), now_s, stretch)
            longest = max(row.tokens for row in rows)
            if any(row in rows or row.tokens < DISPLACED * longest for row in late):
                self.pessimism.refused()
                return False
            self._displace(late)
        self.put(rows, now_s)
        return True

    def why_late(self, rows: Sequence[Row], now_s: float) -> str:
        longest = max(row.tokens for row in rows)
        step_s = self.batching.service.predict_s(NOTHING.with_decodes(1, longest))
        if step_s <= self.step_limit_s or self.itl_slo_s == NO_DEADLINE:
            return super().why_late(rows, now_s)
        return (
            f"a token takes about {1e3 * step_s:.1f} ms, and itl_slo_ms of tier {self.tier!r} is"
            f" {1e3 * self.itl_slo_s:g}; send to a tier that allows for more"
        )

    def _late(
        self, rows: Sequence[Row], free_s: float, now_s: float, stretch: float
    ) -> dict[Row, None]:
        step_s = min(self.siblings.limit_s(), self.step_limit_s)
        rate = self.siblings.prompt_rate(step_s) / stretch
        pessimism = self.pessimism.factor
        running = self.running
        new = [Prompt(row, running.uncomputed_tokens(row), row.deadline_s) for row in rows]
        ahead = sum(each.rows.tokens + each.running.prefill_tokens for each in self.siblings.urgent)
        total = ahead + sum(prompt.tokens for prompt in new)
        earliest_s = now_s + (min(row.deadline_s for row in rows) - now_s) / pessimism
        # Its steps take no longer than a full one does.
        last_step_s = min(step_s, min(total, self.batching.max_tokens) / rate)
        if free_s + total / rate + last_step_s <= earliest_s:
            return {}
        others = [prompt for each in self.siblings.urgent for prompt in each.unanswered()]
        everyone = sorted([*others, *new], key=lambda prompt: prompt.deadline_s)
        cautious = (
            prompt._replace(deadline_s=now_s + (prompt.deadline_s - now_s) / pessimism)
            for prompt in everyone
        )
        late = late_prompts(cautious, free_s, rate, last_step_s)
        return {prompt.row: None for prompt in late}

    def _displace(self, late: Iterable[Row]) -> None:
        """Rows that have not begun make room; those that have are left to the next plan."""
        for row in late:
            for queue in self.siblings.urgent:
                if row in queue.rows:
                    queue.rows.remove([row])
                    queue.displaced.append(row)
                    break

    def _row_free_s(self, rows: Sequence[Row], free_s: float, now_s: float) -> float:
        """When there is a place for the last of these rows, if all are taken by urgent ones."""
        urgent = self.siblings.urgent
        taken = sum(queue.running.size + len(queue.rows) for queue in urgent) + len(rows)
        over = taken - self.siblings.max_rows
        if over <= 0:
            return free_s
        ends = sum(queue.ends_per_s(now_s) for queue in urgent)
        return free_s + over / ends if ends else free_s

    def ends_per_s(self, now_s: float) -> float:
        """How many rows end in a second: as recently, or as many as can be expected of those that
        run, where they began only just now."""
        rows = len(self.running.decoding) + len(self.running.ending)
        if not rows or not self.step_s:
            return self.ends.per_s(now_s)
        expected_s = self.lengths.mean * self.step_s
        return max(self.ends.per_s(now_s), rows / expected_s)

    def _has_room(self, rows: Sequence[Row]) -> bool:
        """Whether rows that decode would still be in time beside these, and the pages suffice."""
        siblings = self.siblings
        urgent = siblings.urgent
        work = siblings.decodes()
        prompt_tokens = sum(row.tokens for row in rows)
        joining = len(rows)
        pages, variance = 0.0, 0.0
        for row in rows:
            expected = self.running.expected_pages(row)
            pages, variance = pages + expected[0], variance + expected[1]
        for queue in urgent:
            running = queue.running
            joining += len(queue.rows) + len(running.prefilling)
            prompt_tokens += queue.rows.tokens + running.prefill_tokens
            waiting = running.pages_of(len(queue.rows), queue.mean_tokens)
            pages += running.pages_likely(LIKELY) + waiting
        pages -= siblings.shared_pages(urgent) + sum(map(self.running.shared_pages, rows))
        if pages + LIKELY * variance**0.5 > siblings.cache.pages.count:
            return False
        joining = min(joining, max(siblings.max_rows - work.rows, 0))
        joined = work.with_decodes(joining, prompt_tokens if joining else 0)
        limit_s = min(siblings.limit_s(), self.step_limit_s)
        service = self.batching.service
        return service.predict_s(joined) <= limit_s * (1.0 - LEAST_PROMPT_SHARE)

    # What it costs.

    def oldest_s(self) -> float:
        return self.rows.head.arrival_s if self.rows else NO_DEADLINE

    def slack_s(self, start_s: float) -> float:
        """Until a first or a next token would be late if no step began."""
        slack_s = NO_DEADLINE
        if self.running.decoding.rows:
            slack_s = self.room_s
        waiting_s = self.rows.earliest_deadline_s
        waiting_s = min([waiting_s, *(row.deadline_s for row in self.running.prefilling)])
        if waiting_s < NO_DEADLINE:
            slack_s = min(slack_s, waiting_s - start_s - self.ahead_s())
        return slack_s

    def ahead_s(self) -> float:
        """Device seconds to compute the prompts of those that wait."""
        running = self.running
        tokens = self.rows.tokens + running.prefill_tokens + running.evicted_tokens
        if not tokens:
            return 0.0
        service = self.batching.service
        return service.predict_s(NOTHING.with_piece(tokens, 0))

    def drain_s(self) -> float:
        """Device seconds to serve what waits, all of what it generates included."""
        waiting = len(self.rows)
        if not waiting:
            return self.ahead_s()
        return self.ahead_s() + self._generating_s(waiting, self.rows.tokens)

    def full_batch_s(self) -> float:
        return self.step_s

    def stepped(self, step_s: float) -> None:
        self.step_s += (BLEND if self.step_s else 1.0) * (step_s - self.step_s)

    def _work_s(self, rows: Sequence[Row], work: Work) -> float:
        prompts_s = self._added_s(NOTHING.with_piece(work.tokens, 0))
        return prompts_s + self._generating_s(work.rows, work.tokens)

    def _generating_s(self, rows: int, prompt_tokens: int) -> float:
        """Device seconds for the outputs of so many rows."""
        tokens = self.lengths.mean
        context = int(prompt_tokens / rows + tokens / 2)
        return rows * tokens * self._added_s(NOTHING.with_decodes(1, context))

    def _added_s(self, work: Work) -> float:
        """What work adds to a step that runs anyway."""
        service = self.batching.service
        together_s = service.predict_s(_RUNS_ANYWAY.plus_work(work))
        return max(together_s - service.predict_s(_RUNS_ANYWAY), 0.0)


def has_output(row: Row) -> bool:
    """Whether a row has had its first token."""
    return row.progress is not None and bool(row.progress.output)
