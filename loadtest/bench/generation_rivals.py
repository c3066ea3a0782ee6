"""How other servers plan steps, without their servers: for comparison, in the same simulator.

*Prefill first* (nano-vllm): whole prompts as soon as they come, as many as fit into a step, and
nobody decodes meanwhile. *Static chunk* (vLLM, Sarathi-Serve): all rows decode in every step, and
prompts in order of their arrival fill it up to a fixed number of tokens. Neither refuses, and
neither knows deadlines. Memory is without limit here.
"""

from collections import deque
from collections.abc import Collection, Sequence

from predictor.core.parameters import Parameters
from predictor.core.rows import AT_ITS_END, Batch, DispatchReason, Packing, Piece, Row
from predictor.core.work import NOTHING, Work
from predictor.policy.scheduler import Admission, Decision, Dispatch, Idle, Scheduler

PREFILL_FIRST = 0  # in place of a chunk
MOST_WAITING = 4000  # so many will never be served in time


class Rival(Scheduler):
    """Stands where the scheduler does. One step at a time."""

    def __init__(
        self, parameters: Parameters, model: str, chunk: int, max_rows: int, max_tokens: int
    ) -> None:
        super().__init__(parameters)
        self._model = model
        self._chunk = chunk
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._prompts: deque[Row] = deque()
        self._decoding: dict[Row, Piece] = {}
        self._context = 0
        self._runs: Batch | None = None

    @property
    def waiting(self) -> int:
        return len(self._prompts)

    def submit(self, rows: Sequence[Row], now_s: float) -> Admission:
        if len(self._prompts) < MOST_WAITING:
            self._prompts.extend(rows)
        return Admission(Work.of(rows), 0.0)

    def next_action(self, now_s: float) -> Decision:
        if self._runs is not None or not (self._prompts or self._decoding):
            return Decision(Idle())
        budget = self._chunk - len(self._decoding)
        if self._chunk == PREFILL_FIRST:
            budget = self._max_tokens
        chunks, work = self._chunks(budget)
        pieces: list[Piece] = chunks
        if self._chunk != PREFILL_FIRST or not chunks:
            pieces = [*chunks, *self._decoding.values()]
            work = work.with_decodes(len(self._decoding), self._context + len(self._decoding))
            self._context += len(self._decoding)
        rows = [piece.row for piece in pieces]
        reason = DispatchReason.FULL
        self._runs = Batch(self._model, rows, Packing.PAGED, reason, 0.0, work.tokens, pieces, work)
        return Decision(Dispatch(self._runs))

    def _chunks(self, budget: int) -> tuple[list[Piece], Work]:
        chunks: list[Piece] = []
        work = NOTHING
        for row in self._prompts:
            if budget <= 0 or len(self._decoding) + len(chunks) >= self._max_rows:
                break
            assert row.progress is not None
            start = row.progress.planned
            tokens = min(budget, row.tokens - start)
            row.progress.planned += tokens
            chunks.append(Piece(row, 0, start, tokens, (), False, start + tokens == row.tokens))
            work = work.with_piece(tokens, start)
            budget -= tokens
        return chunks, work

    def completed(
        self,
        batch: Batch,
        finished_s: float,
        ended: Collection[Row] | None = None,
        failed: Collection[Row] = (),
    ) -> None:
        self._runs = None
        over = set(ended or ())
        for piece in batch.pieces:
            row = piece.row
            if piece.start == AT_ITS_END or not piece.samples:
                break
            self._prompts.popleft()
            self._decoding[row] = Piece(row, 0, AT_ITS_END, 1, (), False, True)
            self._context += row.tokens
        for row in over:
            assert row.progress is not None
            del self._decoding[row]
            self._context -= row.tokens + len(row.progress.output) - 1

    def learned(self, batch: Batch, started_s: float, finished_s: float) -> None:
        pass
