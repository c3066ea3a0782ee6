"""A limit of device memory is learned where there is one, kept while it is one, and forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from predictor.policy.memory import (
    DOUBLES_EVERY_S,
    FIRST_HOLD_S,
    LONGEST_HOLD_S,
    UNLIMITED,
    MemoryLimit,
)
from predictor.policy.service_time import Work

LARGEST = 1 << 14  # tokens of a full batch


def several(tokens: int) -> Work:
    return Work(2, tokens, 0, tokens)


def alone(tokens: int) -> Work:
    return Work(1, tokens, 0, tokens)


class Server:
    """Full batches of rows of one token, one after the other, each of `batch_s`."""

    def __init__(self, batch_s: float = 0.05) -> None:
        self.limit = MemoryLimit()
        self.now_s = 0.0
        self.failures: list[float] = []
        self._batch_s = batch_s

    def run(self, room: int, seconds: float) -> list[int]:
        """Sizes of the batches tried while there is so much room."""
        tried = []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += self._batch_s
            self.limit.relax(self.now_s)
            size = max(1, min(LARGEST, self.limit.tokens))
            tried.append(size)
            if size <= room:
                self.limit.fitted(size)
            else:
                self._halve(size, room)
        return tried

    def _halve(self, size: int, room: int) -> None:
        self.failures.append(self.now_s)
        while size > room:
            self.limit.failed(Work(size, size, size, 1), size, self.now_s)
            if size == 1:
                return
            size //= 2


@given(st.integers(1, 1 << 20), st.floats(0, 1e6))
def test_a_row_that_does_not_fit_alone_teaches_nothing(tokens: int, now_s: float) -> None:
    limit = MemoryLimit()
    limit.failed(alone(tokens), tokens, now_s)
    assert limit.tokens == UNLIMITED


@given(st.lists(st.tuples(st.integers(2, LARGEST), st.floats(0, 10)), min_size=1))
def test_what_just_failed_is_not_tried_again_at_once(failures: list[tuple[int, float]]) -> None:
    limit, now_s = MemoryLimit(), 0.0
    for tokens, later_s in failures:
        now_s += later_s
        limit.relax(now_s)
        limit.failed(several(tokens), tokens, now_s)
        assert 1 <= limit.tokens < tokens
        limit.relax(now_s + 0.99 * FIRST_HOLD_S)
        assert limit.tokens < tokens


@given(st.lists(st.tuples(st.integers(2, LARGEST), st.floats(0, 10)), min_size=1))
def test_a_limit_that_is_none_is_gone_in_bounded_time(failures: list[tuple[int, float]]) -> None:
    limit, now_s = MemoryLimit(), 0.0
    for tokens, later_s in failures:
        now_s += later_s
        limit.failed(several(tokens), tokens, now_s)
    limit.relax(now_s + LONGEST_HOLD_S + 14 * DOUBLES_EVERY_S)
    assert limit.tokens >= LARGEST
    limit.relax(now_s + 1e9)
    assert limit.tokens == UNLIMITED


@given(st.integers(1, LARGEST - 1))
def test_a_shortage_that_passes_leaves_no_limit_behind(room: int) -> None:
    server = Server()
    server.run(room, 5)
    assert server.failures
    tried = server.run(LARGEST, 2 * LONGEST_HOLD_S)
    assert tried[-1] == LARGEST
    first_full_s = 0.05 * tried.index(LARGEST)
    assert first_full_s <= 5 * 2 + 15  # twice as long as it was short, and 14 doublings


@given(st.integers(1, LARGEST - 1))
def test_a_limit_that_is_one_costs_a_failure_a_minute(room: int) -> None:
    server = Server()
    server.run(room, 300)
    before = len(server.failures)
    server.run(room, 600)
    assert len(server.failures) - before <= 600 / LONGEST_HOLD_S


@given(st.integers(256, LARGEST - 1))
def test_beside_a_limit_batches_stay_large(room: int) -> None:
    tried = Server().run(room, 600)
    fitting = [size for size in tried if size <= room]
    assert sum(fitting) / len(tried) >= 0.45 * room
