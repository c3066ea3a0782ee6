"""The generator against a real server in this process: every request is booked once."""

import asyncio
import itertools

import msgspec
import pytest

from loadtest.bench.answers import AnyAnswer
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_load, generate_loads, run_plan
from loadtest.bench.plan import (
    MAX_PLANS,
    ClosedLoop,
    OpenLoop,
    Plan,
    Protocol,
    RunReport,
    SimulatedWork,
    TextWork,
)
from loadtest.bench.requests import prepare_requests
from loadtest.bench.servers import free_ports
from tests.loadtest.fake_server import Behaviour, FakeServer, always

RIGHT = (Behaviour.RIGHT, Behaviour.RIGHT_THEN_CLOSE, Behaviour.IN_PIECES)
WRONG = (Behaviour.WRONG_CHECKSUM, Behaviour.NO_CHECKSUM)
LOST = (Behaviour.DROP, Behaviour.NONSENSE)


def open_plan(
    server: FakeServer, *, warmup_s: float = 0.0, drain_s: float = 5.0, max_connections: int = 512
) -> Plan:
    return Plan(
        port=server.port,
        model="sim",
        load=OpenLoop(rate_per_s=300, max_connections=max_connections),
        seconds=0.4,
        warmup_s=warmup_s,
        drain_s=drain_s,
    )


def closed_plan(server: FakeServer, in_flight: int) -> Plan:
    load = ClosedLoop(in_flight=in_flight)
    return Plan(port=server.port, model="sim", load=load, seconds=0.2, warmup_s=0, drain_s=5)


def assert_all_accounted(report: RunReport) -> None:
    rejected = sum(report.rejected.values())
    settled = report.answered + report.mismatched + rejected + report.failed
    assert settled + report.unanswered == report.scheduled > 0
    assert report.unanswered >= 0
    assert (report.latency.count if report.latency else 0) == report.answered


async def test_right_answers_are_verified_and_counted() -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await run_plan(open_plan(server))
    assert_all_accounted(report)
    assert report.answered == report.scheduled == server.requests
    assert 8 <= report.mean_tokens <= 512


async def test_each_ending_is_counted_as_what_it_is() -> None:
    endings = [behaviour for behaviour in Behaviour if behaviour is not Behaviour.HANG]
    async with FakeServer(lambda number: endings[number % len(endings)]).running() as server:
        report = await run_plan(open_plan(server))
    assert_all_accounted(report)
    assert report.scheduled == server.requests
    assert report.answered == sum(server.did[right] for right in RIGHT)
    assert report.mismatched == sum(server.did[wrong] for wrong in WRONG)
    assert report.failed == sum(server.did[lost] for lost in LOST)
    assert report.rejected == {
        429: server.did[Behaviour.REFUSE],
        500: server.did[Behaviour.BREAK],
    }
    assert report.refusal is not None
    assert report.refusal.count == server.did[Behaviour.REFUSE]


async def test_a_server_that_hangs_leaves_requests_unanswered() -> None:
    async with FakeServer(always(Behaviour.HANG)).running() as server:
        report = await run_plan(open_plan(server, drain_s=0.1))
    assert_all_accounted(report)
    assert report.unanswered == report.scheduled
    assert report.latency is None
    assert report.connections > 16  # it went on sending


async def test_requests_beyond_the_connection_limit_wait_and_are_counted() -> None:
    async with FakeServer(always(Behaviour.HANG)).running() as server:
        report = await run_plan(open_plan(server, drain_s=0.1, max_connections=2))
    assert_all_accounted(report)
    assert report.connections == server.requests == 2
    assert report.waited_for_connection == report.scheduled - 2


async def test_nobody_listening_is_said_at_once() -> None:
    (port,) = free_ports(1)
    plan = Plan(port=port, model="sim", load=OpenLoop(rate_per_s=10))
    with pytest.raises(BenchError, match=f"cannot connect to 127.0.0.1:{port}"):
        await run_plan(plan)


async def test_a_server_that_dies_under_load_shows_as_failures() -> None:
    async with FakeServer(always(Behaviour.RIGHT), last_request=20).running() as server:
        report = await run_plan(open_plan(server))
    assert_all_accounted(report)
    assert report.failed > 0
    assert report.unanswered == 0
    assert report.answered + report.failed == report.scheduled


async def test_warm_up_requests_are_sent_but_not_counted() -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await run_plan(open_plan(server, warmup_s=0.2))
    assert_all_accounted(report)
    assert server.requests > report.scheduled == report.answered


async def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await run_plan(closed_plan(server, in_flight=4))
    assert_all_accounted(report)
    assert report.answered == report.scheduled == server.requests
    assert report.connections == 4
    assert server.most_at_once <= 4


async def test_a_closed_loop_ends_when_all_its_connections_are_gone() -> None:
    async with FakeServer(always(Behaviour.DROP)).running() as server:
        report = await run_plan(closed_plan(server, in_flight=4))
    assert_all_accounted(report)
    assert report.failed == report.scheduled == 4


async def test_a_refused_closed_loop_goes_on() -> None:
    script = itertools.cycle([Behaviour.REFUSE, Behaviour.RIGHT])
    async with FakeServer(lambda _: next(script)).running() as server:
        report = await run_plan(closed_plan(server, in_flight=1))
    assert_all_accounted(report)
    assert report.rejected == {429: server.did[Behaviour.REFUSE]}
    assert report.answered == server.did[Behaviour.RIGHT]


async def test_the_process_takes_a_plan_and_gives_a_report() -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        report = await asyncio.to_thread(generate_load, open_plan(server))
    assert_all_accounted(report)
    assert report.answered == server.requests


async def test_the_process_says_what_is_wrong_without_a_stack_trace() -> None:
    (port,) = free_ports(1)
    plan = Plan(port=port, model="sim", load=ClosedLoop())
    with pytest.raises(BenchError, match="is the server running") as failure:
        await asyncio.to_thread(generate_load, plan)
    assert "Traceback" not in str(failure.value)


async def test_plans_run_side_by_side_and_each_has_its_report() -> None:
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        plans = [open_plan(server), closed_plan(server, in_flight=5)]
        plans[1] = msgspec.structs.replace(plans[1], processes=2)
        opened, closed = await asyncio.to_thread(generate_loads, plans)
    for report in (opened, closed):
        assert_all_accounted(report)
        assert report.answered == report.scheduled
    assert opened.answered + closed.answered == server.requests
    assert (opened.seconds, closed.seconds) == (0.4, 0.2)
    assert closed.connections == 5


def test_too_many_plans_at_once_are_refused() -> None:
    plan = Plan(port=1, model="sim", load=ClosedLoop())
    for plans in ([], [plan] * (MAX_PLANS + 1)):
        with pytest.raises(BenchError, match="plans are to run at once"):
            generate_loads(plans)


async def test_tokens_count_when_their_answer_comes() -> None:
    """Those in flight when the counting begins, and not those that are when it ends."""
    async with FakeServer(always(Behaviour.RIGHT)).running() as server:
        plan = msgspec.structs.replace(open_plan(server), warmup_s=0.1)
        report = await run_plan(plan)
        nothing = await run_plan(msgspec.structs.replace(plan, warmup_s=0.0, seconds=1e-9))
    assert 0 < report.finished_tokens <= report.answered_tokens * 1.5
    assert nothing.finished_tokens == 0


def test_rows_of_a_simulated_request_have_one_length_and_a_sum_each() -> None:
    plan = Plan(port=1, model="s", load=ClosedLoop(), work=SimulatedWork(rows=3), tier="bulk")
    for request in prepare_requests(plan, 20):
        head, _, body = request.wire.partition(b"\r\n\r\n")
        (tensor,) = msgspec.json.decode(body)["inputs"]
        rows, length = tensor["shape"]
        assert (rows, rows * length) == (3, request.tokens) == (request.rows, len(tensor["data"]))
        sums = [
            sum(tensor["data"][first : first + length]) for first in range(0, 3 * length, length)
        ]
        assert request.check.http(b'"data":%s' % msgspec.json.encode(sums), 0)
        assert not request.check.http(b'"data":%s' % msgspec.json.encode(sums[:2]), 0)
        assert b"\r\nX-Headway-Tier: bulk\r\n" in head


def test_a_tier_over_grpc_is_refused() -> None:
    plan = Plan(port=1, model="s", load=ClosedLoop(), protocol=Protocol.GRPC, tier="bulk")
    with pytest.raises(BenchError, match="over HTTP only"):
        prepare_requests(plan, 1)


async def test_an_open_loop_over_grpc_is_refused() -> None:
    plan = Plan(port=1, model="sim", load=OpenLoop(rate_per_s=1), protocol=Protocol.GRPC)
    with pytest.raises(BenchError, match="closed loop"):
        await run_plan(plan)


@pytest.mark.parametrize("protocol", Protocol)
def test_texts_can_be_sent_on_both_protocols(protocol: Protocol) -> None:
    plan = Plan(port=1, model="t", load=ClosedLoop(), protocol=protocol, work=TextWork())
    requests = prepare_requests(plan, 20)
    assert requests == prepare_requests(plan, 20)
    assert len({request.wire for request in requests}) == 20
    assert all(5 <= request.tokens <= 150 and request.check == AnyAnswer() for request in requests)
