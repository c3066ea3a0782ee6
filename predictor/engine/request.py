"""A submission on its way through the engine: n rows that settle into one future, once."""

from collections.abc import Callable, Sequence

from predictor.core.errors import HeadwayError
from predictor.core.generation import Generated, Sampled
from predictor.core.rows import Progress, Row
from predictor.engine.port import Reply, RowInput
from predictor.engine.ticket import Promise

Part = Callable[[Generated], bool]


class Request:
    """Joins the results of its rows, in order. The future ends at most once."""

    __slots__ = (
        "_generated",
        "_missing",
        "_part",
        "_results",
        "arrival_s",
        "batch_size",
        "future",
        "model",
        "rows",
        "size",
        "tier",
    )

    def __init__(self, model: str, tier: str, future: Promise, part: Part | None = None) -> None:
        """`part` is given what rows generate as it comes; None: all of it comes with the end."""
        self.model = model
        self.tier = tier
        self.future = future
        self._part = part
        self.rows: Sequence[Row] = ()
        self.size = 0
        self.batch_size = 0  # of the step that gave the last token
        self._results: list[bytes] = []
        self._generated: list[list[Sampled]] = []
        self._missing = 0

    def expect(
        self, inputs: Sequence[RowInput], arrival_s: float, deadline_s: float, expires_s: float
    ) -> None:
        """Make the rows. `expires_s` is the client's own deadline."""
        self.arrival_s = arrival_s
        self.rows = [
            Row(
                self.model,
                self.tier,
                each.tokens,
                arrival_s,
                deadline_s,
                each.payload,
                self,
                i,
                expires_s=expires_s,
                progress=None
                if each.sampling is None
                else Progress(each.sampling, each.tokens, each.page_hashes),
            )
            for i, each in enumerate(inputs)
        ]
        self.size = self._missing = len(self.rows)
        self._results = [b""] * self._missing

    @property
    def settled(self) -> bool:
        return self.future.done()

    def row_done(self, row: Row, result: bytes) -> bool:
        """Take in one result. True when it was the last that was missing."""
        self._results[row.index] = result
        self._missing -= 1
        return self._missing == 0

    def generated(self, row: Row, token: Sampled) -> bool:
        """Take in a token, or hand it on. False where whoever reads the row wants no more."""
        progress = row.progress
        assert progress is not None
        if self._part is None:
            if not self._generated:
                self._generated = [[] for _ in range(self.size)]
            self._generated[row.index].append(token)
            return True
        if len(progress.output) == 1:
            cached = progress.cached_tokens
            return self._part(Generated(row.index, (token,), progress.finish, cached))
        return self._part(Generated(row.index, (token,), progress.finish))

    def row_ended(self) -> bool:
        """One row more generates nothing any more. True when it was the last."""
        self._missing -= 1
        return self._missing == 0

    def answer(self, queue_s: float, service_s: float, batch_size: int) -> None:
        generated = tuple(
            Generated(row.index, tokens, row.progress.finish, row.progress.cached_tokens)
            for row, tokens in zip(self.rows, self._generated, strict=False)
            if row.progress is not None
        )
        self.future.set_result(Reply(self._results, queue_s, service_s, batch_size, generated))

    def let_go(self) -> None:
        """Forget the rows, which know their request: a cycle would wait for the collector, and
        thousands of them a second would make its pauses long."""
        self.rows = ()

    def fail(self, error: HeadwayError) -> None:
        self.future.set_exception(error)
