"""The rows of one queue that have begun and not ended, and what the device holds for them.

A row begins with a slot and those pages of its prompt that are cached, is *prefilled* in chunks,
and then *decodes*. Where there is no room for it in a step, or no page, it is *paused*: it keeps
what it has and gets no tokens, which costs nothing. Where others need its pages, it is *evicted*:
it waits without a slot, and computes again what it had. A row is evicted twice at most: when it
begins for the third time, it is given all the pages that it may ever need.

That is why the rows can never all be stuck for want of pages. Those that began three times want
none. If all others are paused, one is evicted for the sake of another, and each could end alone,
or it would not have been let in.
"""

from collections.abc import Iterator, Sequence
from math import sqrt

from predictor.core.generation import Finish
from predictor.core.rows import AT_ITS_END, Piece, Progress, Row
from predictor.policy.decoding import Decoding, last_position
from predictor.policy.kv_cache import KVCache
from predictor.policy.output_lengths import OutputLengths

MOST_EVICTIONS = 2
HIGH_QUANTILE = 0.95
MOST_TOKENS = 1 << 20
LEAST_TOKENS = 64  # of a prompt that a step computes, unless it is the rest
MOST_STEPS_WAITED = 2  # for others that compute the same: so many are under way at most


class Running:
    """Rows of one queue by what they are at, each in the order in which they came to it."""

    def __init__(self, cache: KVCache, lengths: OutputLengths) -> None:
        self.cache = cache
        self.lengths = lengths
        self._pages = cache.pages
        self.prefilling: dict[Row, bool] = {}  # whether it is fresh in its slot
        self.decoding = Decoding(cache.pages.page_tokens)
        self.paused: dict[Row, None] = {}
        self.ending: dict[Row, None] = {}  # there is nothing left to plan for them
        self.evicted: dict[Row, int] = {}  # how many steps had been planned then
        self.prefill_tokens = 0  # left to compute, of those that are at it
        self.evicted_tokens = 0
        self.pages_held = 0
        self.recomputed_tokens = 0  # ever
        self._expected: dict[Row, tuple[float, float]] = {}  # pages that a row comes to; variance
        self._pages_expected = 0.0
        self._pages_variance = 0.0

    @property
    def size(self) -> int:
        """Rows that hold a slot."""
        return len(self._expected)

    def __bool__(self) -> bool:
        return bool(self._expected or self.evicted)

    def __iter__(self) -> Iterator[Row]:
        yield from self._expected
        yield from self.evicted

    def __contains__(self, row: Row) -> bool:
        return row in self._expected or row in self.evicted

    @property
    def has_prompts(self) -> bool:
        return bool(self.prefilling or self.evicted)

    @property
    def has_work(self) -> bool:
        """Whether a step could have a piece of one of these rows."""
        return bool(self.decoding.rows or self.prefilling or self.paused or self.evicted)

    def pages_likely(self, deviations: float) -> float:
        """What these rows come to, that many deviations above the mean. Those of many rows mostly
        cancel out."""
        return self._pages_expected + deviations * sqrt(max(self._pages_variance, 0.0))

    def pages_of(self, rows: int, prompt_tokens: float) -> float:
        """What so many new rows come to, on average."""
        tokens = prompt_tokens + self.lengths.expected(0, MOST_TOKENS)
        return rows * (tokens / self._pages.page_tokens + 0.5)

    # A row begins, and its prompt is computed.

    def cached_pages(self, row: Row) -> int:
        """How many pages of a row that has not begun are there. Its last position is computed
        whatever is cached: it gives the first token."""
        return self._pages.found(_progress(row).page_hashes, self._most_cached(row))

    def shared_pages(self, row: Row) -> int:
        """How many of them other rows hold."""
        return self._pages.found_held(_progress(row).page_hashes, self._most_cached(row))

    def uncomputed_tokens(self, row: Row) -> int:
        """How much of a prompt is left to compute, as far as that can be told at a glance: it is
        asked of all that wait, in every step."""
        progress = _progress(row)
        if progress.planned:
            return progress.prefill - progress.planned
        hashes = progress.page_hashes
        if not hashes:
            return progress.prefill
        most = self._most_cached(row)
        progress.seen_pages = self._pages.still_found(hashes, most, progress.seen_pages)
        return progress.prefill - progress.seen_pages * self._pages.page_tokens

    def waits_for_others(self, row: Row, cached_pages: int) -> bool:
        """Whether a row that may begin had better wait for steps under way, because they compute
        what it would compute first: so do all but the first of n choices of one prompt.

        It waits for as many steps as may be under way, and no more: those that compute it may be in
        less of a hurry.
        """
        enough = self._pages.needed(LEAST_TOKENS)
        progress, coming = _progress(row), self.cache.coming
        wanted = progress.page_hashes[cached_pages : self._most_cached(row)][:enough]
        if len(wanted) < enough or any(name not in coming for name in wanted):
            return False
        if progress.waits_since < 0:
            progress.waits_since = self.cache.steps_planned
        return self.cache.steps_planned - progress.waits_since < MOST_STEPS_WAITED

    def _most_cached(self, row: Row) -> int:
        return (_progress(row).prefill - 1) // self._pages.page_tokens

    def is_back(self, row: Row) -> bool:
        """Whether nothing of an evicted row is under way any more. What it had generated by then
        is computed again like its prompt."""
        if self.evicted[row] > self.cache.steps_ended:
            return False
        progress = _progress(row)
        prefill = row.tokens + len(progress.output)
        self.evicted_tokens += prefill - progress.prefill
        progress.prefill = prefill
        return True

    def must_reserve(self, row: Row) -> bool:
        """Whether a row needs all the pages that it may come to at once."""
        return _progress(row).evictions >= MOST_EVICTIONS

    def begin(self, row: Row) -> None:
        """Give a row a slot, of which there is one, and the pages of its prompt that are cached."""
        progress = _progress(row)
        if row in self.evicted:
            del self.evicted[row]
            self.evicted_tokens -= progress.prefill
        count = self.cached_pages(row)
        progress.began_step = self.cache.steps_planned
        progress.slot = self.cache.take_slot()
        progress.pages = self._pages.share(progress.page_hashes[:count])
        progress.planned = count * self._pages.page_tokens
        if progress.evictions:
            self.recomputed_tokens += progress.prefill - progress.planned
        else:
            progress.cached_tokens = progress.planned
        self.prefilling[row] = True
        self.prefill_tokens += progress.prefill - progress.planned
        self.pages_held += count
        self._expect(row, 0)

    def needs_page(self, row: Row) -> bool:
        """Whether a paused row has no room for its next token."""
        progress = _progress(row)
        return progress.planned >= len(progress.pages) * self._pages.page_tokens

    def pages_wanted(self, row: Row, tokens: int) -> int:
        """How many more pages a row must have for the next chunk of its prompt."""
        progress = _progress(row)
        positions = progress.planned + tokens
        if self.must_reserve(row):
            positions = last_position(row)
        return max(self._pages.needed(positions) - len(progress.pages), 0)

    def chunk(self, row: Row, tokens: int) -> Piece | None:
        """The next `tokens` of a prompt; None where there are no pages for them."""
        progress = _progress(row)
        added = self._pages.take(self.pages_wanted(row, tokens))
        if added is None:
            return None
        start = progress.planned
        progress.pages += added
        self.pages_held += len(added)
        progress.planned += tokens
        self.prefill_tokens -= tokens
        coming = self.cache.coming
        for name in self._names_in(row, start, progress.planned):
            coming[name] = coming.get(name, 0) + 1
        fresh = self.prefilling[row]
        samples = progress.planned >= progress.prefill
        if samples:
            del self.prefilling[row]
            if progress.planned < last_position(row):
                self.decoding.join(row)
            else:
                self.ending[row] = None
        else:
            self.prefilling[row] = False
        pages = list(progress.pages) if fresh else added
        return Piece(row, progress.slot, start, tokens, pages, fresh, samples)

    def ran(self, piece: Piece) -> None:
        """A chunk of a prompt is under way no longer, whatever came of it."""
        coming = self.cache.coming
        for name in self._names_in(piece.row, piece.start, piece.start + piece.tokens):
            coming[name] -= 1
            if not coming[name]:
                del coming[name]

    def computed(self, piece: Piece) -> None:
        """A chunk of a prompt is on the device: other prompts may find its pages."""
        progress = _progress(piece.row)
        if piece.row not in self._expected or progress.began_step >= self.cache.steps_ended:
            return  # it has other pages by now
        names = self._names_in(piece.row, piece.start, piece.start + piece.tokens)
        first = piece.start // self._pages.page_tokens
        for page, name in zip(progress.pages[first:], names, strict=False):
            self._pages.name(page, name)

    def distrust(self, row: Row) -> None:
        """A row failed: what it has computed is found by no other."""
        self._pages.forget(_progress(row).pages)

    def _names_in(self, row: Row, start: int, end: int) -> Sequence[bytes]:
        """The names of the pages that positions `start` to `end` complete."""
        page_tokens = self._pages.page_tokens
        return _progress(row).page_hashes[start // page_tokens : end // page_tokens]

    def first_stuck(self) -> Row | None:
        """The first of the rows that have begun and do not decode."""
        return next(iter(self.paused or self.prefilling), None)

    def pages_to_go_on(self, row: Row) -> int:
        """Pages without which a row that is stuck cannot take part in a step."""
        progress = _progress(row)
        if row in self.prefilling:
            return self.pages_wanted(row, min(progress.prefill - progress.planned, LEAST_TOKENS))
        return int(self.needs_page(row))

    # It decodes.

    def finish_planning(self, row: Row) -> None:
        """A row that decodes has all its tokens under way."""
        self.decoding.leave(row)
        self.ending[row] = None

    def grow(self, row: Row) -> Piece | None:
        """The next piece of a row that decodes and whose pages are full; None without a page."""
        page = self._pages.take_one()
        if page is None:
            return None
        progress = row.progress
        assert progress is not None
        progress.pages.append(page)
        self.pages_held += 1
        planned = self.decoding.grew(row)
        if len(progress.pages) > self._expected[row][0]:  # it outgrew what was expected of it
            self._expect(row, planned - row.tokens + 1)
        return Piece(row, progress.slot, AT_ITS_END, 1, (page,), False, True)

    def pause(self, row: Row) -> None:
        self.decoding.leave(row)
        self.paused[row] = None

    def resume(self, row: Row) -> None:
        del self.paused[row]
        self.decoding.join(row)

    # It goes.

    def may_be_evicted(self, row: Row) -> bool:
        holds = row in self._expected and row not in self.ending
        return holds and not self.must_reserve(row)

    def planned(self, row: Row) -> int:
        return self.decoding.planned(row) if row in self.decoding else _progress(row).planned

    def evict(self, row: Row) -> None:
        """Take back all that a row holds. It begins again when what is under way is back."""
        progress = _progress(row)
        self._take_back(row)
        progress.evictions += 1
        progress.prefill = row.tokens + len(progress.output)
        self.evicted[row] = self.cache.steps_planned
        self.evicted_tokens += progress.prefill

    def end(self, row: Row) -> None:
        """A row has ended, failed or was cancelled: what it holds is free."""
        progress = _progress(row)
        if row in self.evicted:
            del self.evicted[row]
            self.evicted_tokens -= progress.prefill
        else:
            self._take_back(row)
        if progress.output:
            self.lengths.add(len(progress.output), cut=progress.finish is not Finish.STOP)

    def _take_back(self, row: Row) -> None:
        progress = _progress(row)
        if row in self.decoding:
            self.decoding.leave(row)
        elif row in self.prefilling:
            del self.prefilling[row]
            self.prefill_tokens -= progress.prefill - progress.planned
        else:
            self.paused.pop(row, None)
            self.ending.pop(row, None)
        self._forget(row)
        self.pages_held -= len(progress.pages)
        self._pages.release(progress.pages)
        progress.pages = []
        progress.planned = 0
        self.cache.give_slot(progress.slot)
        progress.slot = -1

    def _expect(self, row: Row, generated: int) -> None:
        if row in self._expected:
            self._forget(row)
        self._expected[row] = expected = self.expected_pages(row, generated)
        self._pages_expected += expected[0]
        self._pages_variance += expected[1]

    def expected_pages(self, row: Row, generated: int = 0) -> tuple[float, float]:
        """The pages that a row comes to, on average, and the variance of that."""
        most = _progress(row).sampling.max_tokens
        mean = self.lengths.expected(generated, most)
        high = self.lengths.quantile(HIGH_QUANTILE, generated, most)
        page_tokens = self._pages.page_tokens
        certain = float(self._pages.needed(last_position(row)))
        mean_pages = min((row.tokens + mean) / page_tokens + 0.5, certain)
        high_pages = min((row.tokens + high) / page_tokens + 0.5, certain)
        return mean_pages, (high_pages - mean_pages) ** 2

    def _forget(self, row: Row) -> None:
        mean, variance = self._expected.pop(row)
        self._pages_expected -= mean
        self._pages_variance -= variance
        if not self._expected:  # what rounding left
            self._pages_expected = self._pages_variance = 0.0


def _progress(row: Row) -> Progress:
    assert row.progress is not None
    return row.progress
