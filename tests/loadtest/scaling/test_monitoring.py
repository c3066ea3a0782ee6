"""What triggers are told while replicas come and go."""

import pytest

from loadtest.scaling.monitoring import SimulatedMonitoring
from loadtest.scaling.promql import QueryError, answer
from predictor.simulation.keda import Trigger
from predictor.simulation.replica import Reading

EACH_THEN_SUM = "sum(avg_over_time(headway_offered_load_ratio[1m]))"
SUM_THEN_AVERAGE = "sum(avg_over_time(sum(headway_offered_load_ratio)[1m:5s]))"
RATE = "sum(rate(headway_offered_work_seconds_total[1m]))"


def reading(replica: str, load: float, work_s: float = 0.0, depth: int = 0) -> Reading:
    return Reading(
        pool="topics",
        replica=replica,
        depth={"interactive": depth},
        offered_load={"interactive": load},
        offered_work_s={"interactive": work_s},
        overloaded=False,
        lines_waiting=3,
    )


def one_leaves() -> SimulatedMonitoring:
    """A load of 0.6 on two replicas for two minutes, then on one for half a minute."""
    made = SimulatedMonitoring()
    for scrape in range(24):
        now_s = scrape * 5.0
        made.scrape(now_s, [reading(name, 0.3, 0.3 * now_s) for name in "ab"])
    for scrape in range(24, 31):
        now_s = scrape * 5.0
        made.scrape(now_s, [reading("a", 0.6, 0.3 * 115 + 0.6 * (now_s - 115))])
    return made


def asked(made: SimulatedMonitoring, query: str, now_s: float = 150.0) -> float | None:
    return made.ask(Trigger("load", query, 0.7), now_s)


def test_an_average_of_each_replica_counts_the_one_that_left_twice() -> None:
    """Its load is on the others already. That is how a pool that shrank asks to grow again."""
    made = one_leaves()
    assert asked(made, EACH_THEN_SUM) == pytest.approx(0.3 + 0.475)
    assert asked(made, SUM_THEN_AVERAGE) == pytest.approx(0.6)
    assert asked(made, RATE) == pytest.approx(0.6, rel=0.05)


def test_who_is_gone_is_gone_at_once_and_no_answer_is_none() -> None:
    made = one_leaves()
    assert asked(made, "count(headway_overloaded)") == 1.0
    made.scrape(155.0, [])
    assert asked(made, "count(headway_overloaded)", 155.0) is None
    assert asked(made, "count(headway_overloaded) or vector(0)", 155.0) == 0.0


def test_a_row_may_stand_for_several() -> None:
    made = SimulatedMonitoring(rows_in_one=4.0)
    made.scrape(0.0, [reading("a", 0.0, depth=5)])
    assert asked(made, "sum(headway_queue_depth)", 0.0) == 20.0
    assert asked(made, 'sum(headway_job_lines{state="waiting"})', 0.0) == 12.0
    assert made.ask(Trigger("jobs", "queue", 4.0, counts_redis=True), 0.0) == 1.0


def test_several_elements_are_an_error_as_they_are_to_keda() -> None:
    with pytest.raises(ValueError, match="2 elements"):
        asked(one_leaves(), "headway_offered_load_ratio or headway_overloaded")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sum(", "no PromQL"),
        ("topk(1, headway_overloaded)", "topk"),
        ("deriv(headway_overloaded[1m])", "deriv"),
        ("headway_overloaded and headway_queue_depth", "and"),
        ("headway_overloaded offset 5m", "offset"),
    ],
)
def test_what_is_not_simulated_is_said(query: str, named: str) -> None:
    with pytest.raises(QueryError, match=named):
        answer(query, [], 0.0)
