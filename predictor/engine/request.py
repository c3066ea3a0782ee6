"""A submission on its way through the engine: n rows that settle into one future, once."""

from collections.abc import Callable, Sequence

from predictor.core.errors import HeadwayError
from predictor.core.generation import Generated, Sampled
from predictor.core.rows import Row
from predictor.engine.port import Reply, RowInput
from predictor.engine.ticket import Promise


class Request:
    """Joins the results of its rows, in order. The future ends at most once."""

    __slots__ = ("_missing", "_results", "arrival_s", "future", "model", "rows", "size", "tier")

    def __init__(self, model: str, tier: str, future: Promise) -> None:
        self.model = model
        self.tier = tier
        self.future = future
        self.rows: Sequence[Row] = ()
        self.size = 0
        self._results: list[bytes] = []
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

    def answer(self, queue_s: float, service_s: float, batch_size: int) -> None:
        self.future.set_result(Reply(self._results, queue_s, service_s, batch_size))

    def let_go(self) -> None:
        """Forget the rows, which know their request: a cycle would wait for the collector, and
        thousands of them a second would make its pauses long."""
        self.rows = ()

    def fail(self, error: HeadwayError) -> None:
        self.future.set_exception(error)
