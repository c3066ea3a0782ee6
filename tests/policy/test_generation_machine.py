"""Whatever is done to rows that generate, in whatever order, their promises hold at every step.

As test_scheduler_machine, with a generating model beside an encoder, on a device that has too few
pages and slots, and that knows what is in each page.
"""

import math
from collections import Counter, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from predictor.core.errors import InvalidRequest
from predictor.core.generation import Sampling
from predictor.core.model import GenerationSpec
from predictor.core.parameters import parse_plain
from predictor.core.rows import NO_DEADLINE, Batch, Packing, Progress, Row
from predictor.policy.pages import chained_hashes
from predictor.policy.scheduler import SLOTS, Dispatch, Idle, Scheduler, WaitUntil
from predictor.policy.service_time import ServiceTimeModel
from tests.policy.paged_device import PagedDevice, output_token

ENCODER, GENERATOR = "encoder", "generator"
PAGED = (1e-3, 2e-5, 1e-5, 1e-7, 0.0, 5e-4)
STOP = 0
PAGE_TOKENS = 4
MOST_STEPS = 20_000


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    slo_ms = draw(st.sampled_from([None, 20, 100, 1000]))
    itl_ms = draw(st.sampled_from([None, 2, 5, 20])) if slo_ms else None
    return {
        "generation": 1,
        "models": {
            GENERATOR: {
                "max_batch_size": draw(st.integers(1, 8)),
                "max_batch_tokens": draw(st.integers(8, 200)),
            },
            ENCODER: {"max_batch_size": 4, "max_batch_tokens": 400},
        },
        "tiers": {
            "interactive": {
                "priority": 1,
                "slo_ms": slo_ms,
                "itl_slo_ms": itl_ms,
                "overload": draw(st.sampled_from(["shed", "relegate"])),
                "max_queue_size": 50,
            },
            "bulk": {
                "priority": 2,
                "max_queue_size": 50,
                "min_share": draw(st.sampled_from([0.0, 0.3])),
                "max_slice_ms": draw(st.sampled_from([None, 3])),
            },
        },
    }


class GenerationMachine(RuleBasedStateMachine):
    @initialize(
        document=documents(),
        pages=st.integers(6, 30),
        slots=st.integers(1, 6),
        prefix_cache=st.booleans(),
    )
    def start(self, document: dict[str, Any], pages: int, slots: int, prefix_cache: bool) -> None:
        self.now_s = 0.0
        self.here: list[Row] = []
        self.ended: list[Row] = []
        self.cancelled: set[int] = set()
        self.lengths: dict[int, int] = {}
        self.device: deque[Batch] = deque()
        self.started_s = 0.0
        self.wake_s = math.inf
        self.paged = PagedDevice(pages, PAGE_TOKENS)
        self.slots = slots
        self.scheduler = Scheduler(parse_plain(document), 1e-3)
        self.scheduler.add_model(
            ENCODER, [ServiceTimeModel(Packing.PACKED, (4e-3, 0.0, 2e-5, 0.0))]
        )
        self.scheduler.add_model(
            GENERATOR,
            [ServiceTimeModel(Packing.PAGED, PAGED)],
            GenerationSpec(page_tokens=PAGE_TOKENS, pages=pages, slots=slots, end_ids=(STOP,)),
            prefix_cache=prefix_cache,
        )

    @rule(
        tier=st.sampled_from(["interactive", "bulk"]),
        prompts=st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 40) | st.integers(70, 100)),
            min_size=1,
            max_size=3,
        ),
        max_tokens=st.integers(1, 40),
        length=st.integers(1, 40),
        timeout_s=st.sampled_from([None, None, 0.02]),
    )
    def generate(
        self,
        tier: str,
        prompts: list[tuple[int, int]],
        max_tokens: int,
        length: int,
        timeout_s: float | None,
    ) -> None:
        rows = [self.row(tier, *prompt, max_tokens, timeout_s) for prompt in prompts]
        admission = self.scheduler.submit(rows, self.now_s)
        needed = max(-(-(row.tokens + max_tokens - 1) // PAGE_TOKENS) for row in rows)
        assert isinstance(admission.refusal, InvalidRequest) == (needed > self.paged.pages)
        if admission.refusal is None:
            self.here += rows
            self.lengths |= {id(row): length for row in rows}
            self.step()

    def row(
        self, tier: str, kind: int, tokens: int, max_tokens: int, timeout_s: float | None
    ) -> Row:
        """Prompts of one kind begin alike; the last token is the row's own."""
        slo_s = self.scheduler.parameters.tiers[tier].slo_s
        expires_s = NO_DEADLINE if timeout_s is None else self.now_s + timeout_s
        number = len(self.lengths) + len(self.here) + len(self.ended)
        payload = bytes([kind + 201] * (tokens - 1) + [number % 200])
        sampling = Sampling(max_tokens=max_tokens, stop_ids=(STOP,))
        return Row(
            GENERATOR,
            tier,
            tokens,
            self.now_s,
            min(self.now_s + slo_s, expires_s),
            payload,
            index=number,
            expires_s=expires_s,
            progress=Progress(sampling, tokens, chained_hashes(payload, PAGE_TOKENS)),
        )

    @rule(tier=st.sampled_from(["interactive", "bulk"]), tokens=st.integers(1, 400))
    def encode(self, tier: str, tokens: int) -> None:
        slo_s = self.scheduler.parameters.tiers[tier].slo_s
        row = Row(ENCODER, tier, tokens, self.now_s, self.now_s + slo_s)
        if self.scheduler.submit([row], self.now_s).refusal is None:
            self.here.append(row)
            self.step()

    @rule(wait_s=st.floats(1e-5, 0.05))
    def time_passes(self, wait_s: float) -> None:
        self.now_s = min(self.now_s + wait_s, max(self.wake_s, self.now_s + 1e-9))
        self.step()

    @precondition(lambda self: self.device)
    @rule(factor=st.sampled_from([0.5, 1.0, 1.0, 3.0]), fails=st.integers(0, 30))
    def batch_ends(self, factor: float, fails: int) -> None:
        batch = self.device.popleft()
        ends_s = max(self.now_s, self.started_s + factor * batch.predicted_s)
        failed: list[Row] = []
        if batch.pieces:
            ended, failed = self.tokens_come(batch, ends_s, fails)
        else:
            ended = list(batch.rows)
        self.scheduler.completed(batch, ends_s, ended, failed)
        self.scheduler.learned(batch, self.started_s, ends_s)
        self.now_s = self.started_s = ends_s
        for row in ended:
            self.settle(row)
        self.step()

    def tokens_come(self, batch: Batch, now_s: float, fails: int) -> tuple[list[Row], list[Row]]:
        ended, failed = [], []
        for number, piece in enumerate(batch.pieces):
            row, progress = piece.row, piece.row.progress
            assert progress is not None
            if row not in self.here:
                continue  # it ended while this step was on its way
            if number + 1 == fails:
                failed.append(row)
                ended.append(row)
            elif piece.samples:
                count = len(progress.output)
                last = count + 1 >= self.lengths[id(row)]
                token = STOP if last else output_token(row, count)
                if progress.took(token, now_s) is not None:
                    ended.append(row)
        return ended, failed

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from([*self.here, *self.ended[-3:]]))
        runs_whole = any(row in batch.rows for batch in self.device if not batch.pieces)
        assert self.scheduler.cancel(row) == (row in self.here and not runs_whole)
        assert not self.scheduler.cancel(row)
        if row in self.here and not runs_whole:
            self.cancelled.add(id(row))
            self.settle(row)

    @rule(document=documents())
    def edit(self, document: dict[str, Any]) -> None:
        self.scheduler.apply(parse_plain(document))
        self.step()

    def step(self) -> None:
        for _ in range(SLOTS + 1):
            decision = self.scheduler.next_action(self.now_s)
            for row, _ in decision.given_up:
                assert row.progress is None or not row.progress.output, "it had its first token"
                self.settle(row)
            match decision.action:
                case Dispatch(batch):
                    self.dispatched(batch)
                case WaitUntil(time_s):
                    self.wake_s = time_s
                    return
                case Idle():
                    self.wake_s = math.inf
                    return
        raise AssertionError("the scheduler starts more than the device can hold")

    def dispatched(self, batch: Batch) -> None:
        knobs = self.scheduler.parameters.for_model(batch.model)
        assert 1 <= batch.size <= knobs.max_batch_size
        assert not self.cancelled.intersection(map(id, batch.rows))
        assert all(row in self.here for row in batch.rows)
        if batch.pieces:
            assert batch.tokens == sum(piece.tokens for piece in batch.pieces)
            assert batch.tokens <= knobs.max_batch_tokens
            assert [piece.row for piece in batch.pieces] == list(batch.rows)
            assert batch.size <= self.slots
            self.paged.run(batch.pieces)
        if not self.device:
            self.started_s = self.now_s
        self.device.append(batch)
        assert len(self.device) <= SLOTS

    def settle(self, row: Row) -> None:
        self.here.remove(row)  # raises if it is not here: it has ended before
        self.ended.append(row)

    @invariant()
    def the_books_agree(self) -> None:
        cache = self.scheduler._generating[GENERATOR].cache
        chunks = [piece for batch in self.device for piece in batch.pieces if piece.start >= 0]
        coming = Counter(
            name
            for piece in chunks
            if piece.row.progress is not None
            for name in piece.row.progress.page_hashes[
                piece.start // PAGE_TOKENS : (piece.start + piece.tokens) // PAGE_TOKENS
            ]
        )
        assert cache.coming == coming
        rows = [row for row in self.here if row.progress is not None]
        holding = {page for row in rows for page in row.progress.pages}  # type: ignore[union-attr]
        assert cache.pages.used == len(holding)
        slots = [row.progress.slot for row in rows if row.progress and row.progress.slot >= 0]
        assert len(set(slots)) == len(slots) == cache.rows
        assert all(row.progress.evictions <= 2 for row in rows if row.progress)
        (seen,) = self.scheduler.snapshot(self.now_s).generation
        assert seen.pages_used + seen.pages_cached + seen.pages_free == self.paged.pages
        for queue in self.scheduler._generating[GENERATOR].siblings.queues:
            running = queue.running
            left = [row.progress for row in running.prefilling if row.progress]
            assert running.prefill_tokens == sum(each.prefill - each.planned for each in left)
            context = sum(running.decoding.planned(row) + 1 for row in running.decoding.rows)
            assert running.decoding.context == context

    def teardown(self) -> None:
        """Nothing hangs, and all pages and slots come back."""
        if not hasattr(self, "scheduler"):
            return
        self.step()
        for _ in range(MOST_STEPS):
            if not self.here and not self.device:
                break
            if self.device:
                self.batch_ends(factor=1.0, fails=0)
            else:
                assert self.wake_s < math.inf, "rows are here, and nothing would ever go on"
                self.now_s = max(self.wake_s, math.nextafter(self.now_s, math.inf))
                self.step()
        assert not self.here
        assert len({id(row) for row in self.ended}) == len(self.ended)
        cache = self.scheduler._generating[GENERATOR].cache
        assert cache.pages.used == 0
        assert cache.free_slots == self.slots


GenerationMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)
TestGeneration = GenerationMachine.TestCase
