"""A fleet in virtual time: who serves when, who leaves how, and that nothing is lost on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from predictor.core.parameters import parse_plain
from predictor.core.rows import Packing
from predictor.simulation.fleet import Fleet, Minute, Pool, Timing, lines
from predictor.simulation.keda import ScaledObject, Trigger
from predictor.simulation.replica import Jobs, Leaving, Reading
from predictor.simulation.simulator import Arrival, Simulator
from tests.policy.worlds import MODEL, scheduler, truth

FIXED_S, TOKEN_S = 5e-3, 1e-3
LOAD = Trigger("load", "load", 1.0)
START_S = 60.0
EACH_S = 0.1  # one request every so often
LINES = 8000


@dataclass
class Told:
    """Monitoring that says what it was told to say, and keeps what it scraped."""

    load: Callable[[float], float | None]
    scraped: list[Sequence[Reading]] = field(default_factory=list)

    def scrape(self, now_s: float, readings: Sequence[Reading]) -> None:
        self.scraped.append(readings)

    def ask(self, trigger: Trigger, now_s: float) -> float | None:
        return self.load(now_s)


def device() -> Simulator:
    given = parse_plain(
        {
            "generation": 1,
            "models": {MODEL: {"max_batch_size": 8}},
            "tiers": {
                "interactive": {"priority": 1, "slo_ms": 100, "max_queue_size": 1000},
                "bulk": {"priority": 2, "slo_ms": None, "max_queue_size": 1000},
            },
        }
    )
    return Simulator(
        scheduler(given, Packing.PACKED, FIXED_S, TOKEN_S), truth(FIXED_S, TOKEN_S), learn=False
    )


def evenly(from_s: float, to_s: float) -> list[Arrival]:
    count = round((to_s - from_s) / EACH_S)
    return [Arrival(from_s + at * EACH_S, 10) for at in range(count)]


def nothing(from_s: float, to_s: float) -> list[Arrival]:
    return []


def fleet(
    load: Callable[[float], float | None],
    begins_with: int = 1,
    least_held: int = 0,
    jobs: Jobs | None = None,
    timing: Timing = Timing(),  # noqa: B008 - frozen
) -> Fleet:
    scaling = ScaledObject([LOAD], least=1, most=4)
    pool = Pool("pool", scaling, begins_with, least_held)
    return Fleet([pool], device, Told(load), timing, jobs)


def total(minutes: Sequence[Minute]) -> int:
    return sum(each.offered for each in minutes)


def test_a_new_replica_serves_when_it_has_started() -> None:
    made = fleet(lambda now_s: 2.0 if now_s >= 30.0 else 1.0)
    minutes = list(made.run(evenly, 180.0))
    assert [(each.time_s, each.before, each.after) for each in made.changes] == [(30.0, 1, 2)]
    assert [each.serving for each in minutes] == [1, 2, 2]
    ready = [replica.ready_s for replica in made.replicas]
    assert ready == [0.0, 30.0 + START_S]


def test_who_leaves_finishes_what_it_holds() -> None:
    made = fleet(lambda _: 1.0, begins_with=3)
    minutes = list(made.run(evenly, 900.0))
    assert made.changes[-1].after == 1
    assert len(made.replicas) == 1
    assert total(minutes) == pytest.approx(900.0 / EACH_S, abs=1)
    assert sum(each.in_time for each in minutes) == total(minutes)
    assert made.lost == 0


def test_the_newest_leaves_first() -> None:
    made = fleet(lambda now_s: 3.0 if now_s < 120.0 else 2.0)
    list(made.run(nothing, 600.0))
    assert [replica.name for replica in made.replicas] == ["pool-1", "pool-2"]


def test_without_a_replica_requests_are_refused() -> None:
    made = fleet(lambda _: 1.0, begins_with=0)
    minutes = list(made.run(evenly, 120.0))
    assert minutes[0].refused == minutes[0].offered == round(60.0 / EACH_S)
    assert minutes[1].answered > 0, "KEDA made the one that there must be"


def test_a_replica_exports_what_its_scheduler_knows() -> None:
    told = Told(lambda _: 1.0)
    made = Fleet([Pool("pool", ScaledObject([LOAD], least=1))], device, told)
    list(made.run(evenly, 60.0))
    (reading,) = told.scraped[-1]
    assert reading.offered_load["interactive"] > 0.0
    assert reading.offered_work_s["interactive"] > 1.0
    assert reading.offered_load["bulk"] == 0.0
    assert reading.depth == {"interactive": 0, "bulk": 0}


def test_the_same_seed_is_the_same_run() -> None:
    def run() -> list[Minute]:
        return list(fleet(lambda _: 2.0, begins_with=2).run(evenly, 120.0))

    assert run() == run()


@pytest.mark.parametrize("notice_s", [120.0, 15.0])
def test_with_notice_nothing_is_lost_and_lines_are_done_elsewhere(notice_s: float) -> None:
    jobs = Jobs(waiting=lines([10] * LINES, MODEL, "bulk"))
    timing = Timing(step_s=1.0)
    made = fleet(lambda _: 2.0, begins_with=2, least_held=16, jobs=jobs, timing=timing)
    list(made.run(evenly, 30.0))
    made.reclaim("pool", 1, Leaving(5.0, 5.0, finishes_s=0.0, killed_s=notice_s))
    minutes = list(made.run(evenly, 300.0))
    assert made.lost == 0
    assert sum(each.in_time for each in minutes) == total(minutes)
    assert jobs.returned > 0
    assert len(jobs.done) == len({id(row) for row in jobs.done}) == LINES


def test_without_notice_lines_come_back_when_their_leases_end() -> None:
    jobs = Jobs(waiting=lines([10] * LINES, MODEL, "bulk"))
    timing = Timing(step_s=1.0)
    made = fleet(lambda _: 2.0, begins_with=2, least_held=16, jobs=jobs, timing=timing)
    list(made.run(evenly, 30.0))
    made.reclaim("pool", 1, Leaving(killed_s=0.0))
    list(made.run(evenly, 31.0))
    held = len(jobs.lost_leases)
    assert held > 0
    list(made.run(evenly, 300.0))
    assert jobs.returned == held
    assert len(jobs.done) == len({id(row) for row in jobs.done}) == LINES
