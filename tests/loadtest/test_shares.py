"""One plan on several processes: nothing is lost between them, and percentiles are exact."""

import asyncio
from array import array
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.books import Books, report_of, spread_of
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_load, shares_of
from loadtest.bench.plan import ClosedLoop, OpenLoop, Plan
from loadtest.bench.servers import free_ports
from tests.loadtest.fake_server import Behaviour, FakeServer, always

OPEN = OpenLoop(rate_per_s=300, max_connections=64)


def plan_of(port: int, load: OpenLoop | ClosedLoop, processes: int) -> Plan:
    return Plan(
        port=port, model="sim", load=load, seconds=0.4, warmup_s=0, drain_s=5, processes=processes
    )


def books_of(latencies_s: Sequence[float]) -> Books:
    samples = array("d", latencies_s).tobytes()
    return Books(
        scheduled=len(latencies_s) + 2,
        answered_rows=len(latencies_s),
        answered_tokens=10 * len(latencies_s),
        finished_tokens=10 * len(latencies_s),
        scheduled_tokens=10 * (len(latencies_s) + 2),
        mismatched=0,
        failed=0,
        rejected={429: 1},
        latencies_s=samples,
        overheads_s=samples,
        refusals_s=array("d", [0.001]).tobytes(),
        lags_s=samples,
        services_s=samples,
        waited_for_connection=1,
        connections=2,
        cpu_s=0.1,
        wall_s=1.0,
    )


@given(st.integers(1, 16), st.floats(1, 1000), st.integers(1, 100))
def test_an_open_loop_is_split_whole(processes: int, rate_per_s: float, most: int) -> None:
    load = OpenLoop(rate_per_s=rate_per_s, max_connections=most)
    shares = shares_of(plan_of(1, load, processes))
    loads = [share.load for share in shares]
    assert len(shares) == min(processes, most)
    assert len({share.seed for share in shares}) == len(shares)
    assert sum(each.rate_per_s for each in loads if isinstance(each, OpenLoop)) == pytest.approx(
        rate_per_s
    )
    assert sum(each.max_connections for each in loads if isinstance(each, OpenLoop)) == most


@given(st.integers(1, 16), st.integers(1, 100))
def test_a_closed_loop_is_split_whole(processes: int, in_flight: int) -> None:
    shares = shares_of(plan_of(1, ClosedLoop(in_flight=in_flight), processes))
    in_flights = [share.load.in_flight for share in shares if isinstance(share.load, ClosedLoop)]
    assert sum(in_flights) == in_flight
    assert max(in_flights) - min(in_flights) <= 1


@given(st.lists(st.lists(st.floats(0, 10), max_size=50), min_size=1, max_size=5))
def test_percentiles_are_those_of_all_samples(parts: list[list[float]]) -> None:
    together = [sample for part in parts for sample in part]
    report = report_of(plan_of(1, OPEN, len(parts)), list(map(books_of, parts)))
    assert report.latency == spread_of(together)
    assert report.answered == report.answered_rows == len(together)
    assert report.rejected == {429: len(parts)}
    assert report.unanswered == len(parts)
    assert report.scheduled == len(together) + 2 * len(parts)
    assert report.mean_tokens == 10
    assert report.within_slo == sum(sample <= 0.1 for sample in together)


@pytest.mark.parametrize("load", [OPEN, ClosedLoop(in_flight=5)])
async def test_two_processes_make_one_report(load: OpenLoop | ClosedLoop) -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await asyncio.to_thread(generate_load, plan_of(server.port, load, 2))
    assert report.answered == report.scheduled == server.requests > 0
    assert report.latency is not None
    assert report.latency.count == report.answered
    assert report.answered_tokens == pytest.approx(report.mean_tokens * report.answered)


async def test_more_samples_than_a_pipe_holds_come_through() -> None:
    load = OpenLoop(rate_per_s=8000)
    plan = msgspec.structs.replace(plan_of(1, load, 1), drain_s=0, seconds=1.0)
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await asyncio.to_thread(
            generate_load, msgspec.structs.replace(plan, port=server.port)
        )
    assert report.lag is not None
    assert report.scheduled > 7000


def test_a_process_that_cannot_connect_ends_them_all() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BenchError, match=f"cannot connect to 127.0.0.1:{port}"):
        generate_load(plan_of(port, OPEN, 2))
