"""Whatever is added, ended and due: each request is due once, in time, and nothing is kept."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from predictor.edge.deadlines import FARTHEST_S, GRAIN_S, NEVER, Deadlines


class Clock:
    """Timers that fire when the time comes to them."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[Armed] = []
        self.made = 0

    def call_later(self, delay_s: float, callback: Callable[[int], None], number: int) -> "Armed":
        self.made += 1
        timer = Armed(self, self.now_s + delay_s, callback, number)
        self.timers.append(timer)
        return timer

    def run_until(self, time_s: float) -> None:
        while self.timers:
            timer = min(self.timers, key=lambda each: each.due_s)
            if timer.due_s > time_s:
                break
            self.now_s = max(self.now_s, timer.due_s)
            self.timers.remove(timer)
            timer.callback(timer.number)
        self.now_s = max(self.now_s, time_s)


class Armed:
    def __init__(
        self, clock: Clock, due_s: float, callback: Callable[[int], None], number: int
    ) -> None:
        self.clock, self.due_s, self.callback, self.number = clock, due_s, callback, number

    def cancel(self) -> None:
        self.clock.timers.remove(self)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.due: dict[int, float] = {}
        self.deadlines = Deadlines(self._due, self.clock.call_later)

    def _due(self, ids: object) -> None:
        assert isinstance(ids, set)
        for request_id in ids:
            assert request_id not in self.due
            self.due[request_id] = self.clock.now_s


@given(st.lists(st.tuples(st.floats(-1, 100), st.floats(0, 2), st.booleans()), max_size=60))
def test_each_is_due_once_and_in_time(requests: list[tuple[float, float, bool]]) -> None:
    world = World()
    clock, deadlines = world.clock, world.deadlines
    expected: dict[int, float] = {}
    for request_id, (left_s, passes_s, ends) in enumerate(requests):
        due_s = clock.now_s + left_s
        slot = deadlines.add(request_id, due_s, clock.now_s)
        clock.run_until(clock.now_s + passes_s)
        if ends and request_id not in world.due:
            deadlines.ended(request_id, slot)
        else:
            expected[request_id] = due_s
    clock.run_until(clock.now_s + 200)
    assert world.due.keys() == expected.keys()
    for request_id, due_s in expected.items():
        assert world.due[request_id] >= due_s
    assert not len(deadlines)
    assert not clock.timers


def test_many_share_a_timer_and_leave_nothing() -> None:
    world = World()
    clock, deadlines = world.clock, world.deadlines
    slots = [
        deadlines.add(request_id, clock.now_s + 0.3 + request_id * 1e-7, clock.now_s)
        for request_id in range(10_000)
    ]
    assert clock.made <= 2
    for request_id, slot in enumerate(slots):
        deadlines.ended(request_id, slot)
    assert not clock.timers
    clock.run_until(clock.now_s + 1)
    assert not world.due


def test_late_by_a_grain_at_most() -> None:
    world = World()
    due_s = world.clock.now_s + 0.3
    world.deadlines.add(7, due_s, world.clock.now_s)
    world.clock.run_until(due_s + GRAIN_S + 1e-9)
    assert list(world.due) == [7]


def test_what_is_due_in_a_day_or_never_is_not_kept() -> None:
    world = World()
    for left_s in (FARTHEST_S + 1, 1e12, float("inf")):
        assert world.deadlines.add(1, world.clock.now_s + left_s, world.clock.now_s) == NEVER
    world.deadlines.ended(1, NEVER)
    assert not world.clock.timers


def test_cleared_nothing_is_due() -> None:
    world = World()
    world.deadlines.add(1, world.clock.now_s + 1, world.clock.now_s)
    world.deadlines.clear()
    world.clock.run_until(world.clock.now_s + 5)
    assert not world.due
