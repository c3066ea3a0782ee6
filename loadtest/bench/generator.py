"""The load generator: processes of its own, each given a Plan on stdin, together one RunReport
a plan. Several plans can run side by side.

Each process builds its requests, connects, says so, and waits for a word from its parent
(`generate_loads`), so that all of them begin at one instant of the machine's monotonic clock.
"""

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, islice
from time import perf_counter
from typing import IO

import msgspec
import uvloop

from loadtest.bench.books import Books, report_of
from loadtest.bench.errors import BenchError
from loadtest.bench.http_client import HttpClients, HttpPool
from loadtest.bench.lengths import poisson_arrivals_s
from loadtest.bench.plan import MAX_PLANS, ClosedLoop, OpenLoop, Plan, Protocol, RunReport
from loadtest.bench.recorder import Recorder
from loadtest.bench.requests import prepare_requests

CLOSED_LOOP_REQUESTS = 512  # distinct ones, used again and again
STARTUP_ALLOWANCE_S = 30.0
# uvloop's timers tick in whole ms. Waiting for the exact instant would spin and take half a
# core from the server, so what is due within half a tick goes now, unless requests are rare:
# then the timer ends two ticks early, and the loop goes round until the instant is there.
EARLY_S = 0.0005
RARE_PER_S = 50.0  # of one process: it goes round for a tenth of the time at most
ROUND_S = 0.002
MAX_PLAN_BYTES = 1 << 16
READY = b"ready\n"
HEAD_START_S = 0.05  # for the word to reach all processes
SEED_STRIDE = 1009  # a prime: shares of one run meet none of another with a near seed

Begin = Callable[[], Awaitable[float]]  # waits for the start; perf_counter of the run's zero


def generate_load(plan: Plan) -> RunReport:
    """As `generate_loads`, with one plan."""
    (report,) = generate_loads([plan])
    return report


def generate_loads(plans: Sequence[Plan]) -> Sequence[RunReport]:
    """Run the plans side by side, in processes of their own, and wait for the reports of all.

    Raises:
        BenchError: a plan is impossible, a server cannot be reached, or the generator did
            not end in time.
    """
    if not 0 < len(plans) <= MAX_PLANS:
        raise BenchError(f"{len(plans)} plans are to run at once; make it 1 to {MAX_PLANS}")
    shares = [shares_of(plan) for plan in plans]
    lasts_s = max(plan.warmup_s + plan.seconds + plan.drain_s for plan in plans)
    limit_s = lasts_s + STARTUP_ALLOWANCE_S
    with _processes(list(chain.from_iterable(shares)), limit_s) as processes:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != READY:
                raise BenchError(_complaint(process, limit_s))
        start = b"%.9f\n" % (perf_counter() + HEAD_START_S)
        for process in processes:
            _tell(process, start)
        outputs = [_read(process.stdout) for process in processes]
        for process in processes:
            if process.wait() != 0:
                raise BenchError(_complaint(process, limit_s))
    books = iter([msgspec.msgpack.decode(output, type=Books) for output in outputs])
    return [
        report_of(plan, list(islice(books, len(of_one))))
        for plan, of_one in zip(plans, shares, strict=True)
    ]


def shares_of(plan: Plan) -> Sequence[Plan]:
    """What each process does: its part of the load, with a seed of its own."""
    match plan.load:
        case OpenLoop(rate_per_s=rate_per_s, max_connections=most):
            count = min(plan.processes, most)
            loads: Sequence[OpenLoop | ClosedLoop] = [
                OpenLoop(rate_per_s=rate_per_s / count, max_connections=share)
                for share in _split(most, count)
            ]
        case ClosedLoop(in_flight=in_flight):
            count = min(plan.processes, in_flight)
            loads = [ClosedLoop(in_flight=share) for share in _split(in_flight, count)]
    return [
        msgspec.structs.replace(plan, load=load, seed=plan.seed + SEED_STRIDE * index, processes=1)
        for index, load in enumerate(loads)
    ]


def _split(whole: int, parts: int) -> Sequence[int]:
    return [whole // parts + (index < whole % parts) for index in range(parts)]


@contextlib.contextmanager
def _processes(
    plans: Sequence[Plan], limit_s: float
) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """The processes, each told its plan; killed when the block or the time ends."""
    with contextlib.ExitStack() as stack:
        processes = []
        for plan in plans:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "loadtest.bench.generator"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            processes.append(process)
            _tell(process, msgspec.json.encode(plan) + b"\n")
        timer = threading.Timer(limit_s, _kill, [processes])
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        yield processes


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended: its code and stderr say why
        process.stdin.write(line)
        process.stdin.flush()


def _read(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    return pipe.read()


def _complaint(process: subprocess.Popen[bytes], limit_s: float) -> str:
    if process.wait() < 0:
        return f"the load generator did not end within {limit_s:.0f} s"
    return _read(process.stderr).decode(errors="replace").strip()[-2000:]


async def run_plan(plan: Plan) -> RunReport:
    """Run the plan on this event loop, at once. Raises BenchError as `run_share` does."""
    return report_of(plan, [await run_share(plan, _now)])


async def run_share(plan: Plan, begin: Begin) -> Books:
    """Run one process's plan on this event loop, from the instant that `begin` gives.

    Raises:
        BenchError: the server takes no connection at the start. One that dies later shows
            in the report.
    """
    recorder = Recorder(plan)

    async def start() -> None:
        recorder.start(await begin())

    match plan.load, plan.protocol:
        case OpenLoop() as load, Protocol.HTTP:
            await _open_loop(plan, load, recorder, start)
        case ClosedLoop() as load, Protocol.HTTP:
            await _closed_loop(plan, load, recorder, start)
        case ClosedLoop() as load, Protocol.GRPC:
            # Imported here because an HTTP run has no need of its 0.2 s.
            from loadtest.bench.grpc_client import grpc_closed_loop

            requests = prepare_requests(plan, CLOSED_LOOP_REQUESTS)
            await grpc_closed_loop(plan, load, recorder, requests, start)
        case _:
            raise BenchError("an open loop speaks HTTP only; use a closed loop for gRPC")
    return recorder.books()


async def _open_loop(
    plan: Plan, load: OpenLoop, recorder: Recorder, start: Callable[[], Awaitable[None]]
) -> None:
    until_s = plan.warmup_s + plan.seconds
    arrivals_s = poisson_arrivals_s(load.rate_per_s, until_s, plan.seed)
    requests = prepare_requests(plan, len(arrivals_s))
    pool = HttpPool(plan, recorder, load.max_connections)
    await pool.start()
    loop = asyncio.get_running_loop()
    all_sent = loop.create_future()
    early_s, round_s = (0.0, ROUND_S) if load.rate_per_s <= RARE_PER_S else (EARLY_S, 0.0)
    sent = 0

    def send_due() -> None:
        nonlocal sent
        while sent < len(arrivals_s) and arrivals_s[sent] <= recorder.now_s + early_s:
            pool.send(recorder.schedule(requests[sent], arrivals_s[sent]))
            sent += 1
        if sent == len(arrivals_s):
            all_sent.set_result(None)
            return
        remains_s = arrivals_s[sent] - recorder.now_s
        if remains_s <= round_s:
            loop.call_soon(send_due)  # answers are read meanwhile
        else:
            loop.call_later(remains_s - round_s, send_due)

    await start()
    send_due()
    await all_sent
    await recorder.drain(plan.drain_s)
    pool.close()


async def _closed_loop(
    plan: Plan, load: ClosedLoop, recorder: Recorder, start: Callable[[], Awaitable[None]]
) -> None:
    clients = HttpClients(plan, recorder, prepare_requests(plan, CLOSED_LOOP_REQUESTS))
    await clients.start(load.in_flight)
    await start()
    clients.send_first()
    await clients.finish()
    clients.close()


async def _now() -> float:
    return perf_counter()


async def _when_told() -> float:
    """Tell the parent that all is ready, and wait until the instant it names."""
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    at_s = float(await asyncio.to_thread(sys.stdin.buffer.readline, MAX_PLAN_BYTES))
    await asyncio.sleep(at_s - perf_counter() + EARLY_S)  # never before it
    return at_s


def main() -> int:
    try:
        plan = msgspec.json.decode(sys.stdin.buffer.readline(MAX_PLAN_BYTES), type=Plan)
        gc.disable()  # nothing here makes cycles per request, and a pause would be latency
        books = uvloop.run(run_share(plan, _when_told))
    except (BenchError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    # Where PYTHONUNBUFFERED is set, sys.stdout drops what a full pipe does not take at once.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(msgspec.msgpack.encode(books))
    return 0


if __name__ == "__main__":
    sys.exit(main())
