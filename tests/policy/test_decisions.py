"""Single decisions, each with the reason that a person would give for it."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.core.errors import InvalidRequest, QueueFull, Shed
from predictor.core.parameters import Order, parse_plain
from predictor.core.rows import NO_DEADLINE, Batch, DispatchReason, Outcome, Packing, Row
from predictor.policy.adaptive import SPLIT_ROWS
from predictor.policy.queue import RowQueue
from predictor.policy.scheduler import Decision, Dispatch, Idle, Scheduler, WaitUntil
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Simulator
from tests.policy.worlds import MODEL, PACKINGS, parameters, scheduler, truth

FIXED_S = 5e-3
TOKEN_S = 1e-3


def a_scheduler(slo_ms: float | None = None, **batching: Any) -> Scheduler:
    """l = 5 ms + 1 ms a row of one token, packed, nothing running."""
    return scheduler(parameters(slo_ms, **batching), Packing.PACKED, FIXED_S, TOKEN_S)


def service() -> ServiceTimeModel:
    return ServiceTimeModel(Packing.PACKED, (FIXED_S, 0.0, TOKEN_S, 0.0))


def a_row(
    arrival_s: float = 0.0, deadline_s: float = NO_DEADLINE, tier: str = "interactive"
) -> Row:
    return Row(MODEL, tier, 1, arrival_s, deadline_s)


def put(made: Scheduler, *rows: Row) -> None:
    for row in rows:
        assert made.submit([row], row.arrival_s).refusal is None


def started(made: Scheduler, now_s: float) -> Batch:
    decision = made.next_action(now_s)
    assert isinstance(decision.action, Dispatch)
    return decision.action.batch


def test_nothing_to_do() -> None:
    assert a_scheduler().next_action(0.0) == Decision(Idle(), [])


def test_an_idle_device_starts_at_once_with_all_that_waits() -> None:
    made = a_scheduler(slo_ms=100)
    rows = [a_row(0.0, 0.1), a_row(0.0, 0.1)]
    put(made, *rows)
    batch = started(made, 0.0)
    assert list(batch.rows) == rows
    assert batch.reason is DispatchReason.IDLE
    assert batch.predicted_s == pytest.approx(7e-3)


def test_the_next_batch_is_formed_as_late_as_can_be() -> None:
    made = scheduler(parameters(None), Packing.PACKED, FIXED_S, TOKEN_S, lead_s=1e-3)
    put(made, a_row())
    running = started(made, 0.0)  # until 6 ms
    put(made, a_row(0.001))
    action = made.next_action(0.001).action
    assert isinstance(action, WaitUntil)
    assert action.time_s == pytest.approx(5e-3)
    put(made, a_row(0.004))
    assert started(made, 5e-3).size == 2
    put(made, a_row(0.0055))
    assert made.next_action(0.0055).action == WaitUntil(NO_DEADLINE)  # no more than one ahead
    made.completed(running, 6e-3)
    assert isinstance(made.next_action(6e-3).action, WaitUntil)


FULL_ROWS = 4


def behind_a_long_batch(waiting: int, packing: Packing = Packing.PACKED, **batching: Any) -> Any:
    """What is done at 1 ms while a batch runs to 6 ms and `waiting` rows wait for the next."""
    limits = {"max_batch_size": FULL_ROWS, **batching}
    made = scheduler(parameters(None, **limits), packing, FIXED_S, TOKEN_S, lead_s=1e-3)
    put(made, a_row())
    started(made, 0.0)
    put(made, *(a_row(1e-3) for _ in range(waiting)))
    return made.next_action(1e-3).action


def test_behind_a_long_batch_a_full_one_is_formed_at_once() -> None:
    """Rows that are yet to come can hardly change it."""
    for waiting in (FULL_ROWS, FULL_ROWS + 1):
        action = behind_a_long_batch(waiting)
        assert isinstance(action, Dispatch)
        assert action.batch.size == FULL_ROWS
    assert isinstance(behind_a_long_batch(3, max_batch_size=64, max_batch_tokens=3), Dispatch)


@pytest.mark.parametrize(
    ("waiting", "packing", "policy"),
    [
        (FULL_ROWS - 1, Packing.PACKED, "adaptive"),
        (FULL_ROWS + 1, Packing.PADDED, "adaptive"),  # better neighbours may come
        (FULL_ROWS + 1, Packing.PACKED, "constant"),
    ],
)
def test_behind_a_long_batch_all_others_wait_until_shortly_before_its_end(
    waiting: int, packing: Packing, policy: str
) -> None:
    action = behind_a_long_batch(waiting, packing, policy=policy, max_wait_ms=0)
    assert isinstance(action, WaitUntil)
    assert action.time_s == pytest.approx(6e-3 - 1e-3)


def test_a_full_batch_of_a_less_urgent_tier_leaves_room_for_the_urgent() -> None:
    made = scheduler(
        parameters(None, max_batch_size=FULL_ROWS), Packing.PACKED, FIXED_S, TOKEN_S, lead_s=1e-3
    )
    put(made, a_row())
    started(made, 0.0)
    put(made, *(a_row(1e-3, tier="bulk") for _ in range(FULL_ROWS + 1)))
    assert isinstance(made.next_action(1e-3).action, WaitUntil)
    urgent = a_row(2e-3)
    put(made, urgent)
    assert list(started(made, 5e-3).rows) == [urgent]


def test_a_driver_that_forms_batches_slowly_may_begin_sooner() -> None:
    made = scheduler(parameters(None), Packing.PACKED, FIXED_S, TOKEN_S, lead_s=1e-3)
    put(made, a_row())
    started(made, 0.0)
    put(made, a_row(1e-3))
    made.prepare_lead_s = 2.5e-3
    action = made.next_action(1e-3).action
    assert isinstance(action, WaitUntil)
    assert action.time_s == pytest.approx(3.5e-3)
    assert started(made, 3.5e-3).size == 1


def test_behind_a_short_batch_the_next_is_formed_at_once() -> None:
    made = scheduler(parameters(None), Packing.PACKED, 1e-3, 1e-3)
    put(made, a_row())
    started(made, 0.0)
    put(made, a_row())
    assert started(made, 0.0).size == 1


@pytest.mark.parametrize("policy", ["adaptive", "constant"])
def test_the_more_urgent_tier_goes_first(policy: str) -> None:
    made = a_scheduler(policy=policy, max_wait_ms=0)
    put(made, a_row(0.0, tier="bulk"), a_row(0.5), a_row(0.6, tier="bulk"))
    assert [row.tier for row in started(made, 1.0).rows] == ["interactive"]
    made = a_scheduler(policy=policy, max_wait_ms=0)
    put(made, a_row(0.0, tier="bulk"), a_row(0.6, tier="bulk"))
    assert [row.tier for row in started(made, 1.0).rows] == ["bulk", "bulk"]


def test_a_cancelled_row_never_runs() -> None:
    made = a_scheduler()
    stays, goes = a_row(), a_row()
    put(made, stays, goes)
    assert made.cancel(goes)
    assert not made.cancel(goes)
    assert list(started(made, 0.0).rows) == [stays]
    assert not made.cancel(stays)  # it runs


def test_a_full_queue_takes_all_of_a_request_or_nothing() -> None:
    made = Scheduler(
        parse_plain(
            {"generation": 1, "tiers": {"interactive": {"priority": 1, "max_queue_size": 3}}}
        )
    )
    made.add_model(MODEL, [service()])
    put(made, a_row(), a_row())
    refusal = made.submit([a_row(), a_row()], 0.0).refusal
    assert isinstance(refusal, QueueFull)
    assert refusal.retry_after_s == pytest.approx(7e-3)
    assert made.waiting == 2
    put(made, a_row())


def test_a_row_that_can_never_run_is_refused() -> None:
    made = a_scheduler(max_batch_tokens=10)
    refusal = made.submit([Row(MODEL, "interactive", 11, 0.0)], 0.0).refusal
    assert isinstance(refusal, InvalidRequest)
    assert "11 tokens" in refusal.message
    assert "max_batch_tokens" in refusal.message


def test_a_row_that_would_be_late_is_refused_at_the_door() -> None:
    made = a_scheduler(slo_ms=10)
    put(made, a_row(0.0, 0.01))
    started(made, 0.0)  # until 6 ms: nobody can be through by 10
    refusal = made.submit([a_row(0.0, 0.01)], 0.0).refusal
    assert isinstance(refusal, Shed)
    assert refusal.retry_after_s > 0
    assert made.submit([a_row(0.0)], 0.0).refusal is None  # no deadline, no refusal


def test_a_row_that_became_hopeless_is_shed_at_once_not_at_its_deadline() -> None:
    made = a_scheduler(slo_ms=20)
    put(made, a_row(0.0, 0.02))
    running = started(made, 0.0)
    late = a_row(0.001, 0.021)
    put(made, late)
    made.completed(running, 0.018)  # it took three times as long
    assert made.next_action(0.018) == Decision(Idle(), [(late, Outcome.SHED)])


def test_a_row_expires_when_its_deadline_passes_while_it_waits() -> None:
    made = a_scheduler(slo_ms=20)
    put(made, a_row(0.0, 0.02))
    started(made, 0.0)
    waits = a_row(0.001, 0.021)
    put(made, waits)
    assert made.next_action(0.0215).given_up == [(waits, Outcome.EXPIRED)]


def constant(**batching: Any) -> Scheduler:
    return a_scheduler(slo_ms=1000, policy="constant", max_wait_ms=10, max_batch_size=3, **batching)


def test_constant_waits_for_its_window() -> None:
    made = constant()
    put(made, a_row(0.0, 1.0))
    assert made.next_action(0.0).action == WaitUntil(0.01)
    put(made, a_row(0.009, 1.009))
    batch = started(made, 0.01)
    assert (batch.size, batch.reason) == (2, DispatchReason.WINDOW)


def test_constant_starts_a_full_batch_at_once() -> None:
    made = constant()
    put(made, *(a_row(0.0, 1.0) for _ in range(4)))
    batch = started(made, 0.0)
    assert (batch.size, batch.reason) == (3, DispatchReason.FULL)


def test_constant_is_full_when_the_tokens_are() -> None:
    made = constant(max_batch_tokens=2)
    put(made, *(a_row(0.0, 1.0) for _ in range(3)))
    batch = started(made, 0.0)
    assert (batch.size, batch.reason) == (2, DispatchReason.FULL)


def test_constant_window_is_that_of_the_oldest_row_whatever_the_order() -> None:
    made = constant(order="deadline")
    put(made, a_row(0.0, 1.0), a_row(0.008, 0.1))  # the second is the more urgent
    assert made.next_action(0.008).action == WaitUntil(0.01)
    assert started(made, 0.01).size == 2


def test_a_huge_backlog_is_split_in_bounded_pieces() -> None:
    made = scheduler(
        parameters(None, max_batch_size=4096, order="arrival"), Packing.PADDED, 5e-3, 1e-5
    )
    for i in range(3000):
        made.submit([Row(MODEL, "interactive", 8 + i * 7 % 500, 0.0)], 0.0)
    assert all(row.sequence <= SPLIT_ROWS for row in started(made, 0.0).rows)


def test_the_queue_keeps_its_rows_when_told_to_remove_a_stranger() -> None:
    queue = RowQueue()
    row, stranger = a_row(), a_row()
    queue.add(row)
    with pytest.raises(ValueError, match="not in list"):
        queue.remove([stranger, row])
    assert list(queue) == [row]
    assert queue.tokens == 1
    with pytest.raises(ValueError, match="not in list"):
        queue.remove([row, stranger])


class InOrder(Scheduler):
    """Checks that no row in a batch is less urgent than one that stays behind."""

    def next_action(self, now_s: float) -> Decision:
        decision = super().next_action(now_s)
        if isinstance(decision.action, Dispatch):
            left = self._models[MODEL].queues[0].rows
            self.check([row.deadline_s for row in decision.action.batch.rows], left)
        return decision

    @staticmethod
    def check(deadlines_s: Sequence[float], left: RowQueue) -> None:
        assert list(deadlines_s) == sorted(deadlines_s)
        assert max(deadlines_s) <= left.earliest_deadline_s


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5e-3), st.floats(6e-3, 0.1)), min_size=1, max_size=80),
    st.integers(1, 16),
)
def test_rows_alike_leave_in_order_of_their_deadlines(
    gaps_and_timeouts_s: list[tuple[float, float]], max_batch_size: int
) -> None:
    """Also when not all can be served: those shed are never the later ones."""
    made = InOrder(parameters(100, max_batch_size=max_batch_size))
    made.add_model(MODEL, [service()])
    arrivals = []
    now_s = 0.0
    for gap_s, timeout_s in gaps_and_timeouts_s:
        now_s += gap_s
        arrivals.append(Arrival(now_s, 1, deadline_s=now_s + timeout_s))
    ran = Simulator(made, truth(FIXED_S, TOKEN_S)).simulate(arrivals)
    assert len(ran.settlements) == len(arrivals)
    assert all(each.in_time for each in ran.answered)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 4e-3), st.integers(1, 40), st.floats(1e-3, 0.2)),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 16),
    st.sampled_from(PACKINGS),
    st.sampled_from(Order),
)
def test_no_row_runs_in_vain_where_predictions_are_exact(
    traffic: list[tuple[float, int, float]], max_batch_size: int, packing: Packing, order: Order
) -> None:
    given_parameters = parameters(100, max_batch_size=max_batch_size, order=order.value)
    made = scheduler(given_parameters, packing, FIXED_S, TOKEN_S)
    arrivals = []
    now_s = 0.0
    for gap_s, tokens, timeout_s in traffic:
        now_s += gap_s
        arrivals.append(Arrival(now_s, tokens, deadline_s=now_s + timeout_s))
    ran = Simulator(made, truth(FIXED_S, TOKEN_S), learn=False).simulate(arrivals)
    assert all(each.in_time for each in ran.answered)
