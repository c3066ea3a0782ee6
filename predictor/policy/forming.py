"""A step while it is formed: pieces are added as long as rows, tokens, time and pages allow.

The order in which queues are asked is the stepper's; see there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from predictor.core.rows import DispatchReason, Piece, Row
from predictor.core.work import NOTHING, Work
from predictor.policy.decoding import last_position
from predictor.policy.generating_queue import WINDOW_ROWS, GeneratingQueue
from predictor.policy.kv_cache import KVCache
from predictor.policy.plan import Plan
from predictor.policy.running import LEAST_TOKENS
from predictor.policy.search import largest
from predictor.policy.service_time import ServiceTime

BEGIN_AT_ONCE = 32  # rows of a bulk queue that a step looks at


class StepTerms(msgspec.Struct, frozen=True):
    """The conditions under which a step may be formed."""

    start_s: float
    service: ServiceTime
    max_rows: int
    max_tokens: int
    limits_s: Mapping[GeneratingQueue, float]  # the longest step that rows of a queue may be in
    spare_pages: int  # bulk leaves them to urgent rows yet to come
    spare_rows: int


@dataclass(frozen=True, slots=True)
class StepPlan(Plan):
    """A step; without rows where nothing can go on."""

    pieces: Sequence[Piece] = ()
    work: Work = NOTHING
    parts: Mapping[GeneratingQueue, Work] = field(default_factory=dict)


class Forming:
    """`queues` of one model, from the most to the least urgent."""

    def __init__(self, cache: KVCache, queues: Sequence[GeneratingQueue], terms: StepTerms) -> None:
        self._cache = cache
        self._pages = cache.pages
        self._queues = queues
        self._terms = terms
        self._caution = 1.0 + terms.service.margin
        self._spare_pages = terms.spare_pages
        self._spare_rows = terms.spare_rows
        self._work = NOTHING
        self._parts: dict[GeneratingQueue, Work] = {}
        self._chunks: list[Piece] = []
        self._decodes: list[Piece] = []
        self._decode_rows: list[Row] = []
        self._taking_part: set[GeneratingQueue] = set()  # those whose rows decode
        self._full = False

    @property
    def is_empty(self) -> bool:
        return not self._work.rows

    def finish(self, shed: Sequence[Row]) -> StepPlan:
        rows = [piece.row for piece in self._chunks]
        rows += self._decode_rows
        reason = DispatchReason.FULL if self._full else DispatchReason.IDLE
        if len({queue.urgent for queue in self._parts}) > 1:
            reason = DispatchReason.TOP_UP
        predicted_s = self._terms.service.predict_s(self._work) if rows else 0.0
        return StepPlan(
            rows,
            reason,
            predicted_s,
            shed=shed,
            pieces=self._chunks + self._decodes,
            work=self._work,
            parts=self._parts,
        )

    # Rows that decode.

    def decode(self, queue: GeneratingQueue) -> None:
        """Have the rows of a queue that decode take part: all of an urgent one, and of a bulk one
        those that began first, as far as its limit goes."""
        running = queue.running
        if running.paused:
            self._resume(queue)
        decoding = running.decoding
        while decoding.rows and not self._fits(queue, len(decoding), decoding.context):
            running.pause(decoding.newest)
        grown = self._provide(queue)
        if not decoding.rows:
            return
        pieces = decoding.pieces.copy()
        for piece in grown:
            pieces[decoding.place(piece.row)] = piece
        self._decodes += pieces
        self._decode_rows += decoding.rows
        self._add(queue, NOTHING.with_decodes(len(decoding), decoding.context))
        self._taking_part.add(queue)
        decoding.advance()

    def _resume(self, queue: GeneratingQueue) -> None:
        """Paused rows go on, in the order in which they were paused, where there is room again."""
        running = queue.running
        decoding = running.decoding
        pages = self._pages.available - self._spare_of(queue)
        for row in list(running.paused):
            pages -= running.needs_page(row)
            context = decoding.context + running.planned(row) + 1
            if pages < 0 or not self._fits(queue, len(decoding) + 1, context):
                self._full = True
                return
            running.resume(row)

    def _fits(self, queue: GeneratingQueue, rows: int, context: int) -> bool:
        """Whether so many rows of a queue may decode; urgent ones may for as long as it takes."""
        terms = self._terms
        work = self._work.with_decodes(rows, context)
        if work.rows > terms.max_rows or work.tokens > terms.max_tokens:
            return False
        if queue.urgent or (rows == 1 and self.is_empty):
            return True
        return terms.service.predict_s(work) * self._caution <= self._limit_of(queue)

    def _provide(self, queue: GeneratingQueue) -> list[Piece]:
        """Give pages to rows whose last one is full; the pieces that bring them."""
        running = queue.running
        grown = []
        decoding, pages, spare = running.decoding, self._pages, self._spare_of(queue)
        for row in decoding.due():
            if decoding.is_done(row):
                running.finish_planning(row)
                continue
            has_page = pages.available > spare or self._make_room(queue, 1)
            if has_page and (piece := running.grow(row)) is not None:
                grown.append(piece)
            else:
                self._full = True
                running.pause(row)
        return grown

    # Prompts.

    def prefill(self, queues: Sequence[GeneratingQueue]) -> None:
        """Compute prompts of these queues, until something does not fit any more."""
        for queue, row in self._candidates(queues):
            if not self._compute(queue, row):
                self._full = True
                return

    def _candidates(
        self, queues: Sequence[GeneratingQueue]
    ) -> Iterable[tuple[GeneratingQueue, Row]]:
        found = [
            (queue, row)
            for queue in queues
            for row in queue.prompts(WINDOW_ROWS if queue.urgent else BEGIN_AT_ONCE)
        ]
        if len(queues) > 1 and queues[0].urgent:
            found.sort(key=lambda each: each[1].deadline_s)
        return found

    def _compute(self, queue: GeneratingQueue, row: Row) -> bool:
        """The next chunk of a prompt, as large as may be; whether more may follow."""
        running, terms = queue.running, self._terms
        assert row.progress is not None
        began = row in running.prefilling
        if began:
            start = row.progress.planned
        elif self._may_begin(queue, row):
            start = running.cached_pages(row) * self._pages.page_tokens
        else:
            return False
        remaining = row.progress.prefill - start
        tokens = self._largest_chunk(queue, start, remaining)
        if not tokens:
            return False
        if not began:
            if running.waits_for_others(row, start // self._pages.page_tokens):
                return True
            if row not in running.evicted:
                queue.rows.remove([row])
            running.begin(row)
        if not self._make_room(queue, running.pages_wanted(row, tokens)):
            tokens = self._tokens_for_pages(queue, row)
            if not tokens:
                return False
        piece = running.chunk(row, tokens)
        assert piece is not None
        self._chunks.append(piece)
        self._add(queue, NOTHING.with_piece(tokens, start))
        return tokens == remaining and self._work.rows < terms.max_rows

    def _tokens_for_pages(self, queue: GeneratingQueue, row: Row) -> int:
        """How much of a prompt fits into the pages that there are; 0 where it is not worth it."""
        progress = row.progress
        assert progress is not None
        if queue.running.must_reserve(row):
            return 0
        pages = len(progress.pages) + max(self._pages.available - self._spare_of(queue), 0)
        tokens = pages * self._pages.page_tokens - progress.planned
        return tokens if tokens >= LEAST_TOKENS else 0

    def _largest_chunk(self, queue: GeneratingQueue, start: int, remaining: int) -> int:
        terms, limit_s = self._terms, self._limit_of(queue)
        if self._work.rows >= terms.max_rows:
            return 0
        most = min(remaining, terms.max_tokens - self._work.tokens)
        least = min(LEAST_TOKENS, most)

        def fits(tokens: int) -> bool:
            work = self._work.with_piece(tokens, start)
            return terms.service.predict_s(work) * self._caution <= limit_s

        if most <= 0:
            return 0
        if fits(most):
            return most
        if not fits(least):
            return least if self.is_empty else 0
        return largest(fits, most, guess=least)

    def _may_begin(self, queue: GeneratingQueue, row: Row) -> bool:
        running, cache = queue.running, self._cache
        if row in running.evicted and not running.is_back(row):
            return False
        if running.must_reserve(row) and not self._make_room(
            queue, self._pages.needed(last_position(row))
        ):
            return False
        if queue.urgent:
            return bool(cache.free_slots) or self._evict(queue, lambda: cache.free_slots > 0)
        if not cache.rows:
            return True
        if cache.free_slots <= self._spare_rows:
            return False
        if cache.rows + self._spare_rows >= self._terms.max_rows:
            return False
        expected = sum(each.running.pages_likely(0.0) for each in self._queues)
        expected += running.expected_pages(row)[0] - running.shared_pages(row)
        expected -= queue.siblings.shared_pages(self._queues)
        return expected <= self._pages.count - self._spare_pages

    # Pages.

    def _make_room(self, queue: GeneratingQueue, count: int) -> bool:
        """Whether a queue gets so many pages: an urgent one at the cost of bulk rows."""
        available = self._pages.available - self._spare_of(queue)
        if not count or available >= count:
            return True
        return queue.urgent and self._evict(queue, partial(self._has_pages, count))

    def _evict(
        self, queue: GeneratingQueue, enough: Callable[[], bool], keep: Row | None = None
    ) -> bool:
        """Evict rows of less urgent queues, of the least urgent one those that lose least first,
        until it is enough; whether it is."""
        for other in reversed(self._queues):
            if other is queue and keep is None:
                return enough()
            running = other.running
            victims = [
                row
                for row in running
                if row is not keep
                and running.may_be_evicted(row)
                and not self._takes_part(other, row)
            ]
            for row in sorted(victims, key=running.planned):
                if enough():
                    return True
                running.evict(row)
            if other is queue:
                break
        return enough()

    def _takes_part(self, queue: GeneratingQueue, row: Row) -> bool:
        decodes = queue in self._taking_part and row in queue.running.decoding
        return decodes or any(piece.row is row for piece in self._chunks)

    def unblock(self) -> None:
        """All rows wait for pages, and none will come: one goes on at the cost of others."""
        self._spare_pages = self._spare_rows = 0
        for queue in self._queues:
            row = queue.running.first_stuck()
            if row is not None:
                wanted = queue.running.pages_to_go_on(row)
                self._evict(queue, partial(self._has_pages, wanted), keep=row)
            self.decode(queue)
            self.prefill([queue])
            if not self.is_empty:
                return

    def _has_pages(self, count: int) -> bool:
        return self._pages.available >= count

    # What all of this adds up to.

    def _add(self, queue: GeneratingQueue, work: Work) -> None:
        self._work = self._work.plus_work(work)
        part = self._parts.get(queue)
        self._parts[queue] = work if part is None else part.plus_work(work)

    def _limit_of(self, queue: GeneratingQueue) -> float:
        return self._terms.limits_s[queue]

    def _spare_of(self, queue: GeneratingQueue) -> int:
        return 0 if queue.urgent else self._spare_pages
