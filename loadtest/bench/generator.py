"""The load generator, a process of its own: a Plan as JSON on stdin, a RunReport on stdout.

    echo '{"port": 8080, "model": "sim", "load": {"type": "open", "rate_per_s": 100}}' \
        | python -m loadtest.bench.generator
"""

import asyncio
import gc
import subprocess
import sys

import msgspec
import uvloop

from loadtest.bench.errors import BenchError
from loadtest.bench.http_client import HttpClients, HttpPool
from loadtest.bench.lengths import poisson_arrivals_s
from loadtest.bench.plan import ClosedLoop, OpenLoop, Plan, Protocol, RunReport
from loadtest.bench.recorder import Recorder
from loadtest.bench.requests import prepare_requests

CLOSED_LOOP_REQUESTS = 512  # distinct ones, used again and again
STARTUP_ALLOWANCE_S = 30.0
# uvloop's timers tick in whole ms. Waiting for the exact instant would spin and take half a
# core from the server, so what is due within half a tick goes now.
EARLY_S = 0.0005
MAX_PLAN_BYTES = 1 << 16


def generate_load(plan: Plan) -> RunReport:
    """Run the plan in a process of its own and wait for its report.

    Raises:
        BenchError: the plan is impossible, the server cannot be reached, or the generator
            did not end in time.
    """
    limit_s = plan.warmup_s + plan.seconds + plan.drain_s + STARTUP_ALLOWANCE_S
    try:
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.bench.generator"],
            input=msgspec.json.encode(plan),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"the load generator did not end within {limit_s:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip()[-2000:])
    return msgspec.json.decode(done.stdout, type=RunReport)


async def run_plan(plan: Plan) -> RunReport:
    """Run the plan on this event loop.

    Raises:
        BenchError: the server takes no connection at the start. One that dies later shows
            in the report.
    """
    recorder = Recorder(plan)
    match plan.load, plan.protocol:
        case OpenLoop() as load, Protocol.HTTP:
            await _open_loop(plan, load, recorder)
        case ClosedLoop() as load, Protocol.HTTP:
            await _closed_loop(plan, load, recorder)
        case ClosedLoop() as load, Protocol.GRPC:
            # Imported here because an HTTP run has no need of its 0.2 s.
            from loadtest.bench.grpc_client import grpc_closed_loop

            requests = prepare_requests(plan, CLOSED_LOOP_REQUESTS)
            await grpc_closed_loop(plan, load, recorder, requests)
        case _:
            raise BenchError("an open loop speaks HTTP only; use a closed loop for gRPC")
    return recorder.report()


async def _open_loop(plan: Plan, load: OpenLoop, recorder: Recorder) -> None:
    until_s = plan.warmup_s + plan.seconds
    arrivals_s = poisson_arrivals_s(load.rate_per_s, until_s, plan.seed)
    requests = prepare_requests(plan, len(arrivals_s))
    pool = HttpPool(plan, recorder, load.max_connections)
    await pool.start()
    loop = asyncio.get_running_loop()
    all_sent = loop.create_future()
    sent = 0

    def send_due() -> None:
        nonlocal sent
        while sent < len(arrivals_s) and arrivals_s[sent] <= recorder.now_s + EARLY_S:
            pool.send(recorder.schedule(requests[sent], arrivals_s[sent]))
            sent += 1
        if sent < len(arrivals_s):
            loop.call_later(arrivals_s[sent] - recorder.now_s, send_due)
        else:
            all_sent.set_result(None)

    recorder.start()
    send_due()
    await all_sent
    await recorder.drain(plan.drain_s)
    pool.close()


async def _closed_loop(plan: Plan, load: ClosedLoop, recorder: Recorder) -> None:
    clients = HttpClients(plan, recorder, prepare_requests(plan, CLOSED_LOOP_REQUESTS))
    await clients.start(load.in_flight)
    recorder.start()
    clients.send_first()
    await clients.finish()
    clients.close()


def main() -> int:
    try:
        plan = msgspec.json.decode(sys.stdin.buffer.read(MAX_PLAN_BYTES), type=Plan)
        gc.disable()  # nothing here makes cycles per request, and a pause would be latency
        report = uvloop.run(run_plan(plan))
    except (BenchError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
